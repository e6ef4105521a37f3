import numpy as np
import pandas as pd
import pytest
from synthetic_run import synthetic_run

from harness.report import views


def sample_rows(cells, *, suite="complex_understanding", perturbation="clean", metric="acc"):
    """`cells`: (task, method, seed, values by item; None for an unscored one)."""
    return pd.DataFrame(
        [
            {"suite": suite, "task": task, "method": method, "seed": seed, "perturbation": perturbation, "sample_id": f"{task}-{item}",
             "metric": metric, "value": value, "status": "unparsed" if value is None else "scored"}
            for task, method, seed, values in cells
            for item, value in enumerate(values)
        ]
    )  # fmt: skip


def test_seed_scores_weigh_tasks_equally_and_skip_unscored_items():
    samples = sample_rows([("a", "sft", 0, [1, 0, 1, 1]), ("b", "sft", 0, [0, 1, None]), ("a", "sft", 1, [0, 0, 0, 0])])
    scores = views.seed_scores(samples, ["a", "b"])
    assert scores["sft"][0] == {"a": 0.75, "b": 0.5, "": 0.625}
    assert scores["sft"][1] == {"a": 0.0}, "no macro mean where a task is missing"


def test_primary_metric_is_the_study_s_or_the_first_written():
    samples = pd.concat(
        [
            sample_rows([("a", "sft", 0, [1]), ("b", "sft", 0, [1])]),
            sample_rows([("a", "sft", 0, [0]), ("b", "sft", 0, [0])], metric="norm"),
        ]
    )
    chosen = views.primary_samples({"tasks": {"a": {"metric": "norm"}}}, samples)
    assert dict(zip(chosen["task"], chosen["metric"], strict=True)) == {"a": "norm", "b": "acc"}


def test_pool_validation_pairs_each_seed_with_the_untrained_model():
    cells = [("v", "base", 0, [0, 0, 1, 0]), ("v", "base", 1, [0, 0, 1, 0]), ("v", "sft", 0, [1, 1, 1, 0]), ("v", "sft", 1, [0, 0, 1, 1])]
    (row,) = views.pool_validation(sample_rows(cells, suite="pool_validation"))
    assert (row["before"], row["after"], row["changes"], row["mean_change"], row["items"]) == (0.25, 0.625, [0.5, 0.25], 0.375, 4)


def test_pool_validation_needs_the_untrained_model():
    assert views.pool_validation(sample_rows([("v", "sft", 0, [1])], suite="pool_validation")) == []


def test_phase_shares_sum_to_one_and_leave_out_scoring():
    run = synthetic_run(items=2)
    scoring = run.ledger.iloc[:1].assign(account="eval", flops=1e20)
    shares = views.phase_shares(pd.concat([run.ledger, scoring]))
    assert set(shares) == {"sft", "rlhf", "evol_instruct", "selfteach"}
    assert all(sum(row.values()) == pytest.approx(1) for row in shares.values())
    assert shares["rlhf"]["update"] == pytest.approx(0.45)


def test_spend_shows_share_of_budget_and_padding_apart():
    run = synthetic_run(items=2)
    rows = views.spend(run.trials, run.ledger)
    trained = [row for row in rows if row["method"] == "sft"]
    assert all(0.99 <= row["share"] <= 1 and row["tokens"] > row["padding"] > 0 for row in trained)
    assert next(row for row in rows if row["method"] == "base")["share"] == 0


def test_methods_without_randomness_are_listed_once():
    run = synthetic_run(items=2)
    rows = views.spend(run.trials, run.ledger)
    assert [(row["method"], row["shared"]) for row in rows if row["method"] in ("base", "sft")] == [("base", True), *[("sft", False)] * 3]


def test_claims_keep_their_order_and_lead_with_the_primary_reading():
    found = views.claims(
        [{"claim_id": "b", "reading": "x"}, {"claim_id": "a", "reading": "y"}, {"claim_id": "b", "reading": "z", "primary": True}]
    )
    assert [(claim.primary["reading"], len(claim.others)) for claim in found] == [("z", 1), ("y", 0)]


def test_summary_counts_verdicts_and_names_the_best():
    found = views.claims([{"claim_id": name, "verdict": verdict} for name, verdict in [("a", "met"), ("b", "met"), ("c", "contradicted")]])
    rows = [{"method": "sft", "value": 0.4, "interval": [0.3, 0.5], "tied_with_best": True}, {"method": "base", "value": 0.2}]
    counted, ranked = views.summary(found, {"rows": rows, "matched": True})
    assert "3 claims" in counted
    assert "2 met, 1 contradicted" in counted
    assert "sft" in ranked
    assert "base" not in ranked
    rows[1]["tied_with_best"] = True
    rows += [{"method": name, "value": 0.1, "tied_with_best": True} for name in ("rlhf", "dpo")]
    assert "cannot be told apart from base, rlhf and dpo" in views.summary([], {"rows": rows, "matched": True})[0]


def test_summary_ranks_nothing_when_compute_was_not_matched():
    (sentence,) = views.summary([], {"rows": [{"method": "sft", "value": 0.4}], "matched": False})
    assert "not ranked" in sentence
    assert "sft" not in sentence


def test_corpus_counts_group_reasons_without_their_figures():
    corpus = [
        {"operation": "deepen", "kept": True, "verified": True},
        {"operation": "deepen", "kept": False, "verified": None, "reject_reason": "near duplicate: ROUGE-L 0.81"},
        {"operation": "breadth", "kept": False, "verified": None, "reject_reason": "near duplicate: ROUGE-L 0.9"},
    ]
    operations, reasons = views.corpus_counts(corpus)
    assert operations == [
        {"operation": "deepen", "made": 2, "kept": 1, "verified": 1},
        {"operation": "breadth", "made": 1, "kept": 0, "verified": 0},
    ]
    assert reasons == [("near duplicate", 2)]


def test_lineages_prefer_long_ones_and_show_every_reason_once():
    def row(name, depth, kept, reason=None):
        return {"id": name, "operation": "deepen", "lineage": [{}] * depth, "kept": kept, "reject_reason": reason}

    corpus = [row("short", 1, True), row("long", 4, True), row("r1", 1, False, "over length: 90"), row("r2", 1, False, "over length: 91")]
    assert [found["id"] for found in views.lineages(corpus)] == ["long", "short", "r1"]
    assert views.lineages([]) == []


@pytest.mark.parametrize(("seeds", "warned"), [(1, True), (4, True), (5, False)])
def test_few_seeds_are_noted(seeds, warned):
    trials = pd.DataFrame({"seed": np.arange(seeds), "status": "finished"})
    assert any("training seed" in note for note in views.notes({}, trials, {}, [{}])) == warned
