"""Agreement statistics against hand counts, statsmodels and theory."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

from harness.core.budget import Ledger
from harness.core.records import Constraint
from harness.instructions.render import compose
from harness.seeds import generator
from tasks.agreement import agreement_report, panel
from tasks.annotators import Annotators, AnnotatorsConfig
from tasks.pool import MixedPool, MixedPoolConfig

NAMES = ["a", "b", "c", "d"]


def items(n: int) -> list[tuple]:
    """Pairs in which the first response is better by every criterion, but for the places in turn."""
    made = [compose(pool="p", family="f", body=f"Describe garden {index}.", constraints=[Constraint("no_commas")]) for index in range(n)]
    good, bad = "The garden shines.", "Well, no, never, ###, hmm"
    return [(one, good, bad) if index % 2 else (one, bad, good) for index, one in enumerate(made)]


def measured(votes: np.ndarray, clusters: list | None = None) -> dict:
    places = list(range(votes.shape[1])) if clusters is None else clusters
    return panel(votes, names=NAMES[: len(votes)], clusters_N=places, rng=np.random.default_rng(0))


def test_agreement_of_known_votes() -> None:
    votes = np.array([[True, True, False, False], [True, False, False, True], [True, True, False, False]])
    found = measured(votes)
    assert found["agreement"]["estimate"] == pytest.approx((0.5 + 1.0 + 0.5) / 3)
    assert found["cohen_kappa"]["a and c"]["estimate"] == pytest.approx(1)
    assert found["cohen_kappa"]["a and b"]["estimate"] == pytest.approx(0)


def test_kappas_equal_those_of_statsmodels() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(300) < 0.4
    votes = np.array([truth ^ (rng.random(300) < noise) for noise in (0.1, 0.2, 0.3, 0.45)])
    found = measured(votes)
    table, _ = aggregate_raters(votes.T.astype(int))
    assert found["fleiss_kappa"]["estimate"] == pytest.approx(fleiss_kappa(table), abs=1e-12)
    for one, other in combinations(range(4), 2):
        counts = np.histogram2d(votes[one], votes[other], bins=2)[0]
        reference = cohens_kappa(counts)
        ours = found["cohen_kappa"][f"{NAMES[one]} and {NAMES[other]}"]
        assert ours["estimate"] == pytest.approx(reference.kappa, abs=1e-12)
        assert ours["interval"] == pytest.approx([reference.kappa_low, reference.kappa_upp], abs=0.03)


def test_annotators_of_one_mind_agree_as_theory_says() -> None:
    """Flips of probability p: two of one mind agree in 1 - 2p(1 - p) of cases, kappa is (1 - 2p)^2 where both answers are as frequent."""
    report = agreement_report(*bought(AnnotatorsConfig(), items(3000)), rng=np.random.default_rng(0))
    assert report["labels"]["own_criterion"]["agreement"] == pytest.approx(0.75, abs=0.03)
    assert report["panel"]["agreement"]["estimate"] == pytest.approx(0.625, abs=0.02)
    assert report["panel"]["fleiss_kappa"]["estimate"] == pytest.approx(0.25, abs=0.04)
    low, high = report["panel"]["fleiss_kappa"]["interval"]
    assert low < 0.25 < high
    assert report["panel_without_noise"]["agreement"]["estimate"] == 1
    assert sum(annotator["comparisons"] for annotator in report["annotators"].values()) == report["comparisons"] == 3000
    json.dumps(report, allow_nan=False)


def bought(config: AnnotatorsConfig, pairs: list) -> tuple:
    pool, rng = Annotators(config), np.random.default_rng(3)
    return pool, pairs, [pool.label(*pair, rng=rng) for pair in pairs]


def test_equally_good_responses_are_counted_apart() -> None:
    even = [(one, first, first + " ") for one, first, _ in items(10)]
    report = agreement_report(*bought(AnnotatorsConfig(), even), rng=np.random.default_rng(0))
    assert report["labels"]["own_criterion"] == {"agreement": None, "interval": None, "n": 0, "even": 10}


def test_repeated_comparisons_of_an_instruction_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    once = np.array([(truth := rng.random(60) < 0.5), truth ^ (rng.random(60) < 0.3)])
    votes = np.tile(once, 10)
    apart, together = measured(votes), measured(votes, list(range(60)) * 10)
    width = lambda found: np.ptp(found["agreement"]["interval"])  # noqa: E731
    assert width(together) > 2.5 * width(apart)


def test_without_disagreement_there_is_no_kappa_and_one_instruction_has_no_interval() -> None:
    found = measured(np.ones((2, 5), dtype=bool))
    assert found["agreement"]["estimate"] == 1
    assert found["fleiss_kappa"] == found["cohen_kappa"]["a and b"] == {"estimate": None, "interval": None}
    assert measured(np.array([[True, False], [False, True]]), ["x", "x"])["fleiss_kappa"]["interval"] is None


def test_a_pool_that_sold_comparisons_reports_and_another_does_not() -> None:
    ledger, rng = Ledger(), np.random.default_rng(0)
    pool = MixedPool(MixedPoolConfig(seed_demonstrations=2), ledger=ledger, rng=generator("x"), ngrams=frozenset())
    assert pool.reports() == {}
    pool.preferences([(prompt, "one answer", "another, longer answer") for prompt in pool.prompts(6, rng=rng)], rng=rng)
    before = dict(ledger.counters)
    report = pool.reports()["annotators.json"]
    assert report["comparisons"] == 6
    assert report == pool.reports()["annotators.json"]
    assert ledger.counters == before
    profile = [{"name": "one", "weights": {"brevity": 1}}]
    alone = MixedPoolConfig.model_validate({"seed_demonstrations": 2, "annotators": {"profiles": profile}})
    single = MixedPool(alone, ledger=ledger, rng=generator("x"), ngrams=frozenset())
    single.preferences([(prompt, "a", "b") for prompt in single.prompts(2, rng=rng)], rng=rng)
    assert "panel" not in single.reports()["annotators.json"]


def test_held_out_demonstrations_were_never_handed_out_and_cost_nothing() -> None:
    ledger, rng = Ledger(), np.random.default_rng(0)
    pool = MixedPool(MixedPoolConfig(seed_demonstrations=10), ledger=ledger, rng=generator("x"), ngrams=frozenset())
    shown = [*pool.seeds(), *pool.demonstrations(40, rng=rng)]
    seen = {one.instruction.text for one in shown} | {prompt.text for prompt in pool.prompts(40, rng=rng)}
    before = dict(ledger.counters)
    kept = pool.held_out(30, rng=rng)
    assert len({one.instruction.text for one in kept}) == 30
    assert not seen & {one.instruction.text for one in kept}
    assert ledger.counters == before
