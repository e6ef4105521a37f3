"""How well members of a training set are told from others by a score: area under the ROC curve, and hits at few false alarms.

AUC is the chance that a random member scores above a random non-member (ties count half); its variance is DeLong's (DeLong et al. 1988),
its interval Wilson's with the effective sample size, so that it stays in [0, 1] and does not collapse at the ends. TPR at 1 % FPR is what
an attacker gets who may be wrong on one outsider in a hundred (Carlini et al. 2022); its interval is the wider of a bootstrap over both
groups (which knows that the threshold is uncertain) and Wilson's over members (which does not collapse at 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.stats.intervals import wilson, wilson_mean

FloatArray = npt.NDArray[np.float64]
MIN_TEXTS = 2
DRAWS = 2000


@dataclass(frozen=True)
class Attack:
    """What a membership attack achieves on `n_members` members and `n_nonmembers` others; intervals at `level`."""

    auc: float
    auc_interval: tuple[float, float]
    auc_se: float
    tpr: float
    """Share of members found at a false-positive rate of at most `fpr`."""
    tpr_interval: tuple[float, float]
    fpr: float
    n_members: int
    n_nonmembers: int
    level: float


def attack(
    members_M: npt.ArrayLike, nonmembers_N: npt.ArrayLike, *, rng: np.random.Generator, fpr: float = 0.01, level: float = 0.95
) -> Attack:
    """An attack by a score that is higher for members (such as the negative loss).

    Raises:
        SpecError: fewer than two scores of a group, or one that is no finite number.
    """
    members, others = (_checked(values, key) for values, key in ((members_M, "members_M"), (nonmembers_N, "nonmembers_N")))
    area, se = auc(members, others)
    found = true_positive_rate(members, others, fpr=fpr)
    drawn = [true_positive_rate(_resampled(members, rng), _resampled(others, rng), fpr=fpr) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    floor = wilson(found * len(members), len(members), level=level)
    return Attack(
        area,
        wilson_mean(area, se, min(len(members), len(others)), level=level),
        se,
        found,
        (min(float(low), floor[0]), max(float(high), floor[1])),
        fpr,
        len(members),
        len(others),
        level,
    )


def auc(members_M: FloatArray, nonmembers_N: FloatArray) -> tuple[float, float]:
    """Area under the ROC curve and DeLong's standard error."""
    order_N, order_M = np.sort(nonmembers_N), np.sort(members_M)
    below_M = (np.searchsorted(order_N, members_M, "left") + np.searchsorted(order_N, members_M, "right")) / (2 * len(order_N))
    above_N = 1 - (np.searchsorted(order_M, nonmembers_N, "left") + np.searchsorted(order_M, nonmembers_N, "right")) / (2 * len(order_M))
    variance = below_M.var(ddof=1) / len(below_M) + above_N.var(ddof=1) / len(above_N)
    return float(below_M.mean()), float(np.sqrt(variance))


def true_positive_rate(members_M: FloatArray, nonmembers_N: FloatArray, *, fpr: float) -> float:
    """Share of members above the lowest threshold that at most a share `fpr` of the others exceeds."""
    allowed = int(np.floor(fpr * len(nonmembers_N) + 1e-9))
    threshold = np.sort(nonmembers_N)[::-1][allowed] if allowed < len(nonmembers_N) else -np.inf
    return float((members_M > threshold).mean())


def _resampled(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    return values[rng.integers(len(values), size=len(values))]


def _checked(values: npt.ArrayLike, key: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < MIN_TEXTS or not np.isfinite(array).all():
        raise SpecError(f"expected at least {MIN_TEXTS} finite scores", key=key, value=array.shape)
    return array
