"""Cost at equal quality: what one method spends to reach the quality at which another ends, per training seed, with censoring.

Along each run checkpoints are scored; between two of them quality is taken as linear in cost, and a level is reached at its first crossing.
A run that never reaches the level has a cost above its last one; a run that is there at its first checkpoint has a cost of at most that.
Neither is dropped: each seed gives bounds of log(cost A / cost B), and because a mean is monotone, the lower t limit of the lower bounds
and the upper t limit of the upper bounds hold the mean log-ratio. An end that a seed leaves open is 0 or infinite.
Scores are taken as they are: a noisy curve first crosses a level too early, the more often it is scored; score many items, few times.
Cut-off values are skewed: where a third of the seeds is censored the lower limit errs more often than it should, .057 instead of
.025 with 3 seeds, .037 with 5, .013 with 10 (simulated, log-ratio SD 0.3); with more censoring it is conservative.
"""
# Array axes: _T checkpoints, _S seeds.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.stats.clustered import FloatArray, check_options, scores
from harness.stats.student import t_quantile, t_tail

ComparatorCost = Literal["first reach", "whole run"]


@dataclass(frozen=True)
class Curve:
    """Cost (never falling, in any unit) and quality at the checkpoints of one run."""

    cost_T: npt.ArrayLike
    quality_T: npt.ArrayLike


@dataclass(frozen=True)
class Reach:
    """Cost at which a run reached a level, between `low` and `high` (equal: known; `high` infinite: never reached)."""

    low: float
    high: float


@dataclass(frozen=True)
class SeedRatio:
    """One seed: the comparator's final quality, what each method spent to reach it, and the ratio's bounds."""

    level: float
    treatment: Reach
    comparator: Reach
    low: float
    high: float


@dataclass(frozen=True)
class CostRatio:
    """Geometric mean over seeds of cost(treatment) / cost(comparator) at the comparator's final quality (0.6 = 40 % cheaper)."""

    low: float
    """Lower bound of the estimate; equal to `high` where no seed is censored."""
    high: float
    interval: tuple[float, float]
    """(0, inf) for one seed, or where all seeds have one value and thus no spread."""
    level: float
    n_seeds: int
    share_never: float
    """Seeds in which the treatment never reached the comparator's final quality."""
    share_at_start: float
    """Seeds in which either method was there at its first checkpoint, so that its cost is only bounded from above."""
    seeds: tuple[SeedRatio, ...]

    @property
    def text(self) -> str:
        """The estimate as it may be quoted: "0.58", "≥ 1.2", "≤ 0.4", "0.3 to 0.9" or "unknown"."""
        if math.isclose(self.low, self.high):
            return f"{self.low:.3g}"
        if math.isinf(self.high):
            return f"≥ {self.low:.3g}" if self.low > 0 else "unknown"
        return f"{self.low:.3g} to {self.high:.3g}" if self.low > 0 else f"≤ {self.high:.3g}"


def cost_ratio(
    treatment_S: Sequence[Curve],
    comparator_S: Sequence[Curve],
    *,
    comparator_cost: ComparatorCost = "first reach",
    higher_is_better: bool = True,
    level: float = 0.95,
) -> CostRatio:
    """Ratio of costs at equal quality, paired by seed.

    Args:
        comparator_cost: what the comparator is charged for its final quality: up to its own first reach of it, as the treatment is, or
            its whole run (what was really spent, kinder to the treatment where the comparator's curve is flat at its end).
    Raises:
        SpecError: unequal or no seeds, or a curve whose costs are negative or fall, or with values that are no finite number.
    """
    check_options(level)
    if len(treatment_S) != len(comparator_S) or not treatment_S:
        raise SpecError("expected one curve a seed of each method", key="comparator_S", value=(len(treatment_S), len(comparator_S)))
    seeds = tuple(
        _seed_ratio(_checked(a, f"treatment_S[{seed}]"), _checked(b, f"comparator_S[{seed}]"), comparator_cost, higher_is_better)
        for seed, (a, b) in enumerate(zip(treatment_S, comparator_S, strict=True))
    )
    low_S, high_S = np.array([seed.low for seed in seeds]), np.array([seed.high for seed in seeds])
    return CostRatio(
        low=_geometric_mean(low_S),
        high=_geometric_mean(high_S),
        interval=(_limit(low_S, (1 - level) / 2), _limit(high_S, (1 + level) / 2)),
        level=level,
        n_seeds=len(seeds),
        share_never=float(np.mean([math.isinf(seed.treatment.high) for seed in seeds])),
        share_at_start=float(np.mean([seed.treatment.low == 0 or seed.comparator.low == 0 for seed in seeds])),
        seeds=seeds,
    )


def cost_ratio_tails(found: CostRatio, ratio: float) -> tuple[float, float]:
    """One-sided p values of "the mean cost ratio is at most `ratio`" and "at least `ratio`", by the t tests that `interval` inverts.

    1 where the bounds that a test needs are open, for one seed, and where all seeds have one value.
    """
    assert ratio > 0, ratio
    return _tail([seed.low for seed in found.seeds], ratio, 1), _tail([seed.high for seed in found.seeds], ratio, -1)


def _tail(bounds: Sequence[float], ratio: float, sign: int) -> float:
    bound_S = np.array(bounds)
    if not _tellable(bound_S):
        return 1.0
    logs = np.log(bound_S)
    return float(t_tail(sign * (logs.mean() - math.log(ratio)), logs.std(ddof=1) / math.sqrt(len(logs)), len(logs) - 1))


def first_reach(cost_T: npt.ArrayLike, quality_T: npt.ArrayLike, level: float, *, higher_is_better: bool = True) -> Reach:
    """Cost at which the curve first reaches `level`; at its first checkpoint only "at most that cost" is known.

    Raises:
        SpecError: as `cost_ratio`.
    """
    cost, quality = _checked(Curve(cost_T, quality_T), "curve")
    return _first_reach(cost, quality, level, higher_is_better)


def _first_reach(cost_T: FloatArray, quality_T: FloatArray, level: float, higher_is_better: bool) -> Reach:
    there = quality_T >= level if higher_is_better else quality_T <= level
    if not there.any():
        return Reach(float(cost_T[-1]), math.inf)
    index = int(there.argmax())
    if index == 0:
        return Reach(0.0, float(cost_T[0]))
    before, after = quality_T[index - 1], quality_T[index]
    cost = float(cost_T[index - 1] + (level - before) / (after - before) * (cost_T[index] - cost_T[index - 1]))
    return Reach(cost, cost)


def _seed_ratio(
    treatment: tuple[FloatArray, FloatArray], comparator: tuple[FloatArray, FloatArray], comparator_cost: ComparatorCost, higher: bool
) -> SeedRatio:
    target = float(comparator[1][-1])
    mine = _first_reach(*treatment, target, higher)
    whole = float(comparator[0][-1])
    theirs = Reach(whole, whole) if comparator_cost == "whole run" else _first_reach(*comparator, target, higher)
    low = mine.low / theirs.high if theirs.high > 0 else 0.0
    high = mine.high / theirs.low if theirs.low > 0 else math.inf
    return SeedRatio(target, mine, theirs, low, high)


def _checked(curve: Curve, key: str) -> tuple[FloatArray, FloatArray]:
    cost_T, quality_T = scores(curve.cost_T, key=f"{key}.cost_T", ndim=1), scores(curve.quality_T, key=f"{key}.quality_T", ndim=1)
    if cost_T.shape != quality_T.shape:
        raise SpecError("expected one quality a cost", key=key, value=(len(cost_T), len(quality_T)))
    if cost_T[0] < 0 or (np.diff(cost_T) < 0).any() or cost_T[-1] == 0:
        raise SpecError("costs must not be negative, must not fall and must end above 0", key=f"{key}.cost_T")
    return cost_T, quality_T


def _geometric_mean(ratio_S: FloatArray) -> float:
    """0 or infinite where a seed's bound is."""
    if (ratio_S == 0).any():
        return 0.0
    return math.inf if np.isinf(ratio_S).any() else float(np.exp(np.log(ratio_S).mean()))


def _limit(ratio_S: FloatArray, probability: float) -> float:
    """t limit of the geometric mean; open (0 or infinite) where a bound is, for one seed, and where all seeds have one value."""
    if not _tellable(ratio_S):
        return 0.0 if probability < 0.5 else math.inf
    logs = np.log(ratio_S)
    return float(np.exp(logs.mean() + t_quantile(probability, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))))


def _tellable(ratio_S: FloatArray) -> bool:
    """Whether a t limit exists: not where a bound is open, for one seed, and where all seeds have one value."""
    return len(ratio_S) > 1 and not (ratio_S == 0).any() and not np.isinf(ratio_S).any() and bool(np.ptp(np.log(ratio_S)) >= 1e-12)
