"""Variance of a mean over seeds × items and its degrees of freedom, from mean squares: the default rule and two it was chosen over.

In contributions to the variance of the mean, A = MS_S/(S·N), B = MS_I/(S·N), C = MS_E/(S·N), that variance is E[A + B − C]. N is large
beside S, so what makes small samples hard is A, a χ² on ν = S − 1 degrees of freedom; t = max(B − C, 0) is nearly known.

"corrected" (default): A is no less than the 1 % point of what C alone would give it, C·χ²_ν(.01)/ν; the variance is A + t; with x = t/A
    df = max(ν·(1 + x)² − 4.5·x, ν),    1/df + (t/(A + t))²/df_items  where items vary.
ν·(1 + x)² is Satterthwaite's estimate for A + t. With few seeds it is too large, most so where A came out small by luck. −4.5·x is an order
of 1/ν smaller, as the next terms of Welch's and Aspin's series are; with 4.5 the error rate at nominal .05 lies between .043 and .054 for
three or more seeds and 50 or more items, whatever the components (normal theory; 4: .043–.057, 5: .042–.054; docs/statistics.md). A is not
raised to C where seeds agree better than chance: that would help if seeds do not differ, and costs half as many false alarms again if
they do.

Sources: Satterthwaite (1946); Welch (1947) and Aspin (1948) for the series; Hillis (2007) for "hillis".
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]
DegreesOfFreedom = Literal["corrected", "satterthwaite", "hillis"]
CORRECTION = 4.5
FLOOR_TAIL = 0.01


def variance_and_df(
    seed: FloatArray, item_K: FloatArray, residual_K: FloatArray, item_df_K: npt.NDArray[Any], *, n_seeds: int, rule: DegreesOfFreedom
) -> tuple[FloatArray, FloatArray]:
    """Variances of the mean and their degrees of freedom (infinite where nothing was estimated), elementwise over leading axes.

    Args:
        seed: A, any shape.
        item_K, residual_K: B and C of each task, the shape of `seed` and a last axis of K tasks; K = 0: values exist once a seed.
        item_df_K: clusters of items less one, per task.
    """
    item_df_K = np.asarray(item_df_K, dtype=np.float64)
    seed_df = n_seeds - 1
    if not item_K.shape[-1]:
        return seed, np.full_like(seed, max(seed_df, 1))
    item, residual = item_K.sum(axis=-1), residual_K.sum(axis=-1)
    item_df = _pooled(item_K, item_df_K)
    if not seed_df:
        return item, item_df
    if rule == "satterthwaite":
        return _satterthwaite(seed, item, residual, seed_df, item_df, _pooled(residual_K, seed_df * item_df_K))
    shared = np.maximum(item - residual, 0.0)
    if rule == "hillis":
        variance = seed + shared
        return variance, _ratio(seed_df * variance**2, seed**2)
    seed = np.maximum(seed, residual * special.chdtri(seed_df, 1 - FLOOR_TAIL) / seed_df)
    variance = seed + shared
    seed_part = _ratio(seed**2, np.maximum(seed_df * variance**2 - CORRECTION * shared * seed, seed_df * seed**2))
    return variance, _ratio(1.0, seed_part + _ratio(shared, variance) ** 2 / item_df)


def _satterthwaite(
    seed: FloatArray, item: FloatArray, residual: FloatArray, seed_df: int, item_df: FloatArray, residual_df: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """A component that would be negative is 0 and leaves variance and degrees of freedom."""
    seeds_vary, items_vary = seed > residual, item > residual
    squares = (
        np.where(seeds_vary, seed**2 / seed_df, 0.0)
        + np.where(items_vary, item**2 / item_df, 0.0)
        + np.where(seeds_vary == items_vary, residual**2 / residual_df, 0.0)
    )
    variance = np.maximum(seed - residual, 0.0) + np.maximum(item - residual, 0.0) + residual
    return variance, _ratio(variance**2, squares)


def _pooled(variance_K: FloatArray, df_K: FloatArray) -> FloatArray:
    """Satterthwaite's degrees of freedom of a sum of independent variances; those of the first task where all are 0."""
    total, squares = variance_K.sum(axis=-1) ** 2, (variance_K**2 / df_K).sum(axis=-1)
    return np.asarray(np.where(squares > 0, total / np.where(squares > 0, squares, 1.0), df_K[0]))


def _ratio(top: FloatArray | float, bottom: FloatArray) -> FloatArray:
    """top/bottom where that is finite: 0/0 = 0, 1/0 = ∞."""
    above = np.broadcast_to(np.asarray(top, dtype=np.float64), bottom.shape)
    return np.asarray(np.where(bottom > 0, above / np.where(bottom > 0, bottom, 1.0), np.where(above > 0, np.inf, 0.0)))
