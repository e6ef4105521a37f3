"""Ranks that admit ties: which methods are surely apart, intervals of ranks, and the set that holds the best.

Rank intervals are simultaneous: pairs are told apart by Holm over all M·(M − 1)/2 of them, and a method's rank lies between 1 + the number
surely better and M − the number surely worse. With chance 1 − alpha no pair is told apart wrongly, so all intervals are right together.

The best set asks less: method j is left out if some rival is surely better than it, one-sided at alpha/(M − 1) (multiple comparisons with
the best). Only the true best's own M − 1 tests can leave it out, so it is in the set with chance 1 − alpha, and more rivals can be left out
than Holm over all pairs tells apart.

Source: Hsu 1981 (comparisons with the best); Al Mohamad, Goeman & van Zwet 2022; Mogstad, Romano, Shaikh & Wilhelm 2024 (ranks).
"""
# Array axes: _M methods.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.errors import SpecError
from harness.stats.equivalence import Tested
from harness.stats.multiplicity import holm


@dataclass(frozen=True)
class Ranking:
    """Per method, in the order given: rank interval, membership in the best set. `apart` holds (better, worse) pairs."""

    names: tuple[str, ...]
    rank_intervals: dict[str, tuple[int, int]]
    best: tuple[str, ...]
    apart: frozenset[tuple[str, str]]
    p_holm: dict[tuple[str, str], float]
    """Two-sided, of each pair that was given."""


def ranking(names: Sequence[str], differences: Mapping[tuple[str, str], Tested | None], *, alpha: float = 0.05) -> Ranking:
    """Ranks methods from their paired differences.

    Args:
        differences: (first, second) → first − second, higher is better; None or absent: the two cannot be compared, so never told apart
            (they count among the M − 1 rivals all the same).
    Raises:
        SpecError: a name is given twice, or a pair names an unknown method, itself, or is given in both orders.
    """
    _check(names, differences)
    pairs = {pair: found for pair, found in differences.items() if found is not None}
    two_sided = {pair: min(1.0, 2 * min(found.p_greater(0.0), found.p_less(0.0))) for pair, found in pairs.items()}
    adjusted = dict(zip(two_sided, holm(list(two_sided.values())), strict=True)) if two_sided else {}
    apart = frozenset(pair if pairs[pair].estimate > 0 else pair[::-1] for pair, p in adjusted.items() if p <= alpha)
    intervals = {
        name: (1 + sum(worse == name for _, worse in apart), len(names) - sum(better == name for better, _ in apart)) for name in names
    }
    return Ranking(tuple(names), intervals, best_set(names, pairs, alpha=alpha), apart, adjusted)


def best_set(names: Sequence[str], differences: Mapping[tuple[str, str], Tested], *, alpha: float = 0.05) -> tuple[str, ...]:
    """The methods than which none is surely better; holds the best with chance 1 − alpha."""
    limit = alpha / max(len(names) - 1, 1)
    beaten = {second for (_, second), found in differences.items() if found.p_greater(0.0) <= limit}
    beaten |= {first for (first, _), found in differences.items() if found.p_less(0.0) <= limit}
    return tuple(name for name in names if name not in beaten)


def _check(names: Sequence[str], differences: Mapping[tuple[str, str], object]) -> None:
    if not names or len(set(names)) < len(names):
        raise SpecError("expected different names of methods", key="names", value=list(names))
    for first, second in differences:
        for name in (first, second):
            if name not in names:
                raise SpecError("a pair names an unknown method", key="differences", value=name, valid=names)
        if first == second or (second, first) in differences:
            raise SpecError("each pair of two methods may be given once", key="differences", value=(first, second))
