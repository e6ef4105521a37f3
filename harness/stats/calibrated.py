"""Whether stated probabilities are right: expected calibration error, Brier score, over-confidence.

Expected calibration error is Σ_b (n_b / N) |accuracy_b − confidence_b| over bins of equal width (Guo et al. 2017, eq. 3). It is biased
upwards when bins are few items full: a perfectly calibrated model has about √(bins/N)/2 and not 0. Over-confidence, mean confidence −
accuracy, has no such bias, but errors of both signs cancel in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError

BINS = 10
DRAWS = 1000


@dataclass(frozen=True)
class Calibration:
    """Calibration of N choices; `ece_floor` is the mean ECE of a calibrated model with these confidences."""

    ece: float
    ece_interval: tuple[float, float]
    ece_floor: float
    overconfidence: float
    n: int


def calibration(
    confidence_N: npt.ArrayLike,
    correct_N: npt.ArrayLike,
    *,
    clusters_N: npt.ArrayLike | None = None,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Calibration:
    """ECE with a bootstrap interval over clusters (each item its own by default), and what chance alone would give.

    Raises:
        SpecError: no item, arrays of different length, or a confidence outside [0, 1].
    """
    confidence, correct = np.asarray(confidence_N, dtype=np.float64), np.asarray(correct_N, dtype=np.float64)
    if not len(confidence) or confidence.shape != correct.shape or confidence.ndim != 1:
        raise SpecError("expected two arrays of one length", key="correct_N", value=(confidence.shape, correct.shape))
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise SpecError("confidences lie in [0, 1]", key="confidence_N")
    labels = np.arange(len(confidence)) if clusters_N is None else np.asarray(clusters_N)
    _, codes = np.unique(labels, return_inverse=True)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    drawn = []
    for _ in range(DRAWS):
        picked = np.concatenate([members[at] for at in rng.integers(len(members), size=len(members))])
        drawn.append(expected_error(confidence[picked], correct[picked]))
    floor = [expected_error(confidence, (rng.random(len(confidence)) < confidence).astype(float)) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Calibration(
        expected_error(confidence, correct),
        (float(low), float(high)),
        float(np.mean(floor)),
        float((confidence - correct).mean()),
        len(confidence),
    )


def expected_error(confidence_N: npt.NDArray[np.float64], correct_N: npt.NDArray[np.float64]) -> float:
    """Expected calibration error with BINS bins of equal width."""
    bins = np.minimum((confidence_N * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, weights=confidence_N - correct_N, minlength=BINS)).sum() / len(confidence_N))
