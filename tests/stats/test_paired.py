from itertools import product

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from harness.errors import SpecError
from harness.stats.paired import mcnemar_exact, sign_flip, sign_flip_pairs


def pair(both, wins, losses, neither):
    a = np.repeat([1, 1, 0, 0], [both, wins, losses, neither])
    b = np.repeat([1, 0, 1, 0], [both, wins, losses, neither])
    return a, b


@pytest.mark.parametrize("table", [(101, 59, 121, 33), (10, 3, 9, 4), (5, 0, 6, 1), (3, 4, 4, 0)])
def test_mcnemar_agrees_with_statsmodels(table):
    both, wins, losses, neither = table
    a, b = pair(*table)
    found = mcnemar_exact(a, b)
    assert found.p_value == pytest.approx(mcnemar([[both, wins], [losses, neither]], exact=True).pvalue)
    assert found.estimate == pytest.approx(a.mean() - b.mean())
    assert found.n_discordant == wins + losses


def test_mcnemar_without_discordant_items_has_p_one():
    assert mcnemar_exact([1, 0, 1], [1, 0, 1]).p_value == 1


def test_mcnemar_refuses_graded_scores():
    with pytest.raises(SpecError, match="sign_flip"):
        mcnemar_exact([0.5, 1], [0, 1])


def test_sign_flip_approaches_the_exact_distribution():
    """Five differences of +1: 2 of 32 sign patterns are as extreme."""
    found = sign_flip(np.ones(5), np.zeros(5), rng=np.random.default_rng(0), draws=40_000)
    assert found.p_value == pytest.approx(2 / 32, abs=0.005)


def test_sign_flip_p_is_never_zero_and_one_for_equal_scores():
    rng = np.random.default_rng(1)
    assert sign_flip(np.ones(200), np.zeros(200), rng=rng, draws=99).p_value == pytest.approx(1 / 100)
    assert sign_flip(np.ones(9), np.ones(9), rng=rng, draws=99).p_value == 1


def test_sign_flip_repeats_with_its_seed_and_not_with_another():
    a, b = np.random.default_rng(2).random((2, 30))
    draws = [sign_flip(a, b, rng=np.random.default_rng(seed), draws=500).p_value for seed in (5, 5, 6)]
    assert draws[0] == draws[1] != draws[2]


def test_clusters_flip_together():
    """Ten copies of each of 4 items hold no more evidence than the 4."""
    a, clusters = np.repeat(np.ones(4), 10), np.repeat(np.arange(4), 10)
    found = sign_flip(a, np.zeros(40), clusters_N=clusters, rng=np.random.default_rng(3), draws=20_000)
    assert found.p_value == pytest.approx(2 / 16, abs=0.01)


def test_unequal_lengths_and_gaps_are_refused():
    with pytest.raises(SpecError, match="equal length"):
        sign_flip([1, 2], [1], rng=np.random.default_rng(0))
    with pytest.raises(SpecError, match="1 of 2 scores are missing"):
        mcnemar_exact([1, np.nan], [1, 0])


def flipped_p(totals):
    """Two-sided p by going through all 2^C sign patterns."""
    observed = abs(sum(totals))
    sums = [abs(sum(sign * total for sign, total in zip(signs, totals, strict=True))) for signs in product((1, -1), repeat=len(totals))]
    return np.mean([value >= observed for value in sums])


def test_mcnemar_with_clusters_goes_through_all_sign_patterns_of_clusters():
    rng = np.random.default_rng(4)
    for _ in range(20):
        labels = np.sort(rng.integers(0, 9, 40))
        a, b = (rng.random((2, 40)) < [[0.7], [0.4]]).astype(int)
        totals = [(a - b)[labels == label].sum() for label in np.unique(labels)]
        found = mcnemar_exact(a, b, clusters_N=labels)
        assert found.p_value == pytest.approx(flipped_p(totals), abs=1e-9)
        assert found.n_clusters == len(totals)


def test_mcnemar_with_clusters_of_one_is_mcnemar_and_copies_add_nothing():
    a, b = pair(10, 3, 9, 4)
    labels = [f"item {index}" for index in range(len(a))]
    alone = mcnemar_exact(a, b)
    assert mcnemar_exact(a, b, clusters_N=labels).p_value == pytest.approx(alone.p_value, abs=1e-12)
    copied = mcnemar_exact(np.repeat(a, 7), np.repeat(b, 7), clusters_N=np.repeat(labels, 7))
    assert copied.p_value == pytest.approx(alone.p_value, abs=1e-12)


def test_mcnemar_of_many_items_and_clusters():
    rng = np.random.default_rng(5)
    a, b = (rng.random((2, 30_000)) < [[0.52], [0.5]]).astype(int)
    whole = mcnemar_exact(a, b)
    wins, losses = (a > b).sum(), (a < b).sum()
    assert whole.p_value == pytest.approx(mcnemar([[0, wins], [losses, 0]], exact=True).pvalue, rel=1e-9)
    grouped = mcnemar_exact(a, b, clusters_N=np.arange(30_000) // 10)
    flipped = sign_flip(a, b, clusters_N=np.arange(30_000) // 10, rng=rng)
    assert flipped.p_value == pytest.approx(grouped.p_value, abs=0.01)


def test_pairs_share_their_signs_and_equal_single_tests():
    scores, labels = np.random.default_rng(6).random((60, 3)), np.repeat(np.arange(20), 3)
    together = sign_flip_pairs(scores, [(0, 1), (2, 1)], rng=np.random.default_rng(7), clusters_N=labels, draws=999)
    alone = [sign_flip(scores[:, a], scores[:, b], rng=np.random.default_rng(7), clusters_N=labels, draws=999) for a, b in [(0, 1), (2, 1)]]
    assert together == alone


def test_no_draws_and_no_such_pair_are_refused():
    with pytest.raises(SpecError, match="draws"):
        sign_flip([1, 2], [1, 1], rng=np.random.default_rng(0), draws=0)
    with pytest.raises(SpecError, match="pairs"):
        sign_flip_pairs(np.ones((4, 2)), [(0, 2)], rng=np.random.default_rng(0))
