"""Cluster bootstrap of any function of the mean scores of many models on the same items, vectorised.

A resample draws C clusters with replacement; with multiplicities w_c its mean of column m is Σ_c w_c·total_cm / Σ_c w_c·n_c. All columns
of a block of resamples are one matrix product of multiplicities and totals. All models share the draws: that pairs them, and drawing is the
larger part of the time.

Memory: blocks hold at most `_BLOCK` multiplicities (16 MiB with their draws); the distribution itself is resamples × statistics float64.

Source: Efron & Tibshirani 1993, chapters 13–14 (percentile, BCa) and 12.5 (studentised); field bootstraps: Cameron, Gelbach & Miller 2008.
"""
# Array axes: _N items, _M models, _C clusters, _B resamples, _D statistics.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.errors import SpecError
from harness.stats.clustered import FloatArray, check_options, cluster_codes, floor_variance, scores
from harness.stats.paired import pair_columns
from harness.stats.student import t_quantile

Method = Literal["bca", "percentile", "studentised"]
Statistic = Callable[[FloatArray], FloatArray]
"""Maps means (..., M) to statistics (..., D)."""
_BLOCK = 1_000_000
_LARGEST = 2**28
"""Numbers in a distribution: 2 GiB."""
_ZERO = 1e-14


@dataclass(frozen=True)
class BootstrapResult:
    """D statistics with intervals over items; one checkpoint each, so they say nothing about another training seed."""

    estimate_D: FloatArray
    standard_error_D: FloatArray
    """Standard deviation of the distribution (Jeffreys floor where `degenerate_D`)."""
    low_D: FloatArray
    high_D: FloatArray
    distribution_B_D: FloatArray
    degenerate_D: npt.NDArray[np.bool_]
    """Statistics that no resample changed: their interval is the t interval of the Jeffreys floor."""
    level: float
    method: Method
    n_items: int
    n_clusters: int
    model: str = "items only"


def bootstrap(
    data_N_M: npt.ArrayLike,
    statistic: Statistic,
    *,
    rng: np.random.Generator,
    clusters_N: npt.ArrayLike | None = None,
    resamples: int = 9999,
    level: float = 0.95,
    method: Literal["bca", "percentile"] = "bca",
    value_range: float = 1.0,
) -> BootstrapResult:
    """Intervals of `statistic` of the M column means over resampled clusters of items.

    Args:
        data_N_M: one row an item, one column a model (or a model under a view, a metric).
        statistic: vectorised over leading axes, (..., M) → (..., D), e.g. `lambda mean: mean[..., :1] / mean[..., 1:]`.
        value_range: largest possible distance between two values of the statistic; sets the floor where nothing varies.
    Raises:
        SpecError: a score that is no finite number, fewer than 2 clusters, or a statistic that is not finite in some resample.
    """
    sample = _sample(data_N_M, clusters_N, resamples, level, value_range)
    estimate = _evaluate(statistic, sample.mean_M, sample)
    _refuse_large(resamples, len(estimate))
    distribution = np.empty((resamples, len(estimate)))
    for rows, weights_B_C in _blocks(sample.n_clusters, resamples, rng):
        means = weights_B_C @ sample.totals_C_M / (weights_B_C @ sample.sizes_C)[:, None]
        distribution[rows] = _evaluate(statistic, means, sample)
    if method == "bca":
        rest_C = sample.n_items - sample.sizes_C
        left_out = (sample.totals_C_M.sum(axis=0) - sample.totals_C_M) / rest_C[:, None]
        low, high = _bca(estimate, distribution, _evaluate(statistic, left_out, sample), level)
    else:
        low, high = np.quantile(distribution, _tails(level), axis=0)
    return _result(sample, estimate, low, high, distribution, level, method, value_range)


def paired_bootstrap(
    scores_N_M: npt.ArrayLike,
    pairs: Sequence[tuple[int, int]],
    *,
    rng: np.random.Generator,
    clusters_N: npt.ArrayLike | None = None,
    resamples: int = 9999,
    level: float = 0.95,
    method: Method = "studentised",
    score_range: float = 1.0,
) -> BootstrapResult:
    """Differences of means, column a − column b for each (a, b) of `pairs` (see `all_pairs`, `against`), paired by item.

    "studentised" divides each resample's deviation by its own cluster-robust standard error; a resample without spread counts as infinitely
    far out, so an end of the interval can be infinite. It is the default because it covers best with few clusters: over skewed graded and
    binary scores, at 10, 20, 50 clusters of unequal size, .93–.95 of nominal .95 intervals held the truth; BCa .88–.91, .91–.93, .92–.94;
    percentile .89–.92, .92–.93, .93–.94; the CR2 t of `clustered.paired_t` .93–.96 (1,500 simulations each).

    Args:
        score_range: largest possible distance between two scores of one model.
    Raises:
        SpecError: as `bootstrap`; a pair that names no column.
    """
    sample = _sample(scores_N_M, clusters_N, resamples, level, score_range)
    first, second = pair_columns(pairs, len(sample.mean_M))
    if method != "studentised":
        return bootstrap(
            scores_N_M, lambda mean: mean[..., first] - mean[..., second],
            rng=rng, clusters_N=clusters_N, resamples=resamples, level=level, method=method, value_range=score_range,
        )  # fmt: skip
    _refuse_large(2 * resamples, len(first))
    estimate = sample.mean_M[first] - sample.mean_M[second]
    studentise = _Studentiser(sample, first, second)
    se = studentise(np.ones((1, sample.n_clusters)))[1][0]
    distribution, ratio_B_D = np.empty((resamples, len(first))), np.empty((resamples, len(first)))
    for rows, weights_B_C in _blocks(sample.n_clusters, resamples, rng):
        shift, own_se = studentise(weights_B_C)
        distribution[rows] = estimate + shift
        shift[np.abs(shift) <= _ZERO * score_range] = 0
        ratio_B_D[rows] = np.divide(shift, own_se, out=np.where(shift == 0, 0.0, np.copysign(np.inf, shift)), where=own_se > 0)
    # The outer order statistic of each tail: interpolation would turn infinities into NaN.
    below, above = _tails(level)
    far, near = np.quantile(ratio_B_D, above, axis=0, method="higher"), np.quantile(ratio_B_D, below, axis=0, method="lower")
    with np.errstate(invalid="ignore"):
        low, high = estimate - far * se, estimate - near * se
    return _result(sample, estimate, low, high, distribution, level, method, score_range)


def all_pairs(n_models: int) -> list[tuple[int, int]]:
    """Every pair (a, b) with a < b."""
    return [(a, b) for a in range(n_models) for b in range(a + 1, n_models)]


def against(reference: int, n_models: int) -> list[tuple[int, int]]:
    """Every other model against one reference."""
    return [(a, reference) for a in range(n_models) if a != reference]


@dataclass(frozen=True)
class _Sample:
    totals_C_M: FloatArray
    sizes_C: FloatArray
    mean_M: FloatArray
    n_items: int
    n_clusters: int


def _sample(data_N_M: npt.ArrayLike, clusters_N: npt.ArrayLike | None, resamples: int, level: float, value_range: float) -> _Sample:
    check_options(level, value_range)
    data = scores(data_N_M, key="data_N_M", ndim=2)
    codes, sizes_C = cluster_codes(clusters_N, len(data))
    if len(sizes_C) < 2:
        raise SpecError("at least 2 items (or clusters of items) are needed", key="data_N_M", value=len(sizes_C))
    if resamples < 100:
        raise SpecError("expected at least 100 resamples", key="resamples", value=resamples)
    totals_C_M = data
    if clusters_N is not None:
        totals_C_M = np.zeros((len(sizes_C), data.shape[1]))
        for model, column in enumerate(data.T):
            totals_C_M[:, model] = np.bincount(codes, weights=column)
    return _Sample(totals_C_M, sizes_C, totals_C_M.sum(axis=0) / len(data), len(data), len(sizes_C))


def _blocks(n_clusters: int, resamples: int, rng: np.random.Generator) -> Iterator[tuple[slice, FloatArray]]:
    """Rows of the distribution and the multiplicities (rows, C) of their draws."""
    size = max(1, min(resamples, _BLOCK // n_clusters))
    for start in range(0, resamples, size):
        rows = slice(start, min(start + size, resamples))
        draws = rng.integers(0, n_clusters, size=(rows.stop - start, n_clusters))
        weights = np.empty(draws.shape)
        for row, drawn in zip(weights, draws, strict=True):
            row[:] = np.bincount(drawn, minlength=n_clusters)
        yield rows, weights


class _Studentiser:
    """Maps multiplicities (B, C) to the shift of each pair's difference of means and its CR1 standard error, both (B, D).

    Works on residual totals, so that sums of squares do not cancel; what is linear in them is computed once a model, not once a pair.
    """

    def __init__(self, sample: _Sample, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> None:
        self.sizes_C, self.first, self.second = sample.sizes_C, first, second
        self.residual_C_M = sample.totals_C_M - sample.sizes_C[:, None] * sample.mean_M
        self.square_C_D = (self.residual_C_M[:, first] - self.residual_C_M[:, second]) ** 2
        self.one_size = bool((sample.sizes_C == sample.sizes_C[0]).all())

    def __call__(self, weights_B_C: FloatArray) -> tuple[FloatArray, FloatArray]:
        n_clusters = len(self.sizes_C)
        items_B = (weights_B_C @ self.sizes_C)[:, None]
        total_B_M = weights_B_C @ self.residual_C_M
        shift = self._paired(total_B_M) / items_B
        cross_B_M = total_B_M * self.sizes_C[0] if self.one_size else weights_B_C @ (self.residual_C_M * self.sizes_C[:, None])
        squares = weights_B_C @ self.square_C_D - 2 * shift * self._paired(cross_B_M) + shift**2 * (weights_B_C @ self.sizes_C**2)[:, None]
        # What rounding leaves of a sum of squares that is 0 would be a tiny standard error and a huge ratio.
        squares[squares <= 1e-12 * self.square_C_D.sum(axis=0)] = 0
        return shift, np.sqrt(squares * n_clusters / (n_clusters - 1)) / items_B

    def _paired(self, columns_B_M: FloatArray) -> FloatArray:
        return np.asarray(columns_B_M[:, self.first] - columns_B_M[:, self.second])


def _bca(estimate_D: FloatArray, distribution_B_D: FloatArray, left_out_C_D: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Bias-corrected and accelerated percentiles; ties with the estimate count half."""
    # Sums of the same numbers in another order differ in the last bits and are ties all the same.
    slack_D = 1e-12 * np.maximum(np.abs(estimate_D), np.ptp(distribution_B_D, axis=0))
    share_D = ((distribution_B_D < estimate_D - slack_D).mean(axis=0) + (distribution_B_D <= estimate_D + slack_D).mean(axis=0)) / 2
    bias_D = special.ndtri(np.clip(share_D, 0.5 / len(distribution_B_D), 1 - 0.5 / len(distribution_B_D)))
    pull_C_D = left_out_C_D.mean(axis=0) - left_out_C_D
    spread_D = (pull_C_D**2).sum(axis=0)
    acceleration_D = np.divide((pull_C_D**3).sum(axis=0), 6 * spread_D**1.5, out=np.zeros_like(spread_D), where=spread_D > 0)
    ends = []
    for tail in _tails(level):
        z_D = bias_D + special.ndtri(tail)
        room_D = 1 - acceleration_D * z_D
        percent_D = special.ndtr(bias_D + np.divide(z_D, room_D, out=np.copysign(np.inf, z_D), where=room_D > 0))
        ends.append(np.array([np.quantile(column, q) for column, q in zip(distribution_B_D.T, percent_D, strict=True)]))
    return ends[0], ends[1]


def _result(
    sample: _Sample,
    estimate_D: FloatArray,
    low_D: FloatArray,
    high_D: FloatArray,
    distribution_B_D: FloatArray,
    level: float,
    method: Method,
    value_range: float,
) -> BootstrapResult:
    se_D = distribution_B_D.std(axis=0, ddof=1)
    flat_D = np.ptp(distribution_B_D, axis=0) <= _ZERO * np.maximum(value_range, np.abs(estimate_D))
    floor = float(np.sqrt(floor_variance(sample.n_clusters, value_range)))
    half = float(t_quantile((1 + level) / 2, sample.n_clusters - 1)) * floor
    return BootstrapResult(
        estimate_D,
        np.where(flat_D, floor, se_D),
        np.where(flat_D, estimate_D - half, low_D),
        np.where(flat_D, estimate_D + half, high_D),
        distribution_B_D, flat_D, level, method, sample.n_items, sample.n_clusters,
    )  # fmt: skip


def _evaluate(statistic: Statistic, means: FloatArray, sample: _Sample) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.asarray(statistic(means), dtype=np.float64)
    if values.ndim != means.ndim or values.shape[:-1] != means.shape[:-1]:
        raise SpecError("the statistic must map means (..., M) to values (..., D)", key="statistic", value=(means.shape, values.shape))
    if not np.isfinite(values).all():
        where = "the sample" if means is sample.mean_M else "some resamples"
        raise SpecError(f"the statistic is not a finite number in {where} (a ratio to a mean of 0?)", key="statistic")
    return values


def _refuse_large(resamples: int, n_statistics: int) -> None:
    if resamples * n_statistics > _LARGEST:
        raise SpecError(
            f"{resamples} resamples × {n_statistics} statistics need more than 2 GiB; take fewer resamples or pairs", key="resamples"
        )


def _tails(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2
