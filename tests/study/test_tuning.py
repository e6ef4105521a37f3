from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from harness.core import plugins
from harness.core.spec import load_study
from harness.core.store import RunStore
from harness.core.suite_spec import SuiteSpec
from harness.errors import SpecError, TrainingError
from harness.models.student import Student
from harness.scoring.suites import Selection, Suite, Task
from harness.study.plan import method_grid
from harness.study.progress import ProgressWriter
from harness.study.run import Layout, make_plan
from harness.study.stage import StageTask
from harness.study.training import run_tune_stage
from harness.study.tuning import best, candidates, validation_score
from tests.study.conftest import Workplace


def samples(values: list[float | None], task: str = "toy_letters") -> pd.DataFrame:
    status = ["scored" if value is not None else "unparsed" for value in values]
    return pd.DataFrame({"task": task, "metric": "acc", "perturbation": "clean", "value": values, "status": status})


def test_an_item_without_a_score_counts_nothing_won(workplace: Workplace) -> None:
    assert validation_score(samples([1.0, None, None, None]), [SuiteSpec(name="toy_validation")]) == 0.25
    both = pd.concat([samples([1.0, 1.0]), samples([0.0, 1.0, 1.0, 0.0], "toy_digits"), samples([0.0] * 9).assign(metric="acc_norm")])
    assert validation_score(both, [SuiteSpec(name="toy_suite")]) == pytest.approx(0.75), "tasks weigh alike, other metrics nothing"


def test_broken_output_counts_at_the_worst_where_lower_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task("toy_letters", "acc", "generation", higher_is_better=False)
    monkeypatch.setattr("harness.study.tuning.select", lambda suites: [Selection(Suite("toy", "", (task,)), task, None)])
    assert validation_score(samples([0.5, 0.0, 0.5, 1.0]), []) == -0.5
    assert validation_score(samples([0.0, None, None, None]), []) == -0.75
    assert validation_score(samples([2.0, 8.0, 9.0]), []) == pytest.approx(-19 / 3)
    for unknown in ([None] * 4, [], [2.0, 8.0, None], [None, None, 1.5]):
        with pytest.raises(TrainingError, match="how bad acc can be is not known"):
            validation_score(samples(unknown), [])


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


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (SpecError("too small for one step", key="budget.train_flops", value=3e8), "tune.flops, its share: too small for one step"),
        (TrainingError("the loss became nan"), "the loss became nan"),
        (SpecError("expected a pool with answers", key="pool"), None),
        (math.inf, "toy_sft diverged: the last update left weights that are not finite"),
    ],
)
def test_a_candidate_that_cannot_be_trained_is_out_and_a_mistake_is_not(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception | float, told: str | None
) -> None:
    study = load_study(workplace.write(tune={"flops": 3e8, "grids": {"toy_sft": {"learning_rate": [1e-2]}}, "suites": ["toy_validation"]}))
    plan = make_plan(study, Layout.of(1))
    stage = next(stage for stage in plan.stages.values() if stage.kind == "tune")

    def train(self: object, student: Student, *rest: object, **more: object) -> Student:
        if isinstance(refusal, Exception):
            raise refusal
        with torch.no_grad():
            student.trainable[-1].fill_(refusal)
        return student

    monkeypatch.setattr(plugins.load("methods", "toy_sft"), "train", train)
    task = StageTask(tmp_path, study, stage, threads=1, planned_items=0)
    progress = ProgressWriter(tmp_path / "progress", stage=stage.id, label="", kind="tune", unit="FLOPs", total=1)
    for name in ("stage", "progress"):
        (tmp_path / name).mkdir()
    if told is None:
        with pytest.raises(SpecError, match="expected a pool with answers"):
            run_tune_stage(task, tmp_path / "stage", progress)
        return
    found = run_tune_stage(task, tmp_path / "stage", progress)
    assert found["score"] is None
    assert told in found["error"]


def test_arms_of_a_sweep_are_tuned_over_the_grid_of_the_method_they_were_made_from(workplace: Workplace) -> None:
    grids = {"toy_sft:mine": {"learning_rate": [1e-3]}, "toy_sft": {"learning_rate": [1e-2]}}
    methods = [{"name": "toy_sft"}, {"name": "toy_sft", "variant": "mine"}]
    study = load_study(workplace.write(methods=methods, tune={"flops": 3e8, "grids": grids, "suites": ["toy_validation"]}))
    plain, mine = study.methods
    for method, variant, rate in ((plain, "budget=4e8", 1e-2), (mine, "mine,budget=4e8", 1e-3)):
        arm = method.model_copy(update={"variant": variant, "levels": {"budget": "4e8"}})
        assert method_grid(study, arm) == method_grid(study, method) == {"learning_rate": [rate]}
