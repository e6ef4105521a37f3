from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.core.store import RunStore
from harness.core.suite_spec import SuiteSpec
from harness.errors import TrainingError
from harness.study.tuning import best, candidates, validation_score
from tests.study.conftest import Workplace


def samples(values: list[float | None], task: str = "toy_letters") -> pd.DataFrame:
    status = ["scored" if value is not None else "unparsed" for value in values]
    return pd.DataFrame({"task": task, "metric": "acc", "perturbation": "clean", "value": values, "status": status})


def test_an_item_without_a_score_counts_nothing_won(workplace: Workplace) -> None:
    assert validation_score(samples([1.0, None, None, None]), [SuiteSpec(name="toy_validation")]) == 0.25
    both = pd.concat([samples([1.0, 1.0]), samples([0.0, 1.0, 1.0, 0.0], "toy_digits"), samples([0.0] * 9).assign(metric="acc_norm")])
    assert validation_score(both, [SuiteSpec(name="toy_suite")]) == pytest.approx(0.75), "tasks weigh alike, other metrics nothing"


def store_of(tmp_path: Path, metas: list[dict[str, Any]]) -> RunStore:
    store = RunStore(tmp_path)
    for place, meta in enumerate(metas):
        store.write_stage(f"s{place}", lambda folder, meta=meta: {"items": 4, "spent": {"tune": 10.0}, "error": "", **meta})
    return store


def test_scores_are_means_over_seeds_and_the_first_of_equals_wins(tmp_path: Path) -> None:
    a, b, c = {"rate": 1}, {"rate": 2}, {"rate": 3}
    metas = [
        {"values": a, "score": 0.2}, {"values": a, "score": 0.6}, {"values": b, "score": 0.4}, {"values": b, "score": 0.4},
        {"values": c, "score": 0.9}, {"values": c, "score": None, "error": "diverged"},
    ]  # fmt: skip
    found = candidates(store_of(tmp_path, metas), [f"s{place}" for place in range(6)])
    assert [entry["score"] for entry in found] == [pytest.approx(0.4), pytest.approx(0.4), None]
    assert [entry["flops"] for entry in found] == [20.0] * 3
    assert found[2]["errors"] == ["diverged"]
    assert best(found, "sft") == a


def test_a_grid_without_one_trainable_candidate_says_why(tmp_path: Path) -> None:
    metas = [{"values": {"rate": 1}, "score": None, "error": "diverged"}, {"values": {"rate": 2}, "score": None, "error": "too small"}]
    found = candidates(store_of(tmp_path, metas), ["s0", "s1"])
    with pytest.raises(TrainingError, match=r"tuning of sft: no candidate of its grid could be trained \(diverged; too small\)"):
        best(found, "sft")
