"""Paired comparison of methods on seeds × items by the crossed random-effects model.

Scores of one task: y_sip (seed s, item i, column p = a method, or a method under a view). Any contrast d_si = Σ_p c_p·y_sip follows
    d_si = μ + a_s + b_i + e_si,     seeds and items both random, one observation a cell,
and with the balanced mean squares MS_S, MS_I, MS_E:  Var(mean) = (MS_S + max(MS_I − MS_E, 0)) / (S·N); degrees of freedom: `freedom`.
Several tasks (fixed) form a macro mean: item and residual terms add up task by task, but the seed term is taken on the macro mean of each
seed, because one checkpoint's luck is shared by all of its tasks. Items in clusters are replaced by their cluster's ratio-linearised total.

Source: multi-reader multi-case ANOVA (Dorfman, Berbaum & Metz 1992; Hillis 2007), seeds as readers and items as cases.
"""
# Array axes are suffixes of names here: _S seeds, _N items, _C clusters, _K tasks, _P columns.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.stats.freedom import DegreesOfFreedom, FloatArray, variance_and_df
from harness.stats.student import t_quantile, t_tail

_ZERO = 1e-14


@dataclass(frozen=True)
class TaskScores:
    """Scores of one task: `values_S_N_P` without gaps, and the cluster label of each item (None: every item is its own).

    Leading axes, e.g. simulated studies or resamples, are kept through `moments` and `mean_and_error`.
    """

    values_S_N_P: FloatArray
    clusters_N: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class Components:
    """Variance per seed, item and cell, at least 0: Var(mean) = seed/S + item/N + residual/(S·N) where seed > 0.

    With one seed only `item` is known, and it holds the residual too.
    """

    seed: float | None
    item: float
    residual: float | None


@dataclass(frozen=True)
class Moments:
    """Sufficient statistics of S seeds × K tasks × their items for every contrast of the P columns.

    The matrices hold contributions to the covariance of the macro mean: `seed_P_P` = cov of seed means / S,
    `item_K_P_P` = w_k²·MS_I/(S·C_k), `residual_K_P_P` = w_k²·MS_E/(S·C_k), with C_k clusters and w_k = 1/K.
    """

    mean_P: FloatArray
    seed_P_P: FloatArray
    item_K_P_P: FloatArray
    residual_K_P_P: FloatArray
    n_seeds: int
    n_items: int
    clusters_K: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A mean contrast with its uncertainty. `model` is "seeds x items", "items only" (one seed) or "seeds only" (one value a seed)."""

    estimate: float
    se: float
    df: float
    interval: tuple[float, float]
    level: float
    null: float
    p_value: float
    components: Components
    n_seeds: int
    n_items: int
    n_dropped: int
    model: str
    degenerate: bool
    """No variation was seen in any task: the SE is the Jeffreys floor (items) or 0 (values counted once a seed)."""

    def p_greater(self, null: float) -> float:
        """One-sided p of the hypothesis "mean ≤ null"."""
        return float(t_tail(self.estimate - null, self.se, self.df))

    def p_less(self, null: float) -> float:
        """One-sided p of the hypothesis "mean ≥ null"."""
        return float(t_tail(null - self.estimate, self.se, self.df))


def complete_items(values_S_N_P: FloatArray) -> npt.NDArray[np.bool_]:
    """Which of the N items have a score in every seed and column (NaN = none)."""
    return np.asarray(np.isfinite(values_S_N_P).all(axis=(0, 2)))


def moments(tasks: Sequence[TaskScores]) -> Moments:
    """Mean squares and products of the macro mean over `tasks` (equal weights).

    Args:
        tasks: per task an array (S, N_k, P) on the same seeds and columns.
    Raises:
        SpecError: no task, unequal seeds or columns, a gap, or fewer than 2 item clusters in a task.
    """
    _check(tasks)
    weight = 1.0 / len(tasks)
    seed_means_S_P = weight * sum(task.values_S_N_P.mean(axis=-2) for task in tasks)
    n_seeds = tasks[0].values_S_N_P.shape[-3]
    parts = [_task_products(_cluster_values(task)) for task in tasks]
    return Moments(
        mean_P=seed_means_S_P.mean(axis=-2),
        seed_P_P=_covariance(seed_means_S_P) / n_seeds,
        item_K_P_P=weight**2 * np.stack([item for item, _, _ in parts], axis=-3),
        residual_K_P_P=weight**2 * np.stack([residual for _, residual, _ in parts], axis=-3),
        n_seeds=n_seeds,
        n_items=sum(task.values_S_N_P.shape[-2] for task in tasks),
        clusters_K=np.array([n_clusters for _, _, n_clusters in parts]),
    )


def seed_moments(values_S_P: FloatArray) -> Moments:
    """Moments of values that exist once a seed (a cost, a count): no items, no item component."""
    values_S_P = np.asarray(values_S_P, dtype=np.float64)
    if values_S_P.ndim != 2 or not np.isfinite(values_S_P).all() or not len(values_S_P):
        raise SpecError("expected a complete array of seeds × columns", key="values_S_P", value=values_S_P.shape)
    n_seeds, n_columns = values_S_P.shape
    none = np.zeros((0, n_columns, n_columns))
    return Moments(values_S_P.mean(axis=0), _covariance(values_S_P) / n_seeds, none, none, n_seeds, 1, np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class MeanAndError:
    """A mean contrast, its SE and degrees of freedom, and the contributions A, B, C to its variance (`freedom`), as arrays."""

    mean: FloatArray
    se: FloatArray
    df: FloatArray
    seed: FloatArray
    item: FloatArray
    residual: FloatArray
    degenerate: npt.NDArray[np.bool_]


def mean_and_error(
    moments: Moments,
    weights_P: Sequence[float] | FloatArray,
    *,
    difference_P: Sequence[float] | FloatArray | None = None,
    df: DegreesOfFreedom = "corrected",
    score_range: float = 1.0,
) -> MeanAndError:
    """The arithmetic of `contrast`, over any leading axes of the moments (and of the weights)."""
    weights = np.asarray(weights_P, dtype=np.float64)
    item_K, residual_K, floored_K = _item_terms(moments, weights, score_range)
    if difference_P is not None:
        floor_K, _, alike_K = _item_terms(moments, np.asarray(difference_P, dtype=np.float64), score_range)
        item_K = np.where(alike_K & ~floored_K, item_K + floor_K, item_K)
    # A contrast that cancels exactly leaves rounding noise of either sign in the quadratic forms.
    seed = np.maximum(np.einsum("...p,...pq,...q->...", weights, moments.seed_P_P, weights), 0.0)
    variance, freedom = variance_and_df(seed, item_K, residual_K, moments.clusters_K - 1, n_seeds=moments.n_seeds, rule=df)
    mean = np.einsum("...p,...p->...", weights, moments.mean_P)
    degenerate = floored_K.all(axis=-1) & (seed <= _ZERO)
    return MeanAndError(mean, np.sqrt(variance), freedom, seed, item_K.sum(axis=-1), residual_K.sum(axis=-1), degenerate)


def contrast(
    moments: Moments,
    weights_P: Sequence[float] | FloatArray,
    *,
    difference_P: Sequence[float] | FloatArray | None = None,
    null: float = 0.0,
    level: float = 0.95,
    df: DegreesOfFreedom = "corrected",
    score_range: float = 1.0,
    n_dropped: int = 0,
) -> Estimate:
    """Mean of Σ_p weights_p·column_p with a t interval.

    A task whose contrast is the same in every cell would contribute no variance; its item term is then the Jeffreys floor
    range²·½/((C+1)·C): the variance of a mean of C differences of which a share ½/(C+1) is `score_range` away.

    Args:
        difference_P: another contrast, a − b where `weights_P` are a − ρ·b: a task in which it is the same in every cell adds its floor to
            the item term, for a − ρ·b is a − b plus (1 − ρ)·b, and that a − b never varied does not make it known.
        null: value of the mean under the hypothesis that `p_value` (two-sided) tests.
        score_range: largest possible distance between two scores of one column.
    """
    found = mean_and_error(moments, weights_P, difference_P=difference_P, df=df, score_range=score_range)
    estimate, se, freedom = float(found.mean), float(found.se), float(found.df)
    seed, item, residual = float(found.seed), float(found.item), float(found.residual)
    half = float(t_quantile((1 + level) / 2, freedom)) * se if se else 0.0
    p_value = min(1.0, 2 * float(t_tail(abs(estimate - null), se, freedom)))
    s, n = moments.n_seeds, moments.n_items
    if s == 1:
        components = Components(None, n * item, None)
    else:
        components = Components(s * max(seed - residual, 0.0), n * max(item - residual, 0.0), s * n * residual)
    model = "seeds only" if not len(moments.clusters_K) else "items only" if s == 1 else "seeds x items"
    return Estimate(
        estimate, se, freedom, (estimate - half, estimate + half), level, null, p_value, components, s, n, n_dropped, model,
        bool(found.degenerate),
    )  # fmt: skip


def paired_difference(
    treatment_S_N: npt.ArrayLike,
    comparator_S_N: npt.ArrayLike,
    *,
    clusters_N: npt.ArrayLike | None = None,
    null: float = 0.0,
    level: float = 0.95,
    df: DegreesOfFreedom = "corrected",
    score_range: float = 1.0,
) -> Estimate:
    """Mean of treatment − comparator on one task.

    An item without a score (NaN) in any cell is dropped from all of them and counted in `n_dropped`.

    Args:
        treatment_S_N, comparator_S_N: scores paired by seed and item; (N,) is taken as one seed.
        clusters_N: label of the cluster of each item (passage, template).
    Raises:
        SpecError: shapes differ, or fewer than 2 complete items or clusters.
    """
    pair = [np.atleast_2d(np.asarray(scores, dtype=np.float64)) for scores in (treatment_S_N, comparator_S_N)]
    if pair[0].shape != pair[1].shape:
        raise SpecError(f"treatment and comparator must have one shape, {pair[0].shape} and {pair[1].shape} differ", key="comparator_S_N")
    values_S_N_P = np.stack(pair, axis=2)
    keep_N = complete_items(values_S_N_P)
    labels = None if clusters_N is None else np.asarray(clusters_N)[keep_N]
    fitted = moments([TaskScores(values_S_N_P[:, keep_N], labels)])
    dropped = int((~keep_N).sum())
    return contrast(fitted, (1, -1), null=null, level=level, df=df, score_range=score_range, n_dropped=dropped)


def _check(tasks: Sequence[TaskScores]) -> None:
    if not tasks:
        raise SpecError("at least one task is needed", key="tasks")
    shapes = {task.values_S_N_P.shape[:-2] + task.values_S_N_P.shape[-1:] for task in tasks}
    if len(shapes) > 1:
        raise SpecError("all tasks must be on the same seeds and columns", key="tasks", value=sorted(shapes))
    for index, task in enumerate(tasks):
        if not np.isfinite(task.values_S_N_P).all():
            raise SpecError("scores have gaps; drop incomplete items first (complete_items)", key=f"tasks[{index}]")
        n_items = task.values_S_N_P.shape[-2]
        n_clusters = n_items if task.clusters_N is None else len(np.unique(task.clusters_N))
        if n_clusters < 2:
            raise SpecError("at least 2 items (or clusters of items) with scores are needed", key=f"tasks[{index}]", value=n_clusters)


def _cluster_values(task: TaskScores) -> FloatArray:
    """(…, S, C, P): per seed and cluster m_s + (C/N)·Σ_{i in c}(y_si − m_s); averages to the seed's item mean m_s whatever the sizes."""
    values = np.asarray(task.values_S_N_P, dtype=np.float64)
    if task.clusters_N is None:
        return values
    _, index_N = np.unique(task.clusters_N, return_inverse=True)
    n_clusters, n_items = int(index_N.max()) + 1, values.shape[-2]
    if n_clusters == n_items:
        return values
    mean = values.mean(axis=-2, keepdims=True)
    order_N = np.argsort(index_N, kind="stable")
    starts_C = np.searchsorted(index_N[order_N], np.arange(n_clusters))
    totals = np.add.reduceat((values - mean)[..., order_N, :], starts_C, axis=-2)
    return np.asarray(mean + totals * n_clusters / n_items)


def _task_products(values_S_C_P: FloatArray) -> tuple[FloatArray, FloatArray, int]:
    n_seeds, n_clusters, n_columns = values_S_C_P.shape[-3:]
    item_means_C_P = values_S_C_P.mean(axis=-3)
    item = _covariance(item_means_C_P) / n_clusters
    if n_seeds == 1:
        return item, np.zeros_like(item), n_clusters
    centred_C_P = item_means_C_P - item_means_C_P.mean(axis=-2, keepdims=True)
    rest = values_S_C_P - centred_C_P[..., None, :, :] - values_S_C_P.mean(axis=-2, keepdims=True)
    flat = rest.reshape(*rest.shape[:-3], n_seeds * n_clusters, n_columns)
    return item, np.swapaxes(flat, -1, -2) @ flat / ((n_seeds - 1) * (n_clusters - 1) * n_seeds * n_clusters), n_clusters


def _covariance(rows_R_P: FloatArray) -> FloatArray:
    """Over the last but one axis; 0 for a single row."""
    centred = rows_R_P - rows_R_P.mean(axis=-2, keepdims=True)
    return np.asarray(np.swapaxes(centred, -1, -2) @ centred / max(rows_R_P.shape[-2] - 1, 1))


def _item_terms(moments: Moments, weights: FloatArray, score_range: float) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    item_K = np.einsum("...p,...kpq,...q->...k", weights, moments.item_K_P_P, weights)
    residual_K = np.maximum(np.einsum("...p,...kpq,...q->...k", weights, moments.residual_K_P_P, weights), 0.0)
    clusters_K = moments.clusters_K
    reach = score_range * np.maximum(weights.clip(min=0).sum(axis=-1), -weights.clip(max=0).sum(axis=-1))[..., None]
    flat_K = (item_K <= _ZERO * reach**2) & (residual_K <= _ZERO * reach**2)
    floor_K = reach**2 * 0.5 / ((clusters_K + 1) * clusters_K) / max(len(clusters_K), 1) ** 2
    return np.where(flat_K, floor_K, item_K), np.where(flat_K, 0.0, residual_K), flat_K
