"""From the samples of leave-one-family-out folds to effects of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.stats.crossed import TaskScores
from harness.stats.folds import fold_effect
from harness.verdicts.claims import Claim, ClaimFile
from harness.verdicts.folds import fold_effects
from harness.verdicts.judge import judge

INFO = {"held_out": {"metric": "correct", "higher_is_better": True}, "errors": {"metric": "rate", "higher_is_better": False}}


def fold_samples(
    shares: Mapping[str, float], *, task: str = "held_out", folds: int = 4, seeds: int = 3, items: int = 15, rng_seed: int = 0
) -> pd.DataFrame:
    rng = np.random.default_rng(rng_seed)
    rows = [
        {
            "suite": "s", "task": task, "perturbation": "clean", "sample_id": f"f{fold}i{item}", "cluster": f"f{fold}i{item}",
            "metric": metric, "value": float(rng.random() < share), "status": "scored", "method": method, "seed": seed, "fold": f"f{fold}",
        }
        for method, share in shares.items() for fold in range(folds) for seed in range(seeds) for item in range(items)
        for metric in (INFO[task]["metric"], "loose")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_pair_is_the_effect_of_its_arrays() -> None:
    frame = fold_samples({"a": 0.8, "b": 0.3})
    (row,) = fold_effects(frame, INFO)
    own = frame[frame.metric == "correct"]
    arrays = {}
    for fold in own.fold.unique():
        both = [
            own[(own.fold == fold) & (own.method == method)].pivot(index="seed", columns="sample_id", values="value").to_numpy()
            for method in ("a", "b")
        ]
        arrays[fold] = TaskScores(np.stack(both, axis=-1))
    expected = fold_effect(arrays)
    assert row["difference"] == pytest.approx(expected.estimate)
    assert row["interval"] == pytest.approx(list(expected.interval))
    assert row["per_fold"] == pytest.approx(expected.per_fold)
    assert (row["n_folds"], row["n_seeds"], row["n_items"], row["n_dropped"]) == (4, 3, 60, 0)
    assert row["difference"] > 0.3
    assert row["p_holm"] == row["p_value"]


def test_where_lower_is_better_the_first_is_better_if_lower() -> None:
    (row,) = fold_effects(fold_samples({"a": 0.2, "b": 0.8}, task="errors"), INFO)
    assert row["difference"] > 0.3


def test_pairs_are_adjusted_and_missing_scores_are_counted() -> None:
    frame = fold_samples({"a": 0.7, "b": 0.7, "c": 0.2})
    gap = (frame.method == "a") & (frame.sample_id == "f2i3") & (frame.seed == 1)
    frame.loc[gap, ["value", "status"]] = [np.nan, "error"]
    rows = {(row["first"], row["second"]): row for row in fold_effects(frame, INFO)}
    assert list(rows) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [row["n_dropped"] for row in rows.values()] == [1, 1, 0]
    lowest = min(row["p_value"] for row in rows.values())
    assert min(row["p_holm"] for row in rows.values()) == pytest.approx(3 * lowest)


def test_a_fold_that_lacks_a_run_is_left_out_and_too_few_give_no_row() -> None:
    frame = fold_samples({"a": 0.7, "b": 0.2})
    unfinished = frame[~((frame.method == "a") & (frame.fold == "f1") & (frame.seed == 2))]
    (row,) = fold_effects(unfinished, INFO)
    assert set(row["per_fold"]) == {"f0", "f2", "f3"}
    assert fold_effects(frame[frame.seed == 0], INFO) == []
    assert fold_effects(frame[frame.fold == "f0"], INFO) == []
    assert fold_effects(frame.iloc[:0], INFO) == []


def claim(**reading: Any) -> ClaimFile:
    content = {
        "name": "on new families", "primary": True, "comparators": ["b"], "estimand": {"kind": "leave_one_family_out"}, "threshold": 0.15,
        "measure": "relative",
    }  # fmt: skip
    return ClaimFile(claims=[Claim(id="new", sentence="s", source="s", treatment="a", readings=[{**content, **reading}])])


def folded_run(made_run: Any, shares: Mapping[str, float], **options: int) -> Any:
    run = made_run({"a": 0.5, "b": 0.5}, items=10, seeds=(0, 1, 2))
    run.fold_samples = fold_samples(shares, **options)
    run.folds = pd.concat([run.trials.assign(fold=fold) for fold in run.fold_samples.fold.unique()])
    run.study = {"tasks": {**run.study["tasks"], "held_out": INFO["held_out"] | {"suite": "pool_validation", "chance": None}}}
    return run


def test_a_claim_on_families_left_out_is_judged_from_the_folds(made_run: Any) -> None:
    run = folded_run(made_run, {"a": 0.8, "b": 0.3}, folds=6, items=60)
    (row,) = judge(run, claim())
    assert row["verdict"] == "met"
    expected = run.fold_samples[run.fold_samples.metric == "correct"].groupby("method")["value"].mean()
    assert row["effect"] == pytest.approx(expected["a"] / expected["b"] - 1)
    assert (row["n_seeds"], row["n_items"], row["tasks"]) == (3, 360, [f"f{fold}" for fold in range(6)])
    assert "left out" in row["metric_text"]
    (points,) = judge(run, claim(measure="absolute", threshold=0.2))
    (pair,) = fold_effects(run.fold_samples, run.study["tasks"])
    assert points["interval"] == pytest.approx(pair["interval"])
    assert points["verdict"] == "met"
    (reverse,) = judge(run, claim(measure="absolute", direction="lower", threshold=-0.2))
    assert reverse["verdict"] == "contradicted"


def test_a_claim_on_folds_rests_on_the_stages_of_the_folds_alone(made_run: Any) -> None:
    run = folded_run(made_run, {"a": 0.8, "b": 0.3})
    run.folds["score_stage"] += "-without-" + run.folds["fold"]
    run.folds["train_stage"] += "-without-" + run.folds["fold"]
    stage = str(run.folds.loc[run.folds.method == "a", "score_stage"].iloc[0])
    (row,) = judge(run, claim(), damaged={stage: "it was changed"})
    assert (row["verdict"], row["why"]) == ("evidence changed", "it was changed")
    whole = str(run.trials["score_stage"].iloc[0])
    (row,) = judge(run, claim(), damaged={whole: "it was changed"})
    assert row["verdict"] == "met"


def test_folds_that_missed_their_budget_or_are_too_few_are_not_judged(made_run: Any) -> None:
    run = folded_run(made_run, {"a": 0.8, "b": 0.3})
    run.folds.loc[run.folds.method == "a", "train_flops"] *= 0.9
    (row,) = judge(run, claim())
    assert row["verdict"] == "not testable here"
    assert "missed its budget" in row["why"]
    (row,) = judge(folded_run(made_run, {"a": 0.8, "b": 0.3}, folds=1), claim())
    assert "fewer than 2 families" in row["why"]
    (row,) = judge(folded_run(made_run, {"a": 0.3, "b": 0.0}), claim())
    assert "a relative effect is undefined here" in row["why"]
