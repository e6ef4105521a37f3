"""The variance rules against closed forms and against the normal theory that they approximate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats
from scipy.stats import qmc

from harness.stats.freedom import CORRECTION, variance_and_df


def rule(seed, item, residual, *, n_seeds, item_df=99, name="corrected"):
    variance, df = variance_and_df(
        np.array(seed, dtype=float), np.array([item], dtype=float), np.array([residual], dtype=float), np.array([item_df]),
        n_seeds=n_seeds, rule=name,
    )  # fmt: skip
    return float(variance), float(df)


def test_without_item_variance_it_is_the_t_test_on_seed_means():
    assert rule(2.0, 0.9, 1.0, n_seeds=4) == (2.0, pytest.approx(3))


def test_with_items_alone_it_is_the_t_test_on_items():
    variance, df = rule(0.0, 5.0, 0.0, n_seeds=4, item_df=39)
    assert variance == 5
    assert df == pytest.approx(39)


def test_general_case_is_the_formula():
    seed, item, residual, nu, item_df = 2.0, 5.0, 1.0, 4, 39
    variance, df = rule(seed, item, residual, n_seeds=nu + 1, item_df=item_df)
    x = (item - residual) / seed
    assert variance == seed + item - residual
    assert df == pytest.approx(1 / (1 / (nu * (1 + x) ** 2 - CORRECTION * x) + ((item - residual) / variance) ** 2 / item_df))


def test_seeds_that_agree_beyond_chance_keep_a_floor():
    variance, df = rule(0.0, 0.5, 1.0, n_seeds=3)
    assert variance == pytest.approx(stats.chi2.ppf(0.025, 2) / 2)
    assert df == pytest.approx(2)


def test_df_never_falls_below_that_of_the_seeds():
    for x in np.geomspace(0.01, 100, 50):
        for n_seeds in (2, 3, 5):
            assert rule(1.0, x, 0.0, n_seeds=n_seeds, item_df=1e12)[1] >= n_seeds - 1 - 1e-6


def test_it_is_continuous_where_a_component_reaches_zero():
    for below, above in (((2, 1 - 1e-9, 1), (2, 1 + 1e-9, 1)), ((1e-12, 3, 0), (0, 3, 0))):
        assert rule(*below, n_seeds=4) == pytest.approx(rule(*above, n_seeds=4), rel=1e-6)


def test_arrays_give_what_their_elements_give():
    rng = np.random.default_rng(0)
    seed_R, item_R_K, residual_R_K, item_df_K = rng.random(20), rng.random((20, 3)), rng.random((20, 3)), np.array([9, 19, 49])
    for name in ("corrected", "satterthwaite", "hillis"):
        variance_R, df_R = variance_and_df(seed_R, item_R_K, residual_R_K, item_df_K, n_seeds=4, rule=name)
        for r in range(20):
            one = variance_and_df(seed_R[r : r + 1], item_R_K[r : r + 1], residual_R_K[r : r + 1], item_df_K, n_seeds=4, rule=name)
            assert (one[0][0], one[1][0]) == (variance_R[r], df_R[r])


def error_rate(name, n_seeds, n_items, *, seed, item, residual=1.0, alpha=0.05):
    """Exact under normality up to the error of 4096 quasi-random points: given the mean squares, the mean is normal and independent."""
    nu = n_seeds - 1
    points = qmc.Sobol(3, seed=7).random_base2(12)
    dfs = (nu, n_items - 1, nu * (n_items - 1))
    seed_ms, item_ms, residual_ms = (stats.chi2.ppf(points[:, k], df) / df for k, df in enumerate(dfs))
    variance, df = variance_and_df(
        (seed + residual) * seed_ms, ((item + residual) * item_ms)[:, None], (residual * residual_ms)[:, None], np.array([n_items - 1]),
        n_seeds=n_seeds, rule=name,
    )  # fmt: skip
    critical = np.sqrt(variance) * stats.t.ppf(1 - alpha / 2, np.minimum(df, 1e9))
    return float((2 * special.ndtr(-critical / np.sqrt(seed + item + residual))).mean())


@pytest.mark.parametrize("n_seeds", [3, 4, 5, 10])
@pytest.mark.parametrize("n_items", [50, 1000])
def test_error_rate_under_normality_is_between_40_and_55_in_a_thousand(n_seeds, n_items):
    rates = [
        error_rate("corrected", n_seeds, n_items, seed=seed, item=item)
        for seed in (0, 0.2, 0.5, 1, 2, 5, 15, 50)
        for item in (0, 0.1, 0.5, 1, 3, 10, 50)
    ]
    assert min(rates) > 0.04
    assert max(rates) < 0.055


def test_the_rules_it_replaced_are_worse_at_three_seeds():
    assert error_rate("satterthwaite", 3, 200, seed=2, item=0.1) > 0.065
    assert error_rate("satterthwaite", 3, 200, seed=0, item=0) < 0.035
    assert error_rate("hillis", 3, 200, seed=5, item=3) > 0.065
