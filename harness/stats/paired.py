"""Tests of one checkpoint against one other on the same items: exact, or by permutation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from harness.errors import SpecError


@dataclass(frozen=True)
class PairedTest:
    """Mean difference of two checkpoints and a two-sided p value, which speaks of these checkpoints, not of their methods."""

    estimate: float
    p_value: float
    n_items: int
    n_discordant: int


def mcnemar_exact(treatment_N: npt.ArrayLike, comparator_N: npt.ArrayLike) -> PairedTest:
    """Exact (binomial) McNemar test of two right/wrong vectors.

    Raises:
        SpecError: shapes differ, no items, or a value other than 0 and 1.
    """
    treatment, comparator = _pair(treatment_N, comparator_N)
    for name, values in (("treatment_N", treatment), ("comparator_N", comparator)):
        if not np.isin(values, (0.0, 1.0)).all():
            raise SpecError("McNemar's test needs scores of 0 and 1; use sign_flip for graded scores", key=name)
    wins, losses = int((treatment > comparator).sum()), int((treatment < comparator).sum())
    p_value = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    return PairedTest((wins - losses) / len(treatment), float(p_value), len(treatment), wins + losses)


def sign_flip(
    treatment_N: npt.ArrayLike,
    comparator_N: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    clusters_N: npt.ArrayLike | None = None,
    draws: int = 9999,
) -> PairedTest:
    """Sign-flip permutation test of the mean difference; p = (b + 1)/(B + 1). Items of one cluster flip together."""
    treatment, comparator = _pair(treatment_N, comparator_N)
    diff_N = treatment - comparator
    labels = np.arange(len(diff_N)) if clusters_N is None else np.unique(np.asarray(clusters_N), return_inverse=True)[1]
    sums_C = np.bincount(labels, weights=diff_N)
    observed = abs(sums_C.sum())
    # Ties up to rounding count as extreme, or an all-equal sample would get a p value that is too small.
    tolerance = 1e-12 * max(1.0, float(np.abs(sums_C).sum()))
    extreme, left = 0, draws
    while left:
        batch = min(left, max(1, 2_000_000 // len(sums_C)))
        signs_B_C = rng.integers(0, 2, size=(batch, len(sums_C)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs_B_C @ sums_C) >= observed - tolerance).sum())
        left -= batch
    return PairedTest(float(diff_N.mean()), (extreme + 1) / (draws + 1), len(diff_N), int((diff_N != 0).sum()))


def _pair(treatment_N: npt.ArrayLike, comparator_N: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    treatment, comparator = (np.asarray(values, dtype=np.float64) for values in (treatment_N, comparator_N))
    if treatment.ndim != 1 or treatment.shape != comparator.shape or not len(treatment):
        raise SpecError("expected two vectors of equal length ≥ 1", key="comparator_N", value=(treatment.shape, comparator.shape))
    if not (np.isfinite(treatment).all() and np.isfinite(comparator).all()):
        raise SpecError("scores have gaps; drop incomplete items first", key="treatment_N")
    return treatment, comparator
