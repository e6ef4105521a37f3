"""Verdicts on cost at equal quality and rankings by axis, on runs whose quality along the way is known exactly."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.verdicts.axes import axes_table
from harness.verdicts.claims import ClaimFile
from harness.verdicts.equal_quality import equal_quality_table
from harness.verdicts.frames import NotTestableError, Scores
from harness.verdicts.judge import judge
from harness.verdicts.tracks import quality_at, tracks

ITEMS = 400
TASKS = {"exam": {"metric": "acc", "suite": "s", "chance": 0.0, "higher_is_better": True}}
START = 0.1


def rows(method, seed, share, quality):
    right = round(quality * ITEMS)
    names = [f"i{item}" for item in range(ITEMS)]
    return pd.DataFrame(
        {
            "suite": "s", "task": "exam", "perturbation": "clean", "sample_id": names, "cluster": names, "metric": "acc",
            "value": [float(item < right) for item in range(ITEMS)], "status": "scored", "method": method, "seed": seed, "share": share,
        }
    )  # fmt: skip


def run(ends, *, usd=None, labels=None, shares=(0.25, 0.5, 0.75), base=True, curve=lambda share: share):
    """Runs whose quality rises from START to ends[method][seed] as `curve` of the share spent; FLOPs 100, dollars and labels as given."""
    trials, samples, kept, checkpoints = [], [], [], []
    methods = ({"base": [START] * len(next(iter(ends.values())))} if base else {}) | ends
    for method, by_seed in methods.items():
        for seed, end in enumerate(by_seed):
            trained = method != "base"
            cost = (usd or {}).get(method, 100.0) * trained
            bought = (labels or {}).get(method, 50) * trained
            spent = {
                "train_flops": 100.0 * trained,
                "tokens": 10 * trained,
                "wall_s": 10.0 * trained,
                "cost_usd": cost,
                "demonstrations": bought,
            }
            stage = f"{method}-{seed}" if trained else method
            trials.append(
                {
                    "trial_id": stage,
                    "method": method,
                    "seed": seed,
                    "status": "finished",
                    "budget_flops": 100.0,
                    "comparisons": 0,
                    "queries": 0,
                }
                | {
                    "train_stage": f"train-{stage}",
                    "score_stage": f"score-{stage}",
                    "checkpoint_stage": f"kept-{stage}" if trained else None,
                }
                | spent
            )
            samples.append(rows(method, seed, 1.0, end))
            for share in (*shares, 1.0) if trained else ():
                part = {name: value * share for name, value in spent.items()} | {"demonstrations": bought}
                checkpoints.append(
                    {"trial_id": stage, "method": method, "seed": seed, "share": share, "comparisons": 0, "queries": 0} | part
                )
                if share < 1:
                    kept.append(rows(method, seed, share, START + (end - START) * curve(share)))
    return SimpleNamespace(
        study={"tasks": TASKS}, trials=pd.DataFrame(trials), samples=pd.concat(samples).drop(columns="share"),
        checkpoints=pd.DataFrame(checkpoints), checkpoint_samples=pd.concat(kept).drop(columns="perturbation"),
    )  # fmt: skip


def verdict(frames, *, measure="relative", threshold=-0.4, direction="lower", damaged=None, **estimand):
    reading = {
        "name": measure, "primary": True, "measure": measure, "threshold": threshold, "direction": direction, "comparators": ["rlhf"],
        "estimand": {"kind": "cost_at_equal_quality", **estimand},
    }  # fmt: skip
    claim = {"id": "c", "sentence": "s", "source": "s", "treatment": "selfteach", "readings": [reading]}
    return judge(frames, ClaimFile.model_validate({"claims": [claim]}), damaged=damaged)[0]


def test_the_ratio_is_what_straight_lines_give_and_its_interval_is_t_on_logs():
    """Quality rises linearly from 0.1: selfteach is at rlhf's end q after the share (q − 0.1)/(end − 0.1) of its cost."""
    mine, theirs = [0.7, 0.6, 0.65, 0.7], [0.4, 0.4, 0.35, 0.45]
    row = verdict(run({"selfteach": mine, "rlhf": theirs}), axis="flops")
    logs = np.log([(q - START) / (end - START) for q, end in zip(theirs, mine, strict=True)])
    half = stats.t.ppf(0.975, 3) * logs.std(ddof=1) / 2
    assert row["effect"] == pytest.approx(math.exp(logs.mean()) - 1)
    assert row["interval"] == pytest.approx([math.exp(logs.mean() - half) - 1, math.exp(logs.mean() + half) - 1])
    assert row["p_threshold"] == pytest.approx(2 * stats.t.sf(abs(logs.mean() - math.log(0.6)) / (logs.std(ddof=1) / 2), 3))
    assert (row["verdict"], row["bound"], row["censoring"], row["unit"]) == ("inconclusive", "", "", "FLOP")
    assert row["treatment_value"] == pytest.approx(100 * np.exp(logs).mean())
    assert row["baseline_value"] == pytest.approx(100)
    assert {f"{kind}-selfteach-0" for kind in ("train", "kept", "score")} <= set(row["evidence"])


def test_dollars_count_by_default_and_a_cheap_sure_win_meets_the_claim():
    frames = run({"selfteach": [0.7, 0.71, 0.69, 0.7], "rlhf": [0.4, 0.4, 0.41, 0.4]}, usd={"selfteach": 10.0, "rlhf": 100.0})
    row = verdict(frames)
    assert row["effect"] == pytest.approx(-0.95, abs=0.01)
    assert (row["verdict"], row["unit"]) == ("met", "USD")
    assert "until the comparator's final quality is reached" in row["metric_text"]
    assert verdict(frames, measure="ratio", threshold=0.6)["effect"] == pytest.approx(row["effect"] + 1)


def test_a_run_that_never_gets_there_is_a_bound_and_said_so():
    row = verdict(run({"selfteach": [0.7, 0.3, 0.6], "rlhf": [0.4, 0.4, 0.42]}), axis="flops")
    assert row["bound"] == "≥"
    assert row["interval"][1] is None
    assert "In 1 of 3 seeds selfteach never reached rlhf's final quality" in row["why"]
    assert row["verdict"] == "inconclusive"
    assert "∞" in row["why"]
    assert row["treatment_value"] is None
    assert row["components"]["seed"] is None
    assert "Larger budgets" in row["needed"]
    dear = verdict(run({"selfteach": [0.2, 0.21, 0.2], "rlhf": [0.6, 0.61, 0.65]}, curve=math.sqrt), axis="flops", threshold=0)
    assert (dear["verdict"], dear["bound"]) != ("met", "")


def test_without_a_start_a_quality_reached_at_the_first_checkpoint_is_bounded_from_above():
    row = verdict(run({"selfteach": [0.9, 0.8], "rlhf": [0.2, 0.2]}, base=False), axis="flops")
    assert (row["bound"], row["interval"][0]) == ("≤", -1.0)
    assert "known only from above" in row["censoring"]


def test_runs_start_from_their_own_student():
    frames = run({"selfteach": [0.7, 0.8, 0.75], "rlhf": [0.4, 0.4, 0.4]})
    alone = verdict(frames, axis="flops")
    other = frames.samples[frames.samples["method"] == "base"].assign(method="another", value=0.0)
    stages = frames.trials[frames.trials["method"] == "base"].assign(method="another", trial_id="another", train_stage="another")
    frames.samples = pd.concat([other, frames.samples])
    frames.trials = pd.concat([stages, frames.trials])
    places = {"another": "b", "base": "a", "selfteach": "a", "rlhf": "a"}
    frames.study = frames.study | {
        "student": {"model": "a"},
        "methods": [{"name": name, "at": {"train_flops": 1e9, "student": {"model": model}}} for name, model in places.items()],
    }
    assert verdict(frames, axis="flops")["effect"] == pytest.approx(alone["effect"])


@pytest.mark.parametrize(
    ("frames", "estimand", "why"),
    [
        (run({"selfteach": [0.5], "rlhf": [0.1]}), {"axis": "flops"}, "ends no better than the first point scored"),
        (run({"selfteach": [0.5], "rlhf": [0.4]}, labels={"selfteach": 0}), {"axis": "labels"}, "selfteach spends nothing"),
        (run({"selfteach": [0.5], "rlhf": [0.4]}), {"kind": "queries_at_equal_quality"}, "rlhf spends nothing (calls of models other"),
        (SimpleNamespace(**vars(run({"selfteach": [0.5], "rlhf": [0.4]})) | {"checkpoints": pd.DataFrame()}), {}, "add `checkpoints`"),
    ],
)
def test_what_cannot_be_told_says_why(frames, estimand, why):
    row = verdict(frames, **estimand)
    assert row["verdict"] == "not testable here"
    assert why in row["why"]


def test_a_study_of_validation_alone_says_that_nothing_is_judged():
    frames = run({"a": [0.5], "b": [0.5]})
    with pytest.raises(NotTestableError, match="scores no evaluation suite"):
        tracks(frames, Scores(frames), ["a", "b"], [0], [])


def test_one_seed_speaks_of_two_runs():
    row = verdict(run({"selfteach": [0.7], "rlhf": [0.4]}), axis="flops")
    assert (row["verdict"], row["effect"]) == ("inconclusive", pytest.approx(-0.5))


def test_a_cost_at_equal_quality_rests_on_the_scored_checkpoints_and_a_score_does_not():
    frames = run({"selfteach": [0.61, 0.6, 0.62], "rlhf": [0.6, 0.61, 0.62]})
    told = {"kept-rlhf-1": "it was changed"}
    row = verdict(frames, axis="flops", damaged=told)
    assert (row["verdict"], row["why"]) == ("evidence changed", "it was changed")
    row = verdict(frames, damaged=told, kind="score", threshold=0, direction="higher")
    assert row["verdict"] not in ("evidence changed", "not testable here")


def test_items_without_a_score_at_one_checkpoint_count_nowhere():
    frames = run({"selfteach": [0.7], "rlhf": [0.4]})
    frames.checkpoint_samples.loc[frames.checkpoint_samples["sample_id"] == "i0", ["value", "status"]] = [None, "unparsed"]
    along = tracks(frames, Scores(frames), ["selfteach", "rlhf"], [0], ["exam"])
    assert along["rlhf", 0].n_items == ITEMS - 1
    assert along["rlhf", 0].quality_T[-1] == pytest.approx(159 / 399)


def test_quality_at_a_spend_is_linear_between_points_and_latest_where_nothing_was_spent():
    track = tracks(*(lambda frames: (frames, Scores(frames)))(run({"a": [0.5], "b": [0.5]}, labels={"a": 50})), ["a"], [0], ["exam"])[
        "a", 0
    ]
    assert quality_at(track, "flops", 62.5) == pytest.approx(START + 0.4 * 0.625)
    assert quality_at(track, "labels", 50) == pytest.approx(0.5)
    assert quality_at(track, "labels", 49.9) == pytest.approx(START, abs=0.21)
    assert quality_at(track, "flops", 1e9) == pytest.approx(0.5)


def test_the_table_of_pairs_shows_censoring_both_ways():
    frames = run({"selfteach": [0.7, 0.68], "rlhf": [0.4, 0.41]})
    table = {(row["treatment"], row["comparator"], row["axis"]): row for row in equal_quality_table(frames, Scores(frames), ["exam"])}
    assert table["selfteach", "rlhf", "flops"]["ratio"] == f"{math.sqrt(0.5 * 0.31 / 0.58):.3g}"
    assert (table["rlhf", "selfteach", "flops"]["share_never"], table["rlhf", "selfteach", "flops"]["ratio"]) == (1, "≥ 1")
    assert table["rlhf", "selfteach", "flops"]["treatment_cost"] is None
    assert {axis for _, _, axis in table} == {"flops", "tokens", "seconds", "usd", "labels"}


def test_a_pair_that_shares_no_seed_says_so_and_the_others_are_compared():
    frames = run({"a": [0.7, 0.68], "b": [0.4, 0.41], "c": [0.5, 0.5]})
    for method, lost in (("a", 1), ("c", 0)):
        for name in ("trials", "samples", "checkpoints", "checkpoint_samples"):
            frame = getattr(frames, name)
            setattr(frames, name, frame[(frame["method"] != method) | (frame["seed"] != lost)])
    table = equal_quality_table(frames, Scores(frames), ["exam"])
    apart = [row for row in table if {row["treatment"], row["comparator"]} == {"a", "c"}]
    assert [(row["axis"], row["why"]) for row in apart] == [
        (None, "a and c share no training seed"),
        (None, "c and a share no training seed"),
    ]
    assert {(row["treatment"], row["comparator"]) for row in table if row.get("ratio")} == {("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")}


def test_the_winner_by_axis_is_found_where_spending_differs():
    """Equal FLOPs: a ends at 0.5, b at 0.6. At equal dollars b has spent a tenth of its run, so is at 0.15."""
    frames = run({"a": [0.5, 0.52, 0.5], "b": [0.6, 0.6, 0.62]}, usd={"a": 10.0, "b": 100.0})
    found = axes_table(frames, Scores(frames), ["exam"])
    by_axis = {row["axis"]: row for row in found["rows"]}
    assert (by_axis["flops"]["at"], by_axis["usd"]["at"]) == (100, 10)
    assert by_axis["usd"]["ranking"][1]["value"] == pytest.approx(START + 0.1 * (0.60667 - START), abs=1e-3)
    assert found["winners"] == {"flops": "b", "tokens": "b", "seconds": "b", "usd": "a", "labels": "b"}
    assert found["text"].startswith("The highest score changes with the axis: b at equal flops, tokens, seconds, labels; a at equal usd.")
    assert [entry["tied_with_best"] for entry in by_axis["usd"]["ranking"]] == [True, False]
    assert by_axis["usd"]["spend"] == {"a": 10, "b": 100}


def test_a_winner_by_nothing_is_no_winner_in_words():
    equal = axes_table(*(lambda frames: (frames, Scores(frames)))(run({"a": [0.5, 0.5], "b": [0.5, 0.5]})), ["exam"])
    assert "On none of them is it told apart from b." in equal["text"]
    clear = axes_table(*(lambda frames: (frames, Scores(frames)))(run({"a": [0.8, 0.81, 0.8], "b": [0.5, 0.51, 0.5]})), ["exam"])
    assert clear["text"].startswith("The highest score is a's at equal spend on every axis ranked")
    assert "told apart" not in clear["text"]


def test_without_checkpoints_only_matched_axes_have_an_answer():
    frames = run({"a": [0.5, 0.52], "b": [0.6, 0.6]}, usd={"a": 10.0, "b": 100.0})
    frames.checkpoints = frames.checkpoints.iloc[:0]
    found = axes_table(frames, Scores(frames), ["exam"])
    assert found["winners"] == {}
    assert "changes on usd cannot be told" in found["text"]
    assert "matched on flops, tokens, seconds, labels" in found["text"]


def test_a_method_that_spends_nothing_on_an_axis_has_no_equal_spend_there():
    frames = run({"a": [0.5, 0.5], "b": [0.6, 0.6]}, labels={"a": 0})
    row = next(row for row in axes_table(frames, Scores(frames), ["exam"])["rows"] if row["axis"] == "labels")
    assert (row["ranking"], row["why"]) == ([], "a spends none, so no spend is equal")
