"""Claims of no difference, of "better" without a number, on training curves and on queries; checksums of the evidence."""

import numpy as np
import pandas as pd
import pytest

from harness.stats.crossed import TaskScores, contrast, moments
from harness.stats.equivalence import equivalence
from harness.verdicts.claims import ClaimFile
from harness.verdicts.judge import judge


def claim(name="c", comparators=("sft",), measure="absolute", **reading):
    estimand = reading.pop("estimand", {"kind": "score"})
    whole = {"name": measure, "primary": True, "measure": measure, "comparators": list(comparators), "estimand": estimand, **reading}
    return {"id": name, "sentence": "s", "source": "s", "treatment": "selfteach", "readings": [whole]}


def judged(run, *claims, **options):
    return judge(run, ClaimFile.model_validate({"claims": list(claims)}), **options)


def one(run, **reading):
    return judged(run, claim(**reading))[0]


def with_curves(run, values, *, name="reward", points=8):
    """Adds a curve for every method of `values`: flat at value[seed] over its last quarter, −9 before."""
    run.curves = pd.DataFrame(
        [
            {
                "trial_id": f"{method}-{seed}", "method": method, "seed": seed, "curve": name, "step": step, "train_flops": 1e9 * step,
                "wall_s": float(step), "value": value if step >= 3 * points / 4 else -9.0,
            }
            for method, by_seed in values.items()
            for seed, value in enumerate(by_seed)
            for step in range(points)
        ]
    )  # fmt: skip
    return run


@pytest.mark.parametrize(
    ("selfteach", "margin", "verdict"),
    [(0.5, 0.15, "met"), (0.8, 0.1, "contradicted"), (0.2, 0.1, "contradicted"), (0.5, 0.005, "inconclusive")],
)
def test_no_difference_gets_its_verdict(made_run, selfteach, margin, verdict):
    row = one(made_run({"sft": 0.5, "selfteach": selfteach}, items=600, tasks=["stacked", "siqa"]), direction="equal", margin=margin)
    assert row["verdict"] == verdict, row["why"]
    assert (row["direction"], row["margin"], row["threshold"]) == ("equal", margin, margin)
    assert f"margin of ±{100 * margin:.1f} points" in row["why"]
    assert row["p_holm"] is None


def test_its_p_value_is_tost_on_the_crossed_model(made_run):
    run = made_run({"sft": 0.5, "selfteach": 0.52}, tasks=["stacked"])
    row = one(run, direction="equal", margin=0.08)
    rows = run.samples[(run.samples["perturbation"] == "clean")]
    arrays = [
        rows[rows["method"] == method].pivot(index="seed", columns="sample_id", values="value").to_numpy()
        for method in ("selfteach", "sft")
    ]
    found = contrast(moments([TaskScores(np.stack(arrays, axis=2))]), (1, -1))
    reference = equivalence(found, 0.08)
    assert row["p_threshold"] == pytest.approx(2 * min(reference.p_value, reference.p_outside / 2))
    assert row["p_value"] == pytest.approx(found.p_value)


@pytest.mark.parametrize("measure", ["absolute", "relative", "ratio"])
def test_it_is_met_exactly_when_the_interval_lies_inside(made_run, measure):
    run = made_run({"sft": 0.5, "selfteach": 0.52}, tasks=["stacked"])
    none = 1.0 if measure == "ratio" else 0.0
    low, high = one(run, measure=measure, direction="equal", margin=0.3)["interval"]
    edge = max(high - none, none - low)
    assert one(run, measure=measure, direction="equal", margin=edge + 1e-6)["verdict"] == "met"
    assert one(run, measure=measure, direction="equal", margin=edge - 1e-6)["verdict"] == "inconclusive"


def test_equal_to_several_means_to_each(made_run):
    run = made_run({"sft": 0.5, "rlhf": 0.8, "selfteach": 0.5}, items=600, tasks=["stacked"])
    assert one(run, direction="equal", margin=0.15)["verdict"] == "met"
    both = one(run, direction="equal", margin=0.15, comparators=("sft", "rlhf"))
    assert both["verdict"] == "contradicted"
    assert both["binding_comparator"] == "rlhf"


def test_equality_takes_no_part_in_the_family_of_no_effect(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.5}, tasks=["stacked"])
    alone = judged(run, claim(threshold=0.02))[0]
    beside = judged(run, claim(threshold=0.02), claim("d", direction="equal", margin=0.3))[0]
    assert beside["p_holm"] == pytest.approx(alone["p_holm"])
    assert beside["p_threshold_holm"] >= alone["p_threshold_holm"]


def test_counts_are_equal_within_the_margin_up_to_its_edge(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.4}, tasks=["stacked"], items=10)
    for margin, verdict in ((0.8, "met"), (0.81, "met"), (0.79, "contradicted")):
        row = one(run, measure="relative", direction="equal", margin=margin, estimand={"kind": "labels"})
        assert row["effect"] == pytest.approx(-0.8)
        assert row["verdict"] == verdict, margin


@pytest.mark.parametrize(("selfteach", "verdict"), [(0.6, "met"), (0.5, "inconclusive"), (0.4, "contradicted")])
def test_better_without_a_number(made_run, selfteach, verdict):
    row = one(made_run({"sft": 0.5, "selfteach": selfteach}, items=600, tasks=["stacked"]), threshold=0)
    assert row["verdict"] == verdict, row["why"]
    assert "+0.0" not in row["why"].split("interval")[0]
    assert "claimed +0.0" not in row["why"]
    assert row["p_threshold"] == pytest.approx(row["p_value"])


def test_equal_counts_are_not_fewer(made_run):
    run = made_run({"rlhf": 0.4, "selfteach": 0.4}, tasks=["stacked"], items=10)
    run.trials["queries"] = 7
    row = one(run, comparators=("rlhf",), measure="relative", direction="lower", threshold=0, estimand={"kind": "queries"})
    assert row["verdict"] == "contradicted"
    run.trials.loc[run.trials["method"] == "selfteach", "queries"] = 6
    fewer = one(run, comparators=("rlhf",), measure="ratio", direction="lower", threshold=1, estimand={"kind": "queries"})
    assert (fewer["verdict"], fewer["unit"]) == ("met", "queries")


def test_queries_against_none_are_not_testable(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.4}, tasks=["stacked"], items=10)
    row = one(run, measure="ratio", direction="lower", threshold=0.0573, estimand={"kind": "queries"})
    assert row["verdict"] == "not testable here"
    assert "sft spent nothing (queries is 0)" in row["why"]


def test_curves_are_compared_on_their_last_part_by_a_paired_t_test(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.4}, tasks=["stacked"], items=10, seeds=[0, 1, 2, 3])
    theirs, mine = [0.10, 0.30, 0.20, 0.25], [0.32, 0.52, 0.37, 0.50]
    row = one(with_curves(run, {"sft": theirs, "selfteach": mine}), threshold=0, estimand={"kind": "curve", "curve": "reward"})
    difference = np.subtract(mine, theirs)
    half = 3.182446305 * difference.std(ddof=1) / 2
    assert row["effect"] == pytest.approx(difference.mean())
    assert row["interval"] == pytest.approx([difference.mean() - half, difference.mean() + half])
    assert (row["verdict"], row["unit"], row["n_seeds"]) == ("met", "reward", 4)
    assert row["evidence"][0] == "train-selfteach-0"
    assert "reward" in row["why"]
    whole = one(run, threshold=0, estimand={"kind": "curve", "curve": "reward", "last_share": 1.0})
    assert whole["baseline_value"] == pytest.approx(0.25 * np.mean(theirs) - 0.75 * 9)


@pytest.mark.parametrize("theirs", [[0.5, 0.5, 0.5], [0.5, 0.53125, 0.5625]])
@pytest.mark.parametrize("measure", ["absolute", "relative"])
def test_a_curve_that_differs_by_the_same_in_every_seed_has_no_spread_to_test_by(made_run, measure, theirs):
    run = made_run({"sft": 0.4, "selfteach": 0.4}, tasks=["stacked"], items=10, seeds=[0, 1, 2])
    run = with_curves(run, {"sft": theirs, "selfteach": [value + 0.25 for value in theirs]})
    row = one(run, threshold=0, measure=measure, estimand={"kind": "curve", "curve": "reward"})
    assert row["verdict"] == "not testable here"
    assert "the same in all 3 seeds" in row["why"]
    assert row["p_value"] is None


def test_a_curve_that_was_not_drawn_is_named(made_run):
    run = with_curves(made_run({"sft": 0.4, "selfteach": 0.4}, tasks=["stacked"], items=10), {"selfteach": [1.0] * 5})
    row = one(run, threshold=0, estimand={"kind": "curve", "curve": "reward"})
    assert row["verdict"] == "not testable here"
    assert "sft drew no curve 'reward'" in row["why"]
    assert "its curves: none" in row["why"]


@pytest.mark.parametrize(("kind", "why"), [("transfer", "second student"), ("queries_at_equal_quality", "checkpoints")])
def test_what_needs_other_measurements_says_which(made_run, kind, why):
    run = made_run({"sft": 0.4, "selfteach": 0.4}, tasks=["stacked"], items=10, spend={"selfteach": 0.5})
    row = one(run, threshold=0, measure="relative", estimand={"kind": kind})
    assert row["verdict"] == "not testable here"
    assert why in row["why"]


def test_membership_is_read_from_the_runs_samples(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.4}, tasks=["stacked"], items=10, seeds=[0, 1, 2])
    assert "suite holistic" in one(run, threshold=0, estimand={"kind": "membership_auc"})["why"]
    like = run.samples.iloc[0].to_dict() | {"suite": "holistic", "task": "membership", "metric": "calibrated_loss", "perturbation": "clean"}
    # Of four pairs of a member and another, so many are in the attack's order: 4, 3 and 4 for selfteach, 2, 2 and 1 for sft.
    losses = {"selfteach": ([1, 2, 3, 4], [1, 3, 2, 4], [0, 1, 2, 3]), "sft": ([1, 4, 2, 3], [2, 3, 1, 4], [2, 4, 1, 3])}
    rows = [
        like | {"method": method, "seed": seed, "sample_id": f"{method}-{seed}-{at}", "value": v,
                "target": "member" if at < 2 else "non-member"}
        for method, by_seed in losses.items() for seed, values in enumerate(by_seed) for at, v in enumerate(values)
    ]  # fmt: skip
    run.samples = pd.concat([run.samples, pd.DataFrame(rows)], ignore_index=True)
    run.study["tasks"] = run.study["tasks"] | {
        "membership": {"metric": "calibrated_loss", "chance": None, "suite": "holistic", "higher_is_better": False}
    }
    row = one(run, threshold=0, estimand={"kind": "membership_auc"})
    assert (row["treatment_value"], row["baseline_value"]) == pytest.approx((11 / 12, 5 / 12))
    half = 4.302652730 * 0.25 / 3**0.5
    assert row["interval"] == pytest.approx([0.5 - half, 0.5 + half])
    assert (row["verdict"], row["n_seeds"]) == ("inconclusive", 3)


def test_checksums_of_the_evidence_are_recorded(made_run):
    run = made_run({"sft": 0.4, "rlhf": 0.4, "selfteach": 0.4}, tasks=["stacked"], items=10, seeds=[0, 1])
    every = {stage: f"sum of {stage}" for column in ("train_stage", "score_stage") for stage in run.trials[column]}
    row = judged(run, claim(threshold=0), checksums=every)[0]
    assert row["evidence_sha256"] == {stage: f"sum of {stage}" for stage in row["evidence"]}
    assert set(row["evidence"]) == {f"score-{method}-{seed}" for method in ("selfteach", "sft") for seed in (0, 1)}
    assert judged(run, claim(threshold=0))[0]["evidence_sha256"] == {}
