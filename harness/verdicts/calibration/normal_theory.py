"""Error rates under normal scores by quadrature, without simulation noise: what the default degrees of freedom were chosen by.

The mean squares of the crossed model are independent χ² variables, and independent of the mean. So the chance that |mean| exceeds its
critical value is an average over three χ² variables (Sobol points) of a normal tail.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
from scipy import stats
from scipy.special import ndtr
from scipy.stats import qmc

from harness.stats.freedom import DegreesOfFreedom, FloatArray, variance_and_df
from harness.stats.student import t_quantile

SEED_PARTS = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0, 7.0, 14.0, 40.0, 150.0)
ITEM_PARTS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 50.0)
"""Contributions of seeds and of items to the variance of the mean, in units of the residual's."""
ALPHAS = (0.10, 0.05, 0.01)


@cache
def _mean_squares(df: tuple[int, ...], log2_points: int) -> FloatArray:
    """(3, points): χ²/df on equidistributed points."""
    points = qmc.Sobol(len(df), seed=0).random_base2(log2_points)
    return np.stack([stats.chi2.ppf(points[:, k], freedom) / freedom for k, freedom in enumerate(df)])


def error_rate(
    rule: DegreesOfFreedom, n_seeds: int, n_items: int, *, seed: float, item: float, alpha: float = 0.05, log2_points: int = 13
) -> float:
    """Chance of p < alpha for a true mean of 0; `seed` and `item` as in SEED_PARTS and ITEM_PARTS."""
    seed_df, item_df = n_seeds - 1, n_items - 1
    seed_R, item_R, residual_R = _mean_squares((seed_df, item_df, seed_df * item_df), log2_points)
    variance_R, df_R = variance_and_df(
        (seed + 1) * seed_R, ((item + 1) * item_R)[:, None], residual_R[:, None], np.array([item_df]), n_seeds=n_seeds, rule=rule
    )
    critical_R = t_quantile(1 - alpha / 2, df_R) * np.sqrt(variance_R)
    return float(2 * ndtr(-critical_R / np.sqrt(seed + item + 1)).mean())


def extremes(rule: DegreesOfFreedom, n_seeds: int, n_items: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """Lowest and highest error rate over SEED_PARTS × ITEM_PARTS."""
    found = [error_rate(rule, n_seeds, n_items, seed=seed, item=item, alpha=alpha) for seed, item in product(SEED_PARTS, ITEM_PARTS)]
    return min(found), max(found)


def rows() -> Iterator[tuple[int, int, str, dict[float, tuple[float, float]]]]:
    """Seeds, items, rule, and per alpha the extremes."""
    for n_seeds, n_items in product((2, 3, 5, 10), (50, 1000)):
        rules: tuple[DegreesOfFreedom, ...] = ("corrected", "satterthwaite", "hillis")
        for rule in rules:
            yield n_seeds, n_items, rule, {alpha: extremes(rule, n_seeds, n_items, alpha=alpha) for alpha in ALPHAS}
