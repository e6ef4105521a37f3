"""Intervals of proportions that never collapse at 0 or 1."""

from __future__ import annotations

import math

from scipy import special

from harness.errors import SpecError
from harness.stats.student import t_quantile


def wilson(successes: float, n: float, *, level: float = 0.95, df: float = math.inf) -> tuple[float, float]:
    """Wilson score interval of a proportion.

    Args:
        successes, n: counts; fractions are allowed, so that an effective sample size can be used.
        df: degrees of freedom of the quantile (infinite = normal), for proportions whose variance was estimated.
    """
    _check(successes, n)
    z2 = float(t_quantile((1 + level) / 2, df)) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return (0.0 if successes == 0 else max(0.0, centre - half), 1.0 if successes == n else min(1.0, centre + half))


def jeffreys(successes: float, n: float, *, level: float = 0.95) -> tuple[float, float]:
    """Equal-tailed interval of Beta(successes + ½, failures + ½), closed at 0 and 1 (Brown, Cai & DasGupta 2001)."""
    _check(successes, n)
    tail = (1 - level) / 2
    low, high = (float(special.betaincinv(successes + 0.5, n - successes + 0.5, chance)) for chance in (tail, 1 - tail))
    return (0.0 if successes == 0 else low, 1.0 if successes == n else high)


def wilson_mean(mean: float, se: float, n: int, *, df: float = math.inf, level: float = 0.95) -> tuple[float, float]:
    """Wilson interval of a mean of scores in [0, 1] with the effective sample size mean·(1 − mean)/se² (Korn & Graubard 1998).

    Args:
        n: independent items, used where the mean is 0 or 1 and no effective size exists.
    """
    spread = mean * (1 - mean)
    if spread <= 0 or se <= 0:
        return wilson(round(mean) * n if spread <= 0 else mean * n, n, level=level)
    effective = spread / se**2
    return wilson(mean * effective, effective, level=level, df=df)


def _check(successes: float, n: float) -> None:
    if not n > 0:
        raise SpecError("a proportion needs n > 0", key="n", value=n)
    if not 0 <= successes <= n:
        raise SpecError(f"successes must lie in 0..{n}", key="successes", value=successes)
