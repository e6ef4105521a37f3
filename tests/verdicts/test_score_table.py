"""The table of one checkpoint: denominators, intervals, flags."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.core.records import SAMPLE_COLUMNS
from harness.stats.intervals import wilson
from harness.verdicts.score_table import mean_estimate, score_table


def frame(values: list[float | None], *, clusters: list[str] | None = None, task: str = "t", perturbation: str = "clean") -> pd.DataFrame:
    rows = [
        {
            "suite": "s", "task": task, "perturbation": perturbation, "sample_id": f"i{at}",
            "cluster": clusters[at] if clusters else f"i{at}",
            "metric": "acc", "value": value, "status": "skipped" if value is None else "scored", "prompt": "", "target": "", "output": "",
            "generated_tokens": None,
        }
        for at, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS)).astype({"value": "Float64"})


def about(**changes: Any) -> dict[str, dict[str, Any]]:
    return {"t": {"metric": "acc", "chance": 0.25, "higher_is_better": True, "source": "S", "licence": "MIT"} | changes}


def test_a_share_has_wilsons_interval_and_both_denominators() -> None:
    (row,) = score_table(frame([1.0] * 30 + [0.0] * 20 + [None]), about())
    assert row.estimate is not None
    assert (row.n_scored, row.n_asked, row.unscored) == (50, 51, {"skipped": 1})
    assert row.estimate.value == 0.6
    # The variance is estimated (n − 1, Student's t), so a little wider than Wilson's of a known one.
    assert row.estimate.interval == pytest.approx(wilson(30, 50), abs=0.006)
    assert (row.source, row.licence) == ("S", "MIT")


@pytest.mark.parametrize(
    ("values", "chance", "flag"),
    [
        ([1.0] * 14 + [0.0] * 36, 0.25, "at chance"),
        ([1.0] * 30 + [0.0] * 20, 0.25, ""),
        ([0.0] * 50, 0.25, "at chance"),
        ([0.0] * 50, None, "floor"),
        ([1.0] * 50, 0.25, "ceiling"),
        ([1.0] + [0.0] * 49, None, ""),
    ],
)
def test_flags_say_what_cannot_be_told(values: list[float], chance: float | None, flag: str) -> None:
    assert score_table(frame(list(values)), about(chance=chance))[0].flag == flag


def test_what_is_better_lower_has_no_flag() -> None:
    assert score_table(frame([0.0] * 50), about(higher_is_better=False))[0].flag == ""


def test_clusters_widen_the_interval_and_one_cluster_has_none() -> None:
    values = [1.0] * 20 + [0.0] * 20
    alone = mean_estimate(values, [str(at) for at in range(40)])
    paired = mean_estimate(values, [str(at // 10) for at in range(40)])
    assert alone.interval is not None
    assert paired.interval is not None
    assert paired.interval[1] - paired.interval[0] > 1.5 * (alone.interval[1] - alone.interval[0])
    assert mean_estimate([1.0, 0.0], ["a", "a"]).interval is None


def test_scores_beyond_one_have_a_t_interval() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(50, 10, 30)
    found = mean_estimate(values, [str(at) for at in range(30)])
    half = 2.045229642 * values.std(ddof=1) / np.sqrt(30)
    assert found.interval == pytest.approx((values.mean() - half, values.mean() + half))


def test_clean_rows_stand_before_perturbed_ones_in_the_order_of_the_tasks() -> None:
    samples = pd.concat([frame([1.0, 0.0], task="b", perturbation="typos"), frame([1.0, 0.0], task="a"), frame([1.0, 0.0], task="b")])
    info = {name: about()["t"] for name in ("b", "a")}
    assert [(row.task, row.perturbation) for row in score_table(samples, info)] == [("b", "clean"), ("b", "typos"), ("a", "clean")]


def test_nothing_scored_is_a_row_without_a_number() -> None:
    (row,) = score_table(frame([None, None]), about())
    assert (row.estimate, row.n_scored, row.n_asked, row.flag) == (None, 0, 2, "")
