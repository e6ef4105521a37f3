"""The last update's examples: against every subset, and the bounds that a budget needs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from harness.models.closing import GRID, fullest


@pytest.mark.parametrize("seed", range(20))
def test_no_subset_comes_closer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prices = rng.uniform(0.5, 4.0, size=9).tolist()
    limit = float(rng.uniform(1, 20))
    sums = [sum(subset) for size in range(10) for subset in combinations(prices, size)]
    best = max(total for total in sums if total <= limit * (1 - len(prices) / GRID))
    chosen = fullest(prices, limit)
    found = sum(prices[place] for place in chosen)
    assert chosen == sorted(set(chosen))
    assert best - limit * len(prices) / GRID <= found <= limit


@pytest.mark.parametrize(
    ("prices", "limit", "expected"), [([], 1.0, []), ([2.0], 1.0, []), ([2.0], 2.0, [0]), ([1.0, 1.0], 1.0, [0]), ([1.0], 0.0, [])]
)
def test_edges(prices: list[float], limit: float, expected: list[int]) -> None:
    assert fullest(prices, limit) == expected


def test_sixty_four_examples_leave_next_to_nothing() -> None:
    prices = np.random.default_rng(0).uniform(3e10, 9e10, size=64).tolist()
    for limit in np.random.default_rng(1).uniform(1.2e11, 5e11, size=50):
        total = sum(prices[place] for place in fullest(prices, float(limit)))
        assert 0.999 * limit <= total <= limit
