"""Estimators against scipy and statsmodels where they compute the same thing, and against values recorded from evalstats 0.3.3."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from harness.stats.clustered import paired_t
from harness.stats.intervals import jeffreys, wilson
from harness.stats.multiplicity import benjamini_hochberg, holm
from harness.stats.paired import mcnemar_exact, sign_flip

A = np.array([0.9, 0.4, 0.75, 0.6, 0.31, 0.88, 0.52, 0.47, 0.99, 0.2, 0.65, 0.7])
B = np.array([0.7, 0.5, 0.7, 0.35, 0.3, 0.6, 0.55, 0.4, 0.8, 0.25, 0.6, 0.41])


def test_evalstats_paired_t():
    """evalstats.core.paired.pairwise_differences(np.stack([A, B]), 0, 1, method="t_interval")"""
    found = paired_t(A, B)
    assert found.estimate == pytest.approx(0.10083333333333334, abs=1e-9)
    assert found.interval == pytest.approx((0.014628081229744155, 0.18703858543692253), abs=1e-9)
    assert found.p_value == pytest.approx(0.02584382453790317, abs=1e-9)


def test_evalstats_sign_test_is_exact_mcnemar():
    """pairwise_differences(np.stack([a, b]), 0, 1, method="sign_test") with 10 both right, 3 wins, 9 losses, 4 both wrong."""
    found = mcnemar_exact(np.repeat([1, 1, 0, 0], [10, 3, 9, 4]), np.repeat([1, 0, 1, 0], [10, 3, 9, 4]))
    assert (found.estimate, found.p_value) == pytest.approx((-0.23076923076923078, 0.14599609375), abs=1e-9)


def test_evalstats_intervals_of_proportions():
    """evalstats.core.resampling.wilson_ci(7, 50, .05), jeffreys_ci(7, 50, .05), wilson_ci(0, 20, .05), wilson_ci(20, 20, .1)"""
    assert wilson(7, 50) == pytest.approx((0.06950833427016294, 0.2618619371058554), abs=1e-9)
    assert jeffreys(7, 50) == pytest.approx((0.0648717011505185, 0.25532502815639163), abs=1e-9)
    assert wilson(0, 20) == pytest.approx((0.0, 0.16112515805281938), abs=1e-9)
    assert wilson(20, 20, level=0.9) == pytest.approx((0.8808421626390356, 1.0), abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(1, 12), (250, 1000), (999, 1000)])
def test_statsmodels_intervals_of_proportions(successes, n):
    assert wilson(successes, n) == pytest.approx(proportion_confint(successes, n, method="wilson"), abs=1e-9)
    assert jeffreys(successes, n) == pytest.approx(proportion_confint(successes, n, method="jeffreys"), abs=1e-9)


@pytest.mark.parametrize(("wins", "losses"), [(1, 0), (7, 19), (300, 260), (4000, 3800)])
def test_statsmodels_mcnemar(wins, losses):
    a, b = np.repeat([1, 0], [wins, losses]), np.repeat([0, 1], [wins, losses])
    assert mcnemar_exact(a, b).p_value == pytest.approx(mcnemar([[5, wins], [losses, 5]], exact=True).pvalue, abs=1e-9)


def test_scipy_permutation_test_goes_the_same_way():
    """Of 2^12 sign patterns scipy goes through all, ours through 50,000 random ones."""
    exact = stats.permutation_test((A, B), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip(A, B, rng=np.random.default_rng(0), draws=50_000).p_value == pytest.approx(exact, abs=0.004)


def test_statsmodels_adjusted_p_values():
    p = np.random.default_rng(1).random(25) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-9)
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1], abs=1e-9)
