"""Mean over groups of items (tasks, subjects), each group counted alike, and its variance.

The macro mean is Σ_k w_k·m_k with w_k = 1/K, so its variance is Σ_k w_k²·Var(m_k), each group's variance robust to its clusters, with
Satterthwaite's degrees of freedom. The size-weighted (micro) mean is the same with w_k = n_k/N. Standard errors pooled over items, as some
harnesses give them to macro means, are those of neither when groups differ in size.
Groups are fixed: the interval speaks of these groups, and of one checkpoint each (several seeds: harness.stats.crossed).
"""
# Array axes: _N items, _K groups.

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.stats.clustered import ClusterEstimate, FloatArray, check_options, cluster_codes, mean_t, scores
from harness.stats.student import t_quantile, t_tail

Weighting = Literal["macro", "micro"]


@dataclass(frozen=True)
class GroupEstimate:
    """A weighted mean of group means with its uncertainty over items; `per_group` by group label, in sorted order."""

    estimate: float
    se: float
    df: float
    interval: tuple[float, float]
    level: float
    null: float
    p_value: float
    """Two-sided, of the hypothesis mean = null."""
    weighting: Weighting
    per_group: dict[str, ClusterEstimate]
    n_items: int
    degenerate: bool
    """No group showed variation: every SE is the Jeffreys floor."""
    model: str = "items only"


def group_mean(
    values_N: npt.ArrayLike,
    groups_N: npt.ArrayLike,
    *,
    clusters_N: npt.ArrayLike | None = None,
    weighting: Weighting = "macro",
    null: float = 0.0,
    level: float = 0.95,
    score_range: float = 1.0,
) -> GroupEstimate:
    """Mean over groups of one value an item: a score, or treatment − comparator for a paired difference.

    Args:
        groups_N: the group of each item.
        clusters_N: clusters within groups.
        score_range: largest possible distance between two scores; a group in which nothing varies gets the Jeffreys floor, not 0.
    Raises:
        SpecError: a value that is no finite number, a group with fewer than 2 items or clusters, a cluster that lies in two groups.
    """
    check_options(level, score_range)
    values = scores(values_N, key="values_N", ndim=1)
    codes, sizes_K = cluster_codes(groups_N, len(values), key="groups_N")
    labels = np.unique(np.asarray(groups_N))
    clusters, _ = cluster_codes(clusters_N, len(values))
    _check_nested(codes, clusters)
    per_group: dict[str, ClusterEstimate] = {}
    for group, label in enumerate(labels):
        inside = codes == group
        if len(np.unique(clusters[inside])) < 2:
            raise SpecError("a group needs at least 2 items (or clusters of items) for a variance", key="groups_N", value=str(label))
        per_group[str(label)] = mean_t(values[inside], clusters_N=clusters[inside], level=level, score_range=score_range)
    weights_K = np.full(len(labels), 1 / len(labels)) if weighting == "macro" else sizes_K / len(values)
    return _combine(per_group, weights_K, weighting, null, level)


def _combine(
    per_group: dict[str, ClusterEstimate], weights_K: FloatArray, weighting: Weighting, null: float, level: float
) -> GroupEstimate:
    parts = list(per_group.values())
    terms_K = weights_K**2 * np.array([part.se**2 for part in parts])
    variance = float(terms_K.sum())
    df = variance**2 / float((terms_K**2 / np.array([part.df for part in parts])).sum())
    estimate, se = float(weights_K @ [part.estimate for part in parts]), float(np.sqrt(variance))
    half = float(t_quantile((1 + level) / 2, df)) * se
    p_value = 2 * float(t_tail(abs(estimate - null), se, df))
    n_items, degenerate = sum(part.n_items for part in parts), all(part.degenerate for part in parts)
    return GroupEstimate(
        estimate, se, df, (estimate - half, estimate + half), level, null, p_value, weighting, per_group, n_items, degenerate
    )  # fmt: skip


def _check_nested(groups: npt.NDArray[np.intp], clusters: npt.NDArray[np.intp]) -> None:
    pairs = np.unique(np.stack([clusters, groups], axis=1), axis=0)
    if len(pairs) > len(np.unique(clusters)):
        raise SpecError("a cluster of items lies in two groups; groups would not be independent", key="clusters_N")
