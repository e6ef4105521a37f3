"""Which examples the last update of a budget is made of: those whose prices come closest to what is left."""

from __future__ import annotations

from collections.abc import Sequence

GRID = 1 << 16
"""Steps that the limit is divided into; prices are rounded up to them, so a choice never costs more than the limit."""


def fullest(prices: Sequence[float], limit: float) -> list[int]:
    """The places, rising, of a subset with the largest sum that is not above `limit`; of equal sums the one of earlier places.

    Subset sum by dynamic programming over the bits of an integer. Prices are rounded up, so subsets within
    `limit` / GRID an item of the limit may be missed.

    Args:
        prices: positive, in the unit of `limit`.
    """
    if limit <= 0:
        return []
    units = [-int(-price * GRID // limit) for price in prices]
    reach = [1]  # bit s of reach[n]: a subset of the first n items costs s units
    for unit in units:
        reach.append((reach[-1] | (reach[-1] << unit)) & ((1 << (GRID + 1)) - 1) if unit <= GRID else reach[-1])
    left = reach[-1].bit_length() - 1
    chosen = []
    for place in range(len(units) - 1, -1, -1):
        if not reach[place] >> left & 1:
            chosen.append(place)
            left -= units[place]
    return chosen[::-1]
