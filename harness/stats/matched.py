"""Which of two corpora is more diverse, at equal number and length of texts, paired over training seeds.

Distinct-n, self-BLEU, compression and Vendi all move with size and length, so both corpora are cut to the same number of texts in each
length bin; the cut is drawn again and again, and the mean over draws is what is compared. It speaks of the lengths that both have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.stats.diversity import Integers, TextSet
from harness.stats.student import t_quantile

BIN_RATIO = 1.25
"""Two texts in one length bin differ by less than this factor in words."""
MIN_TEXTS = 5
"""Fewer matched texts than this say nothing about diversity."""
DRAWS = 50


@dataclass(frozen=True)
class SeedPair:
    """Two corpora of one training seed at equal size and length: `n` texts of each, of the `n_a` and `n_b` that there are.

    `a` and `b` are means over draws; `draw_range` holds 95 % of the draws' differences and speaks of the cut alone.
    """

    n: int
    n_a: int
    n_b: int
    words_a: float
    words_b: float
    a: dict[str, float]
    b: dict[str, float]
    draw_range: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Difference:
    """a − b, averaged over training seeds; the interval (Student's t over seeds) is None for a single one."""

    a: float
    b: float
    difference: float
    interval: tuple[float, float] | None
    n_seeds: int


def compare_matched(a: TextSet, b: TextSet, *, rng: np.random.Generator, draws: int = DRAWS) -> SeedPair:
    """Measures both sets at equal size and lengths.

    Raises:
        SpecError: too few texts of one set have a counterpart of their length in the other.
    """
    assert draws > 0, draws
    rows_a, rows_b, words = [], [], []
    for chosen_a, chosen_b in _draw(a, b, rng=rng, draws=draws):
        if len(chosen_a) < MIN_TEXTS:
            raise SpecError(f"only {len(chosen_a)} texts have a counterpart of their length ({len(a)} and {len(b)} texts)")
        rows_a.append(a.measure(chosen_a))
        rows_b.append(b.measure(chosen_b))
        words.append((a.words_N[chosen_a].mean(), b.words_N[chosen_b].mean()))
    metrics = [metric for metric in rows_a[0] if all(metric in row for row in (*rows_a, *rows_b))]
    mean_a, mean_b = ({metric: float(np.mean([row[metric] for row in rows])) for metric in metrics} for rows in (rows_a, rows_b))
    gaps = {metric: [mine[metric] - theirs[metric] for mine, theirs in zip(rows_a, rows_b, strict=True)] for metric in metrics}
    ranges = {metric: (float(np.quantile(gap, 0.025)), float(np.quantile(gap, 0.975))) for metric, gap in gaps.items()}
    words_a, words_b = np.mean(words, axis=0)
    return SeedPair(len(chosen_a), len(a), len(b), float(words_a), float(words_b), mean_a, mean_b, ranges)


def paired_differences(
    a_by_seed: Mapping[int, Mapping[str, float]], b_by_seed: Mapping[int, Mapping[str, float]], *, level: float = 0.95
) -> dict[str, Difference]:
    """Differences of every metric that both have, over the seeds that both have.

    Raises:
        SpecError: they share no seed.
    """
    seeds = sorted(a_by_seed.keys() & b_by_seed.keys())
    if not seeds:
        raise SpecError("no training seed in common", value=(sorted(a_by_seed), sorted(b_by_seed)))
    metrics = [metric for metric in a_by_seed[seeds[0]] if all(metric in by[seed] for seed in seeds for by in (a_by_seed, b_by_seed))]
    return {
        metric: _difference([a_by_seed[seed][metric] for seed in seeds], [b_by_seed[seed][metric] for seed in seeds], level)
        for metric in metrics
    }


def _difference(a_S: list[float], b_S: list[float], level: float) -> Difference:
    gaps_S = np.subtract(a_S, b_S)
    mean, n = float(gaps_S.mean()), len(gaps_S)
    interval = None
    if n > 1:
        half = float(t_quantile((1 + level) / 2, n - 1) * gaps_S.std(ddof=1) / math.sqrt(n))
        interval = (mean - half, mean + half)
    return Difference(float(np.mean(a_S)), float(np.mean(b_S)), mean, interval, n)


def _draw(a: TextSet, b: TextSet, *, rng: np.random.Generator, draws: int) -> Iterator[tuple[Integers, Integers]]:
    """Indices into both sets, as many of each length bin, in random order."""
    bins_a, bins_b = _bins(a.words_N), _bins(b.words_N)
    pairs = [(np.flatnonzero(bins_a == bin_), np.flatnonzero(bins_b == bin_)) for bin_ in np.intersect1d(bins_a, bins_b)]
    for _ in range(draws):
        sides: tuple[list[Integers], list[Integers]] = ([], [])
        for members in pairs:
            size = min(map(len, members))
            for side, own in zip(sides, members, strict=True):
                side.append(rng.choice(own, size, replace=False))
        empty = np.zeros(0, dtype=np.int64)
        yield rng.permutation(np.concatenate([empty, *sides[0]])), rng.permutation(np.concatenate([empty, *sides[1]]))


def _bins(words_N: Integers) -> npt.NDArray[np.int64]:
    return np.floor(np.log(np.maximum(words_N, 1)) / math.log(BIN_RATIO) + 1e-9).astype(np.int64)
