"""Paired t of one checkpoint against one other, robust to items that come in clusters (passage, subject, template).

The mean difference m of N items in G clusters of n_g items is an OLS intercept; e_g is the sum of (d_i − m) over cluster g.
    CR1  Var = G/(G−1) · Σ e_g² / N²,                   df = G − 1          (= statsmodels' OLS with cov_type="cluster")
    CR2  Var = Σ e_g² / (1 − n_g/N) / N²,               df of Bell & McCaffrey
CR2 is unbiased for independent items and its degrees of freedom fall when a few clusters hold most items; CR1 is too sure of itself there.
One checkpoint each says nothing about another training seed: every result is labelled "items only".

Source: Bell & McCaffrey 2002; Imbens & Kolesár 2016, both with the identity working model, reduced to an intercept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.stats.student import t_quantile, t_tail

FloatArray = npt.NDArray[np.float64]
Correction = Literal["CR2", "CR1"]
_ZERO = 1e-14
_LARGEST = 1e30
"""Powers of scores, up to the sixth, must stay finite."""


@dataclass(frozen=True)
class ClusterEstimate:
    """A mean over items with its uncertainty over clusters; fields and methods as crossed.Estimate where both have them."""

    estimate: float
    se: float
    df: float
    interval: tuple[float, float]
    level: float
    null: float
    p_value: float
    """Two-sided, of the hypothesis mean = null."""
    n_items: int
    n_clusters: int
    correction: str
    degenerate: bool
    """No variation between clusters was seen: the SE is the Jeffreys floor."""
    model: str = "items only"

    def p_greater(self, null: float) -> float:
        """One-sided p of the hypothesis "mean ≤ null"."""
        return float(t_tail(self.estimate - null, self.se, self.df))

    def p_less(self, null: float) -> float:
        """One-sided p of the hypothesis "mean ≥ null"."""
        return float(t_tail(null - self.estimate, self.se, self.df))


def paired_t(
    treatment_N: npt.ArrayLike,
    comparator_N: npt.ArrayLike,
    *,
    clusters_N: npt.ArrayLike | None = None,
    null: float = 0.0,
    level: float = 0.95,
    correction: Correction = "CR2",
    score_range: float = 1.0,
) -> ClusterEstimate:
    """Mean of treatment − comparator on the same items; without clusters this is the paired t test.

    Args:
        score_range: largest possible distance between two scores; sets the floor of the SE where nothing varies.
    Raises:
        SpecError: shapes differ, a score is no finite number, or fewer than 2 items or clusters.
    """
    treatment, comparator = scores(treatment_N, key="treatment_N", ndim=1), scores(comparator_N, key="comparator_N", ndim=1)
    if treatment.shape != comparator.shape:
        raise SpecError("expected as many scores as treatment_N has", key="comparator_N", value=(len(treatment), len(comparator)))
    return mean_t(
        treatment - comparator, clusters_N=clusters_N, null=null, level=level, correction=correction, score_range=score_range
    )  # fmt: skip


def mean_t(
    values_N: npt.ArrayLike,
    *,
    clusters_N: npt.ArrayLike | None = None,
    null: float = 0.0,
    level: float = 0.95,
    correction: Correction = "CR2",
    score_range: float = 1.0,
) -> ClusterEstimate:
    """Mean of one value an item (a score, a paired difference) with a t interval over clusters; Args and Raises of `paired_t`."""
    check_options(level, score_range)
    values = scores(values_N, key="values_N", ndim=1)
    codes, sizes_G = cluster_codes(clusters_N, len(values))
    n, n_clusters = len(values), len(sizes_G)
    if n_clusters < 2:
        raise SpecError("at least 2 items (or clusters of items) are needed", key="values_N", value=n_clusters)
    mean = float(values.mean())
    sums_G = np.bincount(codes, weights=values - mean, minlength=n_clusters)
    if correction == "CR2":
        variance, df = float((sums_G**2 / (1 - sizes_G / n)).sum()) / n**2, _bell_mccaffrey(sizes_G)
    else:
        variance, df = n_clusters / (n_clusters - 1) * float((sums_G**2).sum()) / n**2, n_clusters - 1.0
    degenerate = variance <= _ZERO * score_range**2
    se = float(np.sqrt(floor_variance(n_clusters, score_range) if degenerate else variance))
    half = float(t_quantile((1 + level) / 2, df)) * se
    p_value = 2 * float(t_tail(abs(mean - null), se, df))
    return ClusterEstimate(
        mean, se, df, (mean - half, mean + half), level, null, p_value, n, n_clusters, correction, degenerate
    )  # fmt: skip


def floor_variance(n_clusters: int, score_range: float) -> float:
    """Variance of a mean of C equal values: range²·½/((C+1)·C), as if a share ½/(C+1) of them (Jeffreys) were `score_range` away."""
    return score_range**2 * 0.5 / ((n_clusters + 1) * n_clusters)


def _bell_mccaffrey(sizes_G: FloatArray) -> float:
    """(Σ λ)²/Σ λ² of the CR2 variance as a quadratic form under independent items, in closed form for an intercept.

    The form's matrix is P_gh = a_g·a_h·(n_g·[g = h] − n_g·n_h/N)/N² with a_g² = 1/(1 − n_g/N); its trace is 1/N.
    """
    n = sizes_G.sum()
    leverage_G = sizes_G**2 / (1 - sizes_G / n)
    off_diagonal = (leverage_G.sum() ** 2 - (leverage_G**2).sum()) / n**2
    return float(n**2 / ((sizes_G**2).sum() + off_diagonal))


def scores(values: npt.ArrayLike, *, key: str, ndim: int) -> FloatArray:
    """`values` as a float array.

    Raises:
        SpecError: not numbers, another number of axes, empty, or a value that is not finite (its place is named) or beyond ±1e30.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise SpecError(f"expected an array of numbers with {ndim} axes", key=key) from None
    if array.ndim != ndim or not array.size:
        raise SpecError(f"expected at least one number, in {ndim} axes", key=key, value=array.shape)
    if not (finite := np.isfinite(array)).all():
        place = [int(axis[0]) for axis in np.nonzero(~finite)]
        raise SpecError(
            f"{(~finite).sum()} of {array.size} scores are missing or infinite, the first at {place}; drop incomplete items", key=key
        )
    if np.abs(array).max() > _LARGEST:
        raise SpecError(f"scores beyond ±{_LARGEST:g} are no scores", key=key, value=float(array.flat[np.abs(array).argmax()]))
    return array


def cluster_codes(labels_N: npt.ArrayLike | None, n_items: int, *, key: str = "clusters_N") -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Cluster number (0, 1, ... in the order of the sorted labels) of each item, and each cluster's items; no labels: every item its own.

    Raises:
        SpecError: not one label an item, or a label that is missing.
    """
    if labels_N is None:
        return np.arange(n_items), np.ones(n_items)
    labels = np.asarray(labels_N)
    if labels.shape != (n_items,):
        raise SpecError(f"expected one label for each of the {n_items} items", key=key, value=labels.shape)
    # A missing label is None or differs from itself (NaN); np.unique would make a cluster of it.
    if any(label is None or label != label for label in labels) if labels.dtype == object else (labels != labels).any():
        raise SpecError("every item needs a label; some are missing", key=key)
    try:
        _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    except TypeError:
        raise SpecError("labels must be of one type (all numbers or all text)", key=key) from None
    return codes, sizes.astype(np.float64)


def check_options(level: float, score_range: float = 1.0) -> None:
    """Raises SpecError unless the confidence level lies strictly between 0 and 1 and the range of scores is above 0."""
    if not 0 < level < 1:
        raise SpecError("a confidence level lies between 0 and 1", key="level", value=level)
    if not 1 / _LARGEST < score_range < _LARGEST:
        raise SpecError("the range of scores is a number above 0", key="score_range", value=score_range)
