"""AUC, its error and the hit rate of a membership attack against closed forms and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.errors import SpecError
from harness.stats.membership import attack, auc, true_positive_rate


def test_auc_is_the_share_of_pairs_in_order_with_ties_half() -> None:
    members, others = np.array([3.0, 2.0, 2.0, 5.0]), np.array([2.0, 1.0, 4.0])
    pairs = [(m > o) + 0.5 * (m == o) for m in members for o in others]
    assert auc(members, others)[0] == pytest.approx(np.mean(pairs))
    assert auc(members, others)[0] == pytest.approx(stats.mannwhitneyu(members, others).statistic / 12)


def test_the_error_is_delongs() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.normal(0.5, 1, 30), rng.normal(0, 1, 40)
    wins = (members[:, None] > others[None, :]).astype(float)
    delong = wins.mean(axis=1).var(ddof=1) / 30 + wins.mean(axis=0).var(ddof=1) / 40
    assert auc(members, others)[1] == pytest.approx(np.sqrt(delong))


def test_intervals_cover_the_truth_of_normal_scores() -> None:
    truth = stats.norm.cdf(0.7 / np.sqrt(2))
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        members, others = rng.normal(0.7, 1, 40), rng.normal(0, 1, 40)
        area, se = auc(members, others)
        from harness.stats.intervals import wilson_mean

        low, high = wilson_mean(area, se, 40)
        hits += low <= truth <= high
    assert 0.9 <= hits / 200 <= 0.99


def test_perfect_and_useless_attacks_have_intervals_that_do_not_collapse() -> None:
    rng = np.random.default_rng(2)
    perfect = attack(np.arange(10) + 100.0, np.arange(10.0), rng=rng)
    assert (perfect.auc, perfect.tpr) == (1.0, 1.0)
    assert perfect.auc_interval[0] < 0.9
    useless = attack(np.zeros(10), np.zeros(10), rng=rng)
    assert (useless.auc, useless.tpr) == (0.5, 0.0)
    assert useless.tpr_interval[1] > 0.2
    assert useless.auc_interval[0] < 0.5 < useless.auc_interval[1]


def test_hits_are_counted_above_a_threshold_that_few_others_pass() -> None:
    others = np.arange(100.0)
    assert true_positive_rate(np.array([99.5, 98.5, 97.5, 0.0]), others, fpr=0.01) == 0.5, "one of 100 others may pass: 99"
    assert true_positive_rate(np.array([98.5, 99.5]), np.arange(50.0) + 50, fpr=0.01) == 0.5, "of 50 others none may pass"


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(SpecError, match="at least 2"):
        attack([1.0], [1.0, 2.0], rng=np.random.default_rng(0))
    with pytest.raises(SpecError, match="finite"):
        attack([1.0, np.nan], [1.0, 2.0], rng=np.random.default_rng(0))
