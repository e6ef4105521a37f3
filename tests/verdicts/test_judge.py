import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.errors import SpecError
from harness.verdicts.claims import ClaimFile, load_claims
from harness.verdicts.judge import Tails, decide, judge

REVIEW = Path(__file__).parents[2] / "tasks/claims/review_2024.yaml"
KEYS = {
    "claim_id", "sentence", "source", "reading", "primary", "treatment", "comparator", "estimand", "metric_text", "threshold", "direction",
    "verdict", "why", "effect", "interval", "level", "p_value", "p_holm", "n_seeds", "n_items", "mde", "needed", "components",
    "baseline_value", "treatment_value", "evidence", "undefined_in_source",
}  # fmt: skip


def claim(threshold=0.25, measure="relative", comparators=("sft",), direction="higher", **estimand):
    reading = {
        "name": measure, "primary": True, "measure": measure, "threshold": threshold, "comparators": list(comparators),
        "direction": direction, "estimand": {"kind": "score", **estimand},
    }  # fmt: skip
    return {"id": f"c{abs(hash(str(reading))) % 10**9}", "sentence": "s", "source": "s", "treatment": "selfteach", "readings": [reading]}


def file_of(*claims, alpha=0.05):
    return ClaimFile.model_validate({"alpha": alpha, "claims": list(claims)})


def one(run, **kwargs):
    (row,) = judge(run, file_of(claim(**kwargs)))
    return row


def p_of(beyond=0.5, excluded=0.5, positive=0.5, reverse=0.5):
    return Tails(beyond, excluded, positive, reverse)


@pytest.mark.parametrize(
    ("tests", "verdict"),
    [
        (p_of(beyond=0.02, excluded=0.98, positive=0.001, reverse=0.999), "met"),
        (p_of(beyond=0.025, excluded=0.975, positive=0.001, reverse=0.999), "met"),
        (p_of(beyond=0.026, excluded=0.974, positive=0.001, reverse=0.999), "inconclusive"),
        (p_of(excluded=0.02, beyond=0.98, positive=0.02, reverse=0.98), "positive but short"),
        (p_of(excluded=0.02, beyond=0.98, positive=0.03, reverse=0.97), "contradicted"),
        (p_of(excluded=0.03, beyond=0.97, positive=0.02, reverse=0.98), "inconclusive"),
        (p_of(excluded=0.03, beyond=0.97, positive=0.03, reverse=0.97), "inconclusive"),
        (p_of(excluded=0.001, beyond=0.999, positive=0.99, reverse=0.01), "contradicted"),
        (p_of(), "inconclusive"),
    ],
)
def test_verdict_at_its_boundaries(tests, verdict):
    assert decide(tests, p_threshold=tests.p_threshold, p_none=tests.p_none, alpha=0.05) == verdict


@pytest.mark.parametrize(
    ("selfteach", "verdict"),
    [(0.70, "met"), (0.46, "positive but short"), (0.50, "inconclusive"), (0.40, "contradicted"), (0.25, "contradicted")],
)
def test_known_truths_get_their_verdicts(made_run, selfteach, verdict):
    run = made_run({"sft": 0.4, "selfteach": selfteach}, items=800, tasks=["stacked", "siqa"])
    row = one(run)
    assert row["verdict"] == verdict, row["why"]
    assert row["effect"] == pytest.approx(row["treatment_value"] / row["baseline_value"] - 1)
    assert row["interval"][0] < row["effect"] < row["interval"][1]
    assert (row["n_seeds"], row["n_items"], row["n_dropped"]) == (5, 1600, 0)
    assert row["evidence"] == [f"score-{method}-{seed}" for method in ("selfteach", "sft") for seed in range(5)]


@pytest.mark.parametrize("measure", ["relative", "ratio"])
def test_ratio_and_relative_agree(made_run, measure):
    run = made_run({"sft": 0.4, "selfteach": 0.55}, tasks=["stacked"])
    shift = 1 if measure == "ratio" else 0
    row, reference = one(run, measure=measure, threshold=0.25 + shift), one(run)
    assert row["effect"] - shift == pytest.approx(reference["effect"])
    assert row["verdict"] == reference["verdict"]
    assert row["p_threshold"] == pytest.approx(reference["p_threshold"])


def test_interval_and_p_agree_on_the_threshold(made_run):
    """A single claim is met exactly when its interval lies beyond the threshold."""
    run = made_run({"sft": 0.4, "selfteach": 0.55}, tasks=["stacked"])
    for measure in ("relative", "absolute"):
        low, high = one(run, measure=measure, threshold=0.25)["interval"]
        assert one(run, measure=measure, threshold=low - 1e-6)["verdict"] == "met"
        assert one(run, measure=measure, threshold=low + 1e-6)["verdict"] == "inconclusive"
        assert one(run, measure=measure, threshold=high - 1e-6)["verdict"] == "inconclusive"
        assert one(run, measure=measure, threshold=high + 1e-6)["verdict"] == "positive but short"


def test_lower_is_the_mirror_of_higher(made_run):
    ahead = made_run({"sft": 0.5, "selfteach": 0.3}, tasks=["stacked"])
    mirrored = made_run({"sft": 0.5, "selfteach": 0.3}, tasks=["stacked"])
    mirrored.samples["value"] = 1 - mirrored.samples["value"]
    down, up = one(ahead, measure="absolute", threshold=-0.1, direction="lower"), one(mirrored, measure="absolute", threshold=0.1)
    assert down["effect"] == pytest.approx(-up["effect"])
    assert down["p_threshold"] == pytest.approx(up["p_threshold"])
    assert down["verdict"] == up["verdict"] == "met"


def test_rejected_share_counts_less_than_full_marks(made_run):
    run = made_run({"sft": 0.5, "selfteach": 0.3}, tasks=["stacked"])
    run.samples["value"] = run.samples["value"].replace(0.0, 0.5)
    row = one(run, kind="reject_share", threshold=-0.3, direction="lower")
    assert row["baseline_value"] == pytest.approx(0.5, abs=0.05)
    assert row["treatment_value"] == pytest.approx(0.7, abs=0.05)
    assert row["verdict"] == "contradicted"


def test_against_several_the_hardest_binds(made_run):
    run = made_run({"base": 0.2, "sft": 0.55, "selfteach": 0.56}, items=800, tasks=["stacked"])
    both, base, sft = (one(run, comparators=names) for names in (("base", "sft"), ("base",), ("sft",)))
    assert base["verdict"] == "met"
    assert sft["verdict"] == both["verdict"] == "contradicted"
    assert both["binding_comparator"] == "sft"
    assert both["effect"] == sft["effect"]
    assert both["comparator"] == "base and sft"


def test_holm_over_primary_readings_can_take_a_verdict_away(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.55}, tasks=["stacked"])
    low = one(run)["interval"][0]
    close = [claim(threshold=low - 0.002 - 1e-6 * extra) for extra in range(2)]
    alone = judge(run, file_of(close[0]))[0]
    together = judge(run, file_of(*close))
    assert alone["verdict"] == "met"
    assert [row["verdict"] for row in together] == ["inconclusive", "inconclusive"]
    assert "Holm" in together[0]["why"]
    assert together[0]["p_holm"] == pytest.approx(min(1, 2 * alone["p_value"]))


def test_cost_and_labels_are_counted(made_run):
    run = made_run({"sft": 0.4, "rlhf": 0.4, "selfteach": 0.4}, tasks=["stacked"])
    labels = one(run, kind="labels", comparators=("rlhf",), threshold=-0.3, direction="lower")
    assert labels["effect"] == pytest.approx(120 / 700 - 1)
    assert labels["verdict"] == "met"
    assert labels["p_value"] is None
    assert "counted" in labels["why"]
    assert labels["evidence"][0] == "train-selfteach-0"
    cost = one(run, kind="cost_usd", comparators=("rlhf",), threshold=-0.4, direction="lower")
    assert cost["effect"] == pytest.approx(12 / 150 - 1, abs=1e-3)
    assert cost["verdict"] == "met"
    assert cost["p_value"] < 0.05
    assert one(run, kind="labels", threshold=-0.9, direction="lower")["verdict"] == "positive but short"


def test_a_count_exactly_at_the_threshold_meets_it(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.4}, tasks=["stacked"])
    assert one(run, kind="labels", threshold=120 / 600 - 1, direction="lower")["verdict"] == "met"


def test_drop_and_retention(made_run):
    run = made_run({"sft": 0.6, "selfteach": 0.6}, drop={"sft": 0.3, "selfteach": 0.05}, items=600, tasks=["stacked", "siqa"])
    drop = one(run, kind="drop", measure="absolute", threshold=-0.15, direction="lower")
    assert drop["effect"] == pytest.approx(-0.25, abs=0.05)
    assert drop["verdict"] == "met"
    kept = one(run, kind="retention", threshold=0.15)
    assert (kept["treatment_value"], kept["baseline_value"]) == pytest.approx((0.55 / 0.6, 0.5), abs=0.05)
    assert kept["effect"] == pytest.approx(kept["treatment_value"] / kept["baseline_value"] - 1)
    assert kept["verdict"] == "met"
    assert one(run, view="perturbed", threshold=0.15)["baseline_value"] == pytest.approx(0.3, abs=0.05)


def test_tasks_at_chance_are_left_out_where_asked(made_run):
    run = made_run({"sft": 0.32, "selfteach": 0.33}, items=400, tasks=["siqa", "stacked"])
    row = one(run, above_chance_only=True)
    assert "siqa" not in row["metric_text"]
    assert row["n_items"] == 400
    with_none = made_run({"sft": 0.32, "selfteach": 0.33}, tasks=["siqa"])
    assert one(with_none, above_chance_only=True)["verdict"] == "not testable here"


def test_chance_is_asked_of_scores_beyond_1_too(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.6}, tasks=["stacked", "siqa"])
    run.samples.loc[run.samples["task"] == "stacked", "value"] *= 100
    row = one(run, above_chance_only=True)
    assert row["verdict"] == "met"
    assert "stacked" in row["metric_text"]


def test_the_validation_suite_is_in_no_claim_unless_named(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.5})
    assert "pool" not in one(run)["metric_text"]
    assert one(run, suite="pool_validation")["n_items"] == 200


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"comparators": ("dpo",)}, "dpo has no finished trial"),
        ({"suite": "holistic"}, "no task of suite holistic"),
        ({"view": "homoglyphs"}, "homoglyphs"),
        ({"kind": "cost_at_equal_quality", "threshold": -0.4, "direction": "lower"}, "checkpoints"),
        ({"kind": "leave_one_family_out"}, "family left out"),
    ],
)
def test_what_the_run_does_not_hold_is_not_testable(made_run, change, why):
    row = one(made_run({"sft": 0.4, "selfteach": 0.5}, items=20), **change)
    assert row["verdict"] == "not testable here"
    assert why in row["why"]
    assert row["effect"] is None


def test_unmatched_compute_is_not_judged_but_labels_are(made_run):
    run = made_run({"base": 0.2, "sft": 0.4, "selfteach": 0.5}, spend={"selfteach": 0.97}, tasks=["stacked"])
    for comparators in (("sft",), ("base",)):
        row = one(run, comparators=comparators)
        assert row["verdict"] == "not testable here"
        assert "selfteach-0 missed its budget by 3.0%" in row["why"]
    assert one(run, kind="cost_usd", threshold=-0.4, direction="lower")["verdict"] == "not testable here"
    assert one(run, kind="labels", threshold=-0.3, direction="lower")["verdict"] == "met"


def test_a_method_that_spent_nothing_is_unmatched(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.5}, spend={"sft": 0.0}, tasks=["stacked"])
    assert one(run)["verdict"] == "not testable here"
    run.trials["train_flops"] = np.nan
    assert one(run)["verdict"] == "not testable here"


def test_a_zero_comparator_has_no_relative_effect(made_run):
    run = made_run({"sft": 0.0, "selfteach": 0.5}, seed_sd=0.0, tasks=["stacked"])
    assert "undefined" in one(run)["why"]
    assert one(run, measure="absolute")["verdict"] == "met"


def test_one_seed_decides_nothing_and_few_seeds_are_said(made_run):
    single = one(made_run({"sft": 0.2, "selfteach": 0.9}, seeds=[0], tasks=["stacked"]))
    assert single["verdict"] == "inconclusive"
    assert "Only 1 training seed" in single["why"]
    assert "2 training seeds" in single["needed"]
    assert single["mde"] is None
    assert "Only 3 training seeds" in one(made_run({"sft": 0.2, "selfteach": 0.9}, seeds=[0, 1, 2], tasks=["stacked"]))["why"]
    assert "Only" not in one(made_run({"sft": 0.2, "selfteach": 0.9}, tasks=["stacked"]))["why"]


def test_needed_names_seeds_and_items(made_run):
    row = one(made_run({"sft": 0.4, "selfteach": 0.49}, seeds=[0, 1, 2], items=60, tasks=["stacked"], seed_sd=0.03))
    assert row["verdict"] == "inconclusive"
    assert "seeds × 60 items" in row["needed"] or "too close" in row["needed"]
    assert row["mde"] > 0


def test_the_detectable_effect_of_a_primary_reading_allows_for_the_other_claims(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.45}, seeds=[0, 1, 2, 3, 4], items=60, tasks=["stacked"], seed_sd=0.03)
    other = claim(threshold=0.1) | {"id": "other"}
    shared, _ = judge(run, file_of(claim(), other))
    assert shared["mde"] > one(run)["mde"] > 0


def test_identical_methods_are_no_miracle(made_run):
    run = made_run({"sft": 0.5}, tasks=["stacked"])
    for name in ("samples", "trials"):
        frame = getattr(run, name)
        setattr(run, name, pd.concat([frame, frame.assign(method="selfteach")], ignore_index=True))
    row = one(run, measure="absolute")
    assert row["effect"] == 0
    assert row["interval"][0] < 0 < row["interval"][1]
    assert row["p_value"] == 1
    assert row["verdict"] == "contradicted"
    assert "floor" in row["why"]


def test_unscored_items_are_left_out_on_both_sides_and_counted(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.5}, items=50, tasks=["stacked"])
    lost = (run.samples["sample_id"] == "stacked-7") & (run.samples["method"] == "sft") & (run.samples["seed"] == 2)
    run.samples.loc[lost, ["value", "status"]] = [None, "error"]
    row = one(run)
    assert (row["n_items"], row["n_dropped"]) == (49, 1)
    assert "1 of 50 items" in row["why"]


def test_a_failed_seed_is_left_out_and_named(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.5}, tasks=["stacked"])
    run.samples = run.samples[(run.samples["method"] != "sft") | (run.samples["seed"] != 3)]
    run.trials.loc[run.trials["trial_id"] == "sft-3", ["status", "train_flops"]] = ["failed", np.nan]
    row = one(run)
    assert row["n_seeds"] == 4
    assert "sft has no scores for seed 3" in row["why"]
    assert not any(stage.endswith("-3") for stage in row["evidence"])


def test_a_claim_on_a_damaged_stage_is_not_judged_and_favours_no_other(made_run):
    run = made_run({"sft": 0.4, "rlhf": 0.42, "selfteach": 0.5}, items=60, tasks=["stacked"], seed_sd=0.02)
    other = claim(comparators=("rlhf",), threshold=0) | {"id": "other"}
    lower = claim(direction="lower", threshold=0) | {"id": "lower"}
    claims = file_of(claim(threshold=0), other, lower)
    before = judge(run, claims)
    for stage in ("score-rlhf-3", "train-rlhf-3"):
        after = judge(run, claims, damaged={stage: f"{stage} was changed", "train-unused": "no evidence"})
        assert (after[1]["verdict"], after[1]["why"], after[1]["effect"]) == ("evidence changed", f"{stage} was changed", None)
        # As if the lost claim had p = 1: the family has three members still.
        assert after[0]["p_holm"] == pytest.approx(min(1, 3 * before[0]["p_value"]))
        for index in (0, 2):
            assert after[index]["p_value"] == before[index]["p_value"]
            assert after[index]["p_holm"] >= before[index]["p_holm"]
            assert after[index]["mde"] == before[index]["mde"]
    assert judge(run, claims, damaged={"train-unused": "no evidence"}) == before


def test_order_of_rows_does_not_matter(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.5}, items=50)
    first = judge(run, load_claims(REVIEW))
    run.samples = run.samples.sample(frac=1, random_state=0).sort_values(
        "task", key=lambda names: names.map({"siqa": 0, "logiqa": 1, "stacked": 2, "pool": 3}), kind="stable"
    )
    second = judge(run, load_claims(REVIEW))
    for one_row, other in zip(first, second, strict=True):
        assert one_row["verdict"] == other["verdict"]
        assert one_row["effect"] == pytest.approx(other["effect"])


def test_the_review_is_judged_whole_and_can_be_written(made_run):
    run = made_run({"base": 0.35, "sft": 0.45, "rlhf": 0.42, "selfteach": 0.5}, seeds=[0, 1, 2], items=60)
    claims = load_claims(REVIEW)
    rows = judge(run, claims)
    assert len(rows) == sum(len(claim.readings) for claim in claims.claims)
    assert all(set(row) >= KEYS for row in rows)
    json.loads(json.dumps(rows, allow_nan=False))
    primaries = [row for row in rows if row["primary"]]
    assert len(primaries) == 5
    assert all(row["p_holm"] is not None for row in primaries)
    assert all(row["p_holm"] is None for row in rows if not row["primary"])


def test_a_run_without_any_score_is_not_testable(made_run):
    run = made_run({"sft": 0.4, "selfteach": 0.5}, items=3)
    run.samples = run.samples.iloc[:0]
    assert {row["verdict"] for row in judge(run, load_claims(REVIEW)) if row["reading"].startswith("relative, vs")} == {"not testable here"}


def test_a_task_that_the_study_does_not_describe_is_named(made_run):
    run = made_run({"sft": 0.4}, items=3)
    with pytest.raises(SpecError, match="siqa"):
        judge(run, load_claims(REVIEW), task_info={"sqia": {}})


def false_met(made_run, replications, **world):
    met = 0
    for seed in range(replications):
        run = made_run({"sft": 0.4, "selfteach": 0.5}, items=80, tasks=["stacked", "siqa"], rng_seed=seed, **world)
        met += one(run)["verdict"] == "met"
    return met / replications


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(0, 1, 2), (0, 1, 2, 3, 4)])
def test_false_met_at_the_threshold_is_at_most_half_alpha(made_run, seeds):
    """The true effect is the claimed one exactly: "beyond the threshold" is then false."""
    bound = 0.0375 if len(seeds) == 3 else 0.025
    assert false_met(made_run, 400, seeds=seeds, seed_sd=0.06) < bound + 3 * (bound * (1 - bound) / 400) ** 0.5
