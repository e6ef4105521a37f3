"""Minimum detectable effects and the seeds × items that a study needs, from variance components."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import optimize, stats

from harness.errors import SpecError
from harness.stats.crossed import Components

MOST_SEEDS = 1000


@dataclass(frozen=True)
class Design:
    """A number of training seeds and of items."""

    n_seeds: int
    n_items: int


def standard_error(components: Components, *, n_seeds: int, n_items: int) -> tuple[float, float]:
    """SE of the mean of S seeds × N items and its Satterthwaite degrees of freedom, from expected mean squares."""
    if components.seed is None or components.residual is None:
        raise SpecError("power needs the seed component, which one seed cannot give", key="components")
    if n_seeds < 2 or n_items < 1:
        raise SpecError("a design needs at least 2 seeds and 1 item", key="n_seeds", value=(n_seeds, n_items))
    residual = components.residual / (n_seeds * n_items)
    seed, item = components.seed / n_seeds + residual, components.item / n_items + residual
    variance = seed + item - residual
    if variance <= 0:
        return 0.0, math.inf
    squares = seed**2 / (n_seeds - 1)
    if n_items > 1:
        squares += item**2 / (n_items - 1) + residual**2 / ((n_seeds - 1) * (n_items - 1))
    return math.sqrt(variance), variance**2 / squares


def mde(components: Components, *, n_seeds: int, n_items: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true mean that a two-sided level-`alpha` t test finds with probability `power`."""
    se, df = standard_error(components, n_seeds=n_seeds, n_items=n_items)
    if se == 0:
        return 0.0
    critical = float(stats.t.ppf(1 - alpha / 2, df))

    def shortfall(noncentrality: float) -> float:
        return float(stats.nct.sf(critical, df, noncentrality)) - power

    upper = critical + float(stats.norm.ppf(power)) + 1
    while shortfall(upper) < 0:
        upper *= 1.5
    return float(optimize.brentq(shortfall, 0.0, upper)) * se


def seeds_needed(
    components: Components, effect: float, *, n_items: int, alpha: float = 0.05, power: float = 0.8, most: int = MOST_SEEDS
) -> int | None:
    """Fewest seeds for which `effect` is detectable on `n_items` items; None if even `most` are too few."""
    if effect == 0:
        return None

    def enough(n_seeds: int) -> bool:
        return mde(components, n_seeds=n_seeds, n_items=n_items, alpha=alpha, power=power) <= abs(effect)

    if not enough(most):
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def designs_needed(components: Components, effect: float, *, n_items: int, alpha: float = 0.05, power: float = 0.8) -> list[Design]:
    """Designs that detect `effect`: seeds for the present items, and for 4 and 16 times as many where that saves seeds."""
    found: list[Design] = []
    for factor in (1, 4, 16):
        seeds = seeds_needed(components, effect, n_items=n_items * factor, alpha=alpha, power=power)
        if seeds is not None and (not found or seeds < found[-1].n_seeds):
            found.append(Design(seeds, n_items * factor))
    return found
