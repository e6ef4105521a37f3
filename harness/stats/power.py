"""Minimum detectable effects and the seeds × items that a study needs, from variance components."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.errors import SpecError
from harness.stats.crossed import Components
from harness.stats.freedom import variance_and_df
from harness.stats.student import t_noncentrality, t_power

MOST_SEEDS = 1000
MOST_ITEMS = 100_000
FEWEST_SEEDS = 3
"""Below it the crossed test's error rates are not known to hold (docs/statistics.md)."""


@dataclass(frozen=True)
class Design:
    """A number of training seeds and of items."""

    n_seeds: int
    n_items: int


@dataclass(frozen=True)
class PricedDesign:
    """A design and what it costs, in the unit of the prices given."""

    n_seeds: int
    n_items: int
    cost: float


def standard_error(components: Components, *, n_seeds: int, n_items: int, item_df: float | None = None) -> tuple[float, float]:
    """SE of the mean of S seeds × N items and its degrees of freedom, by the crossed test's own rule at the expected mean squares.

    Args:
        item_df: degrees of freedom of the item part where they are not N − 1: K − 1 for items of K families or clusters.
    Raises:
        SpecError: the components are those of one seed, or the design has fewer than 2 seeds or no item.
    """
    if components.seed is None or components.residual is None:
        raise SpecError("power needs the seed component, which one seed cannot give", key="components")
    if n_seeds < 2 or n_items < 1:
        raise SpecError("a design needs at least 2 seeds and 1 item", key="n_seeds", value=(n_seeds, n_items))
    residual = components.residual / (n_seeds * n_items)
    # With one item a value exists once a seed: all that varies is between seeds.
    n_tasks = int(n_items > 1)
    seed = np.array(components.seed / n_seeds + residual + (0.0 if n_tasks else components.item))
    item_K, residual_K = np.full(n_tasks, components.item / n_items + residual), np.full(n_tasks, residual)
    variance, df = variance_and_df(
        seed, item_K, residual_K, np.full(n_tasks, n_items - 1.0 if item_df is None else item_df), n_seeds=n_seeds, rule="corrected"
    )
    return math.sqrt(float(variance)), float(df)


def power(components: Components, effect: float, *, n_seeds: int, n_items: int, alpha: float = 0.05, item_df: float | None = None) -> float:
    """Chance that a two-sided level-`alpha` t test finds a true mean of `effect`, in its own direction. Raises as `standard_error`."""
    se, df = standard_error(components, n_seeds=n_seeds, n_items=n_items, item_df=item_df)
    return _power(abs(effect), se, df, alpha)


def mde(
    components: Components, *, n_seeds: int, n_items: int, alpha: float = 0.05, power: float = 0.8, item_df: float | None = None
) -> float:
    """Smallest true mean that a two-sided level-`alpha` t test finds with probability `power`. Raises as `standard_error`."""
    se, df = standard_error(components, n_seeds=n_seeds, n_items=n_items, item_df=item_df)
    return t_noncentrality(power, df, alpha=alpha) * se


def _power(effect: float, se: float, df: float, alpha: float) -> float:
    return t_power(effect / se, df, alpha=alpha) if se else float(effect > 0)


def seeds_needed(
    components: Components,
    effect: float,
    *,
    n_items: int,
    alpha: float = 0.05,
    power: float = 0.8,
    most: int = MOST_SEEDS,
    item_df: float | None = None,
) -> int | None:
    """Fewest seeds, 3 or more, for which `effect` is detectable on `n_items` items; None if even `most` are too few."""
    if effect == 0:
        return None

    def enough(n_seeds: int) -> bool:
        return _detects(components, effect, n_seeds, n_items, alpha, power, item_df)

    return _fewest(enough, FEWEST_SEEDS, most)


def items_needed(
    components: Components, effect: float, *, n_seeds: int, alpha: float = 0.05, power: float = 0.8, most: int = MOST_ITEMS
) -> int | None:
    """Fewest items on which `effect` is detectable with `n_seeds` seeds; None if even `most` are too few."""
    if effect == 0:
        return None

    def enough(n_items: int) -> bool:
        return _detects(components, effect, n_seeds, n_items, alpha, power)

    return _fewest(enough, FEWEST_SEEDS, most)


def cheapest_design(
    components: Components,
    effect: float,
    *,
    seed_cost: float,
    item_cost: float,
    alpha: float = 0.05,
    power: float = 0.8,
    most_items: int = MOST_ITEMS,
    most_seeds: int = MOST_SEEDS,
) -> PricedDesign | None:
    """The cheapest seeds × items, of 3 seeds or more, that detects `effect`, or None if none within the limits does.

    Args:
        seed_cost: of one more training seed (training every method compared once).
        item_cost: of scoring one item for one seed (every method compared); S seeds × N items cost S·(seed_cost + N·item_cost).
    Raises:
        SpecError: a cost below 0, or both 0.
    """
    if not (seed_cost >= 0 and item_cost >= 0 and seed_cost + item_cost > 0 and math.isfinite(seed_cost + item_cost)):
        raise SpecError("costs must not be negative, nor both 0", key="seed_cost, item_cost", value=(seed_cost, item_cost))
    best: PricedDesign | None = None
    for n_seeds in range(FEWEST_SEEDS, most_seeds + 1):
        # More seeds than the best design's whole cost pays for, on the fewest items, cannot be cheaper.
        if best and n_seeds * (seed_cost + 2 * item_cost) >= best.cost:
            break
        n_items = items_needed(components, effect, n_seeds=n_seeds, alpha=alpha, power=power, most=most_items)
        if n_items is None:
            continue
        cost = n_seeds * (seed_cost + n_items * item_cost)
        if best is None or cost < best.cost:
            best = PricedDesign(n_seeds, n_items, cost)
    return best


def _detects(
    components: Components, effect: float, n_seeds: int, n_items: int, alpha: float, wanted: float, item_df: float | None = None
) -> bool:
    return power(components, effect, n_seeds=n_seeds, n_items=n_items, alpha=alpha, item_df=item_df) >= wanted


def _fewest(enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """Smallest number in least..most for which `enough`, which stays true once it is."""
    if not enough(most):
        return None
    low, high = least - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def designs_needed(
    components: Components, effect: float, *, n_items: int, alpha: float = 0.05, power: float = 0.8, item_df: float | None = None
) -> list[Design]:
    """Designs that detect `effect`: seeds for the present items, and for 4 and 16 times as many where that saves seeds."""
    found: list[Design] = []
    for factor in (1, 4, 16):
        seeds = seeds_needed(components, effect, n_items=n_items * factor, alpha=alpha, power=power, item_df=item_df)
        if seeds is not None and (not found or seeds < found[-1].n_seeds):
            found.append(Design(seeds, n_items * factor))
    return found
