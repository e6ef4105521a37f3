"""Aggregates over tasks of runs that are one checkpoint scored on every task: IQM, performance profile, probability of improvement.

A checkpoint's luck is shared by all of its tasks, so the replicate is the training seed: it is left out with all of its tasks (jackknife).
Limits are Student's t with S − 1 degrees of freedom, or Wilson's for shares. Differs from rliable (Agarwal et al. 2021), whose bootstrap
draws run indices anew for every (run, task) cell, as if each cell were a run of its own: for an IQM of 5 seeds with a shared SD of 0.1
that covered .51 instead of .95, a percentile bootstrap of whole seeds .81, the jackknife .94 (tests/stats/test_aggregate.py).
Tasks are fixed: the interval speaks of these tasks. Scores of different tasks must be on one scale.
"""
# Array axes: _S seeds, _K tasks, _L thresholds.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.stats.clustered import FloatArray, check_options, scores
from harness.stats.intervals import wilson_mean
from harness.stats.student import t_quantile


@dataclass(frozen=True)
class SeedEstimate:
    """An aggregate over tasks with its uncertainty over training seeds."""

    estimate: float
    se: float
    df: float
    interval: tuple[float, float]
    level: float
    n_seeds: int
    n_tasks: int
    degenerate: bool
    """All seeds gave one value: an IQM then has no interval, (-inf, inf); a share still has Wilson's."""
    model: str = "seeds only"


@dataclass(frozen=True)
class Profile:
    """Share of (run, task) scores above each threshold, with pointwise intervals."""

    threshold_L: FloatArray
    share_L: FloatArray
    low_L: FloatArray
    high_L: FloatArray
    level: float
    n_seeds: int
    n_tasks: int


def iqm(scores_S_K: npt.ArrayLike, *, level: float = 0.95) -> SeedEstimate:
    """Interquartile mean: mean of the middle half of all S·K scores.

    Raises:
        SpecError: not seeds × tasks, fewer than 2 seeds, or a score that is no finite number.
    """
    return _of_means(lambda runs: _middle_mean(runs[0]), [_runs(scores_S_K, "scores_S_K")], level)


def iqm_difference(treatment_S_K: npt.ArrayLike, comparator_S_K: npt.ArrayLike, *, level: float = 0.95) -> SeedEstimate:
    """IQM of the treatment − IQM of the comparator; seed s of both is left out together (paired). Raises as `iqm`."""
    return _of_means(lambda runs: _middle_mean(runs[0]) - _middle_mean(runs[1]), _pair(treatment_S_K, comparator_S_K), level)


def improvement_probability(treatment_S_K: npt.ArrayLike, comparator_S_K: npt.ArrayLike, *, level: float = 0.95) -> SeedEstimate:
    """Mean over tasks of the probability that a run of the treatment scores above a run of the comparator (a tie counts half).

    All S² pairs of runs count; seed s of both is left out together. Raises as `iqm`.
    """
    return _of_shares(lambda runs: _beats(*runs), _pair(treatment_S_K, comparator_S_K), level)


def performance_profile(scores_S_K: npt.ArrayLike, threshold_L: npt.ArrayLike, *, level: float = 0.95) -> Profile:
    """Share of scores above each threshold. Raises as `iqm`."""
    runs, thresholds = _runs(scores_S_K, "scores_S_K"), scores(threshold_L, key="threshold_L", ndim=1)
    points = [_of_shares(partial(_share_above, threshold=threshold), [runs], level) for threshold in thresholds]
    share, low, high = (np.array(column) for column in zip(*((p.estimate, *p.interval) for p in points), strict=True))
    return Profile(thresholds, share, low, high, level, *runs.shape)


def worst_case(scores_N_V: npt.ArrayLike, *, higher_is_better: bool) -> FloatArray:
    """Worst score of each item over its V views (clean and perturbed), in the metric's own direction: (N,).

    Raises:
        SpecError: not items × views, or a score that is no finite number.
    """
    views = scores(scores_N_V, key="scores_N_V", ndim=2)
    return np.asarray(views.min(axis=1) if higher_is_better else views.max(axis=1))


Aggregate = Callable[[list[FloatArray]], float]


def _of_means(statistic: Aggregate, runs: list[FloatArray], level: float) -> SeedEstimate:
    estimate, se = _jackknife(statistic, runs, level)
    n_seeds, n_tasks = runs[0].shape
    flat = se <= 1e-14 * max(1.0, abs(estimate))
    half = float("inf") if flat else float(t_quantile((1 + level) / 2, n_seeds - 1)) * se
    return SeedEstimate(estimate, se, n_seeds - 1.0, (estimate - half, estimate + half), level, n_seeds, n_tasks, flat)


def _of_shares(statistic: Aggregate, runs: list[FloatArray], level: float) -> SeedEstimate:
    estimate, se = _jackknife(statistic, runs, level)
    n_seeds, n_tasks = runs[0].shape
    flat = se <= 1e-14
    interval = wilson_mean(estimate, 0.0 if flat else se, n_seeds, df=n_seeds - 1, level=level)
    return SeedEstimate(estimate, se, n_seeds - 1.0, interval, level, n_seeds, n_tasks, flat)


def _jackknife(statistic: Aggregate, runs: list[FloatArray], level: float) -> tuple[float, float]:
    """The statistic and its standard error, leaving out one seed with all its tasks, of all methods."""
    check_options(level)
    n_seeds = len(runs[0])
    left_out_S = np.array([statistic([np.delete(array, seed, axis=0) for array in runs]) for seed in range(n_seeds)])
    return statistic(runs), float(np.sqrt((n_seeds - 1) * left_out_S.var()))


def _middle_mean(runs_S_K: FloatArray) -> float:
    from scipy import stats

    return float(stats.trim_mean(runs_S_K, 0.25, axis=None))


def _share_above(runs: list[FloatArray], threshold: float) -> float:
    return float((runs[0] > threshold).mean())


def _beats(treatment_S_K: FloatArray, comparator_S_K: FloatArray) -> float:
    margin = treatment_S_K[:, None] - comparator_S_K
    return float(((margin > 0) + 0.5 * (margin == 0)).mean())


def _runs(values: npt.ArrayLike, key: str) -> FloatArray:
    runs = scores(values, key=key, ndim=2)
    if len(runs) < 2:
        raise SpecError("an interval over training seeds needs at least 2 of them (rows)", key=key, value=runs.shape)
    return runs


def _pair(treatment_S_K: npt.ArrayLike, comparator_S_K: npt.ArrayLike) -> list[FloatArray]:
    pair = [_runs(treatment_S_K, "treatment_S_K"), _runs(comparator_S_K, "comparator_S_K")]
    if pair[0].shape != pair[1].shape:
        raise SpecError("expected the same seeds and tasks as treatment_S_K", key="comparator_S_K", value=(pair[0].shape, pair[1].shape))
    return pair
