"""Losses, retention, worst case and which method loses less: by hand on a few items, by truth on made-up runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.verdicts.frames import Scores
from harness.verdicts.robustness import EVERY_TASK, robustness, robustness_of_samples

INFO = {
    "qa": {"metric": "acc", "suite": "s", "chance": None, "higher_is_better": True},
    "errors": {"metric": "rate", "suite": "s", "chance": None, "higher_is_better": False},
}


def samples(task: str, views: dict[str, list[float | None]], *, reasons: dict[str, list[str]] | None = None) -> pd.DataFrame:
    """One row per view and item; None is a skipped item, with its reason."""
    rows: list[dict[str, Any]] = []
    for view, values in views.items():
        told = iter((reasons or {}).get(view, []))
        for item, value in enumerate(values):
            rows.append({
                "suite": "s", "task": task, "perturbation": view, "sample_id": f"{task}{item}", "cluster": f"{task}{item}",
                "metric": INFO[task]["metric"], "value": value, "status": "skipped" if value is None else "scored",
                "prompt": "", "target": "", "output": next(told) if value is None else "x", "generated_tokens": None,
            })  # fmt: skip
    return pd.DataFrame(rows)


def found(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["perturbation"]: row for row in robustness_of_samples(frame, INFO)["rows"]}


def test_losses_by_hand() -> None:
    rows = found(samples("qa", {"clean": [1, 1, 1, 0], "typos": [1, 0, 1, 0], "case": [0, 1, 1, 1]}))
    assert {name: (row["clean"], row["value"], row["drop"]) for name, row in rows.items()} == {
        "typos": (0.75, 0.5, 0.25), "case": (0.75, 0.75, 0.0), "perturbed": (0.75, 0.625, 0.125), "worst": (0.75, 0.25, 0.5),
    }  # fmt: skip
    assert rows["typos"]["retention"] is None, "a clean score whose interval reaches 0 has no ratio"
    assert rows["worst"]["p_value"] is None
    assert {row["scope"] for row in rows.values()} == {EVERY_TASK}


def test_the_worst_case_of_an_error_rate_is_its_highest() -> None:
    """HELM's robustness takes the minimum over versions whatever the metric: here that would be 0.125, below the clean rate."""
    rows = found(samples("errors", {"clean": [0, 0, 1, 0.5], "typos": [1, 0, 0, 0.5], "case": [0, 0.5, 1, 0]}))
    assert rows["worst"]["value"] == pytest.approx((1 + 0.5 + 1 + 0.5) / 4)
    assert rows["worst"]["clean"] == pytest.approx(0.375)
    assert rows["worst"]["drop"] == pytest.approx(0.375)
    assert rows["typos"]["drop"] == pytest.approx(0.0)
    assert rows["worst"]["retention"] is None
    assert {row["scope"] for row in rows.values()} == {"errors"}


def test_turning_a_metric_over_changes_no_loss() -> None:
    rng = np.random.default_rng(0)
    views = {view: rng.integers(0, 2, 40).astype(float) for view in ("clean", "typos", "case")}
    right = found(samples("qa", {view: list(values) for view, values in views.items()}))
    wrong = found(samples("errors", {view: list(1 - values) for view, values in views.items()}))
    for name, row in right.items():
        assert wrong[name]["drop"] == pytest.approx(row["drop"])
        assert wrong[name]["interval"] == pytest.approx(row["interval"])
        assert wrong[name]["value"] == pytest.approx(1 - row["value"])


def test_items_that_were_not_perturbed_are_counted_and_left_out() -> None:
    reasons = {"typos": ["rejected: embedding similarity 0.20 to the clean text is below 0.3", "nothing in it can be changed in this way"]}
    frame = samples(
        "qa", {"clean": [1, 1, 1, 0], "typos": [None, None, 0, 0], "case": [0, None, None, None]}, reasons=reasons | {"case": ["x"] * 3}
    )
    rows = found(frame)
    typos = rows["typos"]
    assert (typos["n_asked"], typos["n_items"], typos["rejected"], typos["inapplicable"]) == (4, 2, 1, 1)
    assert (typos["clean"], typos["value"]) == (0.5, 0.0)
    assert "case" not in rows, "one item is not enough"
    assert rows["worst"]["n_items"] == 3, "an item without any perturbed version is none of the worst case"
    assert rows["worst"]["drop"] == pytest.approx(2 / 3)


def made(losses: dict[str, dict[str, float]], *, n_seeds: int = 4, n_items: int = 150, rng_seed: int = 0) -> SimpleNamespace:
    """Methods that lose losses[method][view] of a clean success chance of .8."""
    rng = np.random.default_rng(rng_seed)
    parts, trials = [], []
    for method, views in losses.items():
        for seed in range(n_seeds):
            values = {view: list((rng.random(n_items) < 0.8 - lost).astype(float)) for view, lost in {"clean": 0.0, **views}.items()}
            parts.append(samples("qa", values).assign(method=method, seed=seed))
            trials.append({"method": method, "seed": seed, "status": "finished", "score_stage": f"{method}{seed}"})
    return SimpleNamespace(study={"tasks": INFO}, samples=pd.concat(parts), trials=pd.DataFrame(trials))


def test_which_method_loses_less_is_adjusted_over_perturbations() -> None:
    run = made({"frail": {"typos": 0.3, "case": 0.02}, "steady": {"typos": 0.02, "case": 0.02}})
    result = robustness(run, Scores(run))
    pairs = {row["perturbation"]: row for row in result["pairs"]}
    assert list(pairs) == ["typos", "case", "perturbed", "worst"]
    single = [pairs[name]["p_value"] for name in ("typos", "case")]
    assert pairs["typos"]["p_holm"] == pytest.approx(2 * single[0])
    assert pairs["case"]["p_holm"] == pytest.approx(single[1])
    assert pairs["perturbed"]["p_holm"] is None
    assert pairs["typos"]["p_holm"] < 0.05 < pairs["case"]["p_holm"]
    rows = {(row["method"], row["perturbation"]): row for row in result["rows"]}
    for name in pairs:
        difference = rows["frail", name]["drop"] - rows["steady", name]["drop"]
        assert pairs[name]["difference"] == pytest.approx(difference)
    assert rows["frail", "typos"]["retention"] == pytest.approx(rows["frail", "typos"]["value"] / rows["frail", "typos"]["clean"])
    low, high = rows["frail", "typos"]["retention_interval"]
    assert low < 0.5 / 0.8 < high
    assert rows["frail", "typos"]["n_seeds"] == 4


def test_a_checkpoint_listed_for_every_seed_counts_once() -> None:
    run = made({"base": {"typos": 0.1}}, n_seeds=1)
    run.samples = pd.concat([run.samples.assign(seed=seed) for seed in range(3)])
    run.trials = pd.concat([run.trials.assign(seed=seed) for seed in range(3)])
    (row,) = robustness(run, Scores(run))["rows"]
    assert row["n_seeds"] == 1


def test_nothing_perturbed_gives_no_rows() -> None:
    assert robustness_of_samples(samples("qa", {"clean": [1, 0]}), INFO) == {"rows": [], "pairs": []}
