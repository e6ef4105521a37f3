"""When is a difference practically nothing: two one-sided tests (TOST), and the decision by a region of practical equivalence (ROPE).

Both work on any estimate with a t reference (crossed.Estimate, clustered.ClusterEstimate), thus with its own degrees of freedom.
TOST: equal if the mean is shown to be above −margin and below +margin, each at level alpha; the same as the 1 − 2·alpha interval lying
inside. ROPE: equal if the interval lies inside the region, different if it lies outside, undecided otherwise.

Source: Schuirmann 1987; Lakens 2017; Kruschke 2018. The chance inside the region is that of the posterior under a flat prior, i.e. of a
t distribution around the estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from harness.errors import SpecError
from harness.stats.clustered import check_options

Decision = Literal["practically equal", "practically different", "undecided"]


class Tested(Protocol):
    """A mean with its one-sided p values."""

    @property
    def estimate(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float]: ...
    @property
    def level(self) -> float: ...
    def p_greater(self, null: float) -> float: ...
    def p_less(self, null: float) -> float: ...


@dataclass(frozen=True)
class Equivalence:
    """Whether a mean lies within a margin. All on the scale of the estimate."""

    low: float
    high: float
    p_above_low: float
    """One-sided, of "mean ≤ low"."""
    p_below_high: float
    """One-sided, of "mean ≥ high"."""
    p_outside: float
    """Of "the mean lies within the margin", two-sided."""
    chance_inside: float
    """Posterior probability of the region under a flat prior."""
    decision: Decision
    """By the estimate's own interval (ROPE)."""

    @property
    def p_value(self) -> float:
        """Of "the mean lies outside the margin" (TOST)."""
        return max(self.p_above_low, self.p_below_high)

    def equal(self, alpha: float = 0.05) -> bool:
        """Whether TOST at `alpha` shows the mean to lie within the margin."""
        return self.p_value <= alpha


def equivalence(found: Tested, margin: float | tuple[float, float]) -> Equivalence:
    """Tests whether the mean of `found` lies within ±margin, or within (low, high).

    Raises:
        SpecError: the margin is no interval around values, or not finite.
    """
    low, high = (-margin, margin) if isinstance(margin, int | float) else margin
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SpecError("a margin is a number above 0, or a pair (low, high) with low < high", key="margin", value=margin)
    check_options(found.level)
    above_low, below_high = found.p_greater(low), found.p_less(high)
    p_outside = min(1.0, 2 * min(found.p_less(low), found.p_greater(high)))
    return Equivalence(
        low, high, above_low, below_high, p_outside, max(0.0, 1 - above_low - below_high), rope(found.interval, (low, high))
    )  # fmt: skip


def rope(interval: tuple[float, float], region: tuple[float, float]) -> Decision:
    """The decision by an interval and a region of practical equivalence."""
    if region[0] <= interval[0] and interval[1] <= region[1]:
        return "practically equal"
    return "practically different" if interval[1] < region[0] or region[1] < interval[0] else "undecided"
