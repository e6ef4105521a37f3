"""The variance rules against closed forms and invariances; their error rates are in tests/verdicts/test_calibration.py."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

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
    assert variance == pytest.approx(stats.chi2.ppf(0.01, 2) / 2)
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
