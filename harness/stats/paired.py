"""Tests of one checkpoint against one other on the same items, without a distribution assumed: exact, or by permutation.

Under the hypothesis that two checkpoints are exchangeable, every item's difference may change its sign; items of one cluster (passage,
template) change it together. McNemar's test is this with right/wrong scores, where the distribution can be computed exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.stats.clustered import FloatArray, cluster_codes, scores

_BLOCK = 4_000_000
"""Signs drawn at once."""
_SLOWEST = 5_000_000_000


@dataclass(frozen=True)
class PairedTest:
    """Mean difference of two checkpoints and a two-sided p value, which speaks of these checkpoints, not of their methods."""

    estimate: float
    p_value: float
    n_items: int
    n_discordant: int
    """Items on which the two differ."""
    n_clusters: int


def mcnemar_exact(treatment_N: npt.ArrayLike, comparator_N: npt.ArrayLike, *, clusters_N: npt.ArrayLike | None = None) -> PairedTest:
    """Exact McNemar test of two right/wrong vectors: binomial for single items, exact distribution of flipped cluster totals for clusters.

    Raises:
        SpecError: shapes differ, no items, or a value other than 0 and 1.
    """
    pair_N_2 = _pair(treatment_N, comparator_N)
    for name, values in zip(("treatment_N", "comparator_N"), pair_N_2.T, strict=True):
        if not np.isin(values, (0.0, 1.0)).all():
            raise SpecError("McNemar's test needs scores of 0 and 1; use sign_flip for graded scores", key=name)
    diff_N = pair_N_2[:, 0] - pair_N_2[:, 1]
    codes, sizes_C = cluster_codes(clusters_N, len(diff_N))
    totals_C = np.abs(np.bincount(codes, weights=diff_N, minlength=len(sizes_C))).astype(np.int64)
    chance = _flipped_totals(totals_C[totals_C > 0])
    reach = len(chance) // 2
    observed = int(abs(diff_N.sum()))
    p_value = 1.0 if observed == 0 else float(min(1.0, 2 * chance[reach + observed :].sum()))
    return PairedTest(float(diff_N.mean()), p_value, len(diff_N), int((diff_N != 0).sum()), len(sizes_C))


def sign_flip(
    treatment_N: npt.ArrayLike,
    comparator_N: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    clusters_N: npt.ArrayLike | None = None,
    draws: int = 9999,
) -> PairedTest:
    """Sign-flip permutation test of the mean difference; p = (b + 1)/(B + 1). Items of one cluster flip together."""
    pair_N_2 = _pair(treatment_N, comparator_N)
    return sign_flip_pairs(pair_N_2, [(0, 1)], rng=rng, clusters_N=clusters_N, draws=draws)[0]


def sign_flip_pairs(
    scores_N_M: npt.ArrayLike,
    pairs: Sequence[tuple[int, int]],
    *,
    rng: np.random.Generator,
    clusters_N: npt.ArrayLike | None = None,
    draws: int = 9999,
) -> list[PairedTest]:
    """`sign_flip` of column a against column b for each (a, b) of `pairs`; all pairs share the drawn signs.

    Raises:
        SpecError: a score that is no finite number, a pair that names no column, or no draws.
    """
    scores_array = scores(scores_N_M, key="scores_N_M", ndim=2)
    first, second = pair_columns(pairs, scores_array.shape[1])
    if draws < 1:
        raise SpecError("expected at least 1 draw", key="draws", value=draws)
    n_items = len(scores_array)
    codes, sizes_C = cluster_codes(clusters_N, n_items)
    diff_N_D = scores_array[:, first] - scores_array[:, second]
    totals_C_D = np.zeros((len(sizes_C), len(first)))
    for column, diff_N in enumerate(diff_N_D.T):
        totals_C_D[:, column] = np.bincount(codes, weights=diff_N)
    observed_D, reach_D = np.abs(totals_C_D.sum(axis=0)), np.abs(totals_C_D).sum(axis=0)
    # Ties up to rounding count as extreme, or an all-equal sample would get a p value that is too small.
    threshold_D = observed_D - 1e-12 * reach_D
    extreme_D = np.zeros(len(first), dtype=np.int64)
    for start in range(0, draws, max(1, _BLOCK // len(sizes_C))):
        rows = min(max(1, _BLOCK // len(sizes_C)), draws - start)
        # One random bit a cluster; Σ ±total = 2·Σ_{bit = 1} total − Σ total.
        bytes_B = rng.integers(0, 256, size=(rows, -(-len(sizes_C) // 8)), dtype=np.uint8)
        heads_B_C = np.unpackbits(bytes_B, axis=1, count=len(sizes_C)).astype(np.float64)
        extreme_D += (np.abs(2 * (heads_B_C @ totals_C_D) - totals_C_D.sum(axis=0)) >= threshold_D).sum(axis=0)
    discordant_D = (diff_N_D != 0).sum(axis=0)
    return [
        PairedTest(float(mean), (int(extreme) + 1) / (draws + 1), n_items, int(discordant), len(sizes_C))
        for mean, extreme, discordant in zip(diff_N_D.mean(axis=0), extreme_D, discordant_D, strict=True)
    ]


def pair_columns(pairs: Sequence[tuple[int, int]], n_models: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First and second columns of `pairs`; SpecError unless they are pairs of 0..n_models − 1."""
    array = np.asarray(pairs)
    if array.ndim != 2 or array.shape[1] != 2 or not np.issubdtype(array.dtype, np.integer):
        raise SpecError("expected a list of pairs (column, column)", key="pairs", value=array.shape)
    if array.min() < 0 or array.max() >= n_models:
        raise SpecError(f"expected columns 0..{n_models - 1}", key="pairs", value=[int(array.min()), int(array.max())])
    return array[:, 0].astype(np.intp), array[:, 1].astype(np.intp)


def _flipped_totals(totals_C: npt.NDArray[np.int64]) -> FloatArray:
    """Probabilities of Σ ±total = −R..R with R = Σ total and fair independent signs, for totals above 0."""
    sizes, counts = np.unique(totals_C, return_counts=True)
    chance = np.ones(1)
    # k equal totals sum to a binomial on a grid; the most frequent ones come first, at once, the rest by shifts.
    for size, count in sorted(zip(sizes.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1]):
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = _fair_binomial(count)
        if len(chance) == 1:
            chance = steps
            continue
        if len(chance) * count > _SLOWEST:
            raise SpecError("too many large clusters for the exact test; use sign_flip", key="clusters_N", value=len(totals_C))
        wider = np.zeros(len(chance) + len(steps) - 1)
        for place in np.flatnonzero(steps):
            wider[place : place + len(chance)] += steps[place] * chance
        chance = wider
    return chance


def _fair_binomial(n: int) -> FloatArray:
    """Probabilities of 0..n heads of n fair coins, by their ratios from the middle out: precise far into the tails."""
    upper = np.cumprod(np.concatenate([[1.0], (n - np.arange(n // 2, n)) / np.arange(n // 2 + 1, n + 1)]))
    chance = np.concatenate([upper[: n % 2 : -1], upper])
    return np.asarray(chance / chance.sum())


def _pair(treatment_N: npt.ArrayLike, comparator_N: npt.ArrayLike) -> FloatArray:
    """(N, 2)"""
    treatment, comparator = scores(treatment_N, key="treatment_N", ndim=1), scores(comparator_N, key="comparator_N", ndim=1)
    if treatment.shape != comparator.shape:
        raise SpecError("expected two vectors of equal length", key="comparator_N", value=(len(treatment), len(comparator)))
    return np.stack([treatment, comparator], axis=1)
