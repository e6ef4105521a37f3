"""Stopping an evaluation early without cheating: a confidence sequence of a bounded paired mean difference, right at every n at once.

Items come in random order. Two gamblers bet against each candidate mean m, one that the true mean is higher, one that it is lower; a mean
at which the average of their wealths has ever reached 1/alpha is excluded, for good. By Ville's inequality the true mean is ever excluded
with chance at most alpha, however often and for whatever reason one looks.

Differences in [−r, r] are mapped to x = (d/r + 1)/2; the bet at step t is λ_t = √(2·ln(2/alpha) / (v_{t−1}·t·ln(1 + t))), cut at ½/m and
½/(1 − m), with v the running variance. Items must be exchangeable; in clusters, feed one mean a cluster. It speaks of the checkpoints
compared, not of other training seeds, so a verdict never rests on it: it says when more items cannot change what is known of these two.

Source: Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting": hedged capital process with predictable
plug-in bets (equations 24–26), truncation c = ½.
"""
# Array axes: _T items in the order they were scored, _G candidate means.

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.stats.clustered import FloatArray, check_options, scores

_CUT = 0.5
_CANDIDATES = 1001
_BLOCK = 2_000_000
"""Wealths held at once: 16 MiB an array."""


@dataclass(frozen=True)
class ConfidenceSequence:
    """Running interval of the mean difference: after item t it is [low_T[t], high_T[t]], and never widens."""

    low_T: FloatArray
    high_T: FloatArray
    mean_T: FloatArray
    alpha: float


@dataclass(frozen=True)
class Stopping:
    """When the evaluation could have ended, and what that would have saved."""

    stopped_after: int | None
    """Items scored when the question was settled; None: not within the items there are."""
    n_items: int
    low: float
    high: float
    """The interval at that point (at the end, where it never was settled)."""
    why: str
    """"above zero", "below zero", "within the margin" or "not settled"."""

    @property
    def saving(self) -> float:
        """Share of the items that need not have been scored."""
        return 0.0 if self.stopped_after is None else 1 - self.stopped_after / self.n_items


def confidence_sequence(difference_T: npt.ArrayLike, *, alpha: float = 0.05, score_range: float = 1.0) -> ConfidenceSequence:
    """Interval of the mean difference after each item, valid for all of them together with chance 1 − alpha.

    Args:
        difference_T: paired differences in the order of scoring, which must be random.
        score_range: largest possible distance between two scores; differences lie within ± it.
    Raises:
        SpecError: no finite numbers, or a difference beyond the range.
    """
    x_T = _unit(difference_T, alpha, score_range)
    grid_G = np.linspace(0.0, 1.0, _CANDIDATES)
    low_T, high_T = np.empty(len(x_T)), np.empty(len(x_T))
    step = max(1, _BLOCK // _CANDIDATES)
    bets_T, wealth = _bets(x_T, alpha), (np.zeros(_CANDIDATES), np.zeros(_CANDIDATES))
    excluded_G = np.zeros(_CANDIDATES, dtype=bool)
    for start in range(0, len(x_T), step):
        rows = slice(start, start + step)
        up_T_G, down_T_G = _log_wealth(x_T[rows], bets_T[rows], grid_G, wealth)
        wealth = (up_T_G[-1], down_T_G[-1])
        out_T_G = np.logaddexp(up_T_G, down_T_G) - math.log(2) >= -math.log(alpha)
        out_T_G = np.logical_or.accumulate(out_T_G, axis=0) | excluded_G
        excluded_G = out_T_G[-1]
        low_T[rows], high_T[rows] = _ends(out_T_G, grid_G)
    # Where no candidate is left the mean lies between two of them, or the event of chance alpha has happened: the last interval stays.
    last_T = np.maximum.accumulate(np.where(np.isnan(low_T), 0, np.arange(len(x_T))))
    mean_T = np.cumsum(x_T) / np.arange(1, len(x_T) + 1)
    low_T, high_T, mean_T = (score_range * (2 * values_T - 1) for values_T in (low_T[last_T], high_T[last_T], mean_T))
    return ConfidenceSequence(low_T, high_T, mean_T, alpha)


def stopping_time(
    difference_T: npt.ArrayLike, *, alpha: float = 0.05, score_range: float = 1.0, margin: float | None = None, look_every: int = 1
) -> Stopping:
    """After how many items it was settled which side of zero the mean difference lies on, or that it lies within ±margin.

    Args:
        margin: differences within it count as none; without it only the sign settles the question.
        look_every: items scored between two looks.
    Raises:
        SpecError: as `confidence_sequence`; a margin or number of items that is not above 0.
    """
    if margin is not None and not margin > 0:
        raise SpecError("a margin is a number above 0", key="margin", value=margin)
    if look_every < 1:
        raise SpecError("at least one item must be scored between two looks", key="look_every", value=look_every)
    found = confidence_sequence(difference_T, alpha=alpha, score_range=score_range)
    n_items = len(found.low_T)
    for index in [*range(look_every - 1, n_items - 1, look_every), n_items - 1]:
        low, high = float(found.low_T[index]), float(found.high_T[index])
        why = "above zero" if low > 0 else "below zero" if high < 0 else ""
        if not why and margin is not None and -margin <= low and high <= margin:
            why = "within the margin"
        if why:
            return Stopping(index + 1, n_items, low, high, why)
    return Stopping(None, n_items, float(found.low_T[-1]), float(found.high_T[-1]), "not settled")


def _unit(difference_T: npt.ArrayLike, alpha: float, score_range: float) -> FloatArray:
    check_options(1 - alpha, score_range)
    difference = scores(difference_T, key="difference_T", ndim=1)
    if np.abs(difference).max() > score_range * (1 + 1e-12):
        worst = float(difference[np.abs(difference).argmax()])
        raise SpecError(f"a difference beyond the range of scores {score_range:g}", key="difference_T", value=worst)
    return np.asarray(np.clip((difference / score_range + 1) / 2, 0.0, 1.0))


def _bets(x_T: FloatArray, alpha: float) -> FloatArray:
    """λ_t from the items before t: running mean (½ + Σx)/(t + 1) and variance (¼ + Σ(x − mean)²)/(t + 1)."""
    time_T = np.arange(1, len(x_T) + 1)
    mean_T = (0.5 + np.cumsum(x_T)) / (time_T + 1)
    variance_T = (0.25 + np.cumsum((x_T - mean_T) ** 2)) / (time_T + 1)
    before_T = np.concatenate([[0.25], variance_T[:-1]])
    return np.asarray(np.sqrt(2 * math.log(2 / alpha) / (before_T * time_T * np.log1p(time_T))))


def _log_wealth(x_T: FloatArray, bets_T: FloatArray, grid_G: FloatArray, start: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, ...]:
    """Log wealth (T, G) of the gambler on a higher mean and of the one on a lower mean."""
    with np.errstate(divide="ignore"):
        up_T_G = np.minimum(bets_T[:, None], _CUT / grid_G)
        down_T_G = np.minimum(bets_T[:, None], _CUT / (1 - grid_G))
    gap_T_G = x_T[:, None] - grid_G
    return (
        start[0] + np.cumsum(np.log1p(up_T_G * gap_T_G), axis=0),
        start[1] + np.cumsum(np.log1p(-down_T_G * gap_T_G), axis=0),
    )


def _ends(out_T_G: npt.NDArray[np.bool_], grid_G: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Ends of the candidates left (NaN: none), one grid step further out, so that no mean between two candidates is cut off."""
    some_T = ~out_T_G.all(axis=1)
    first_T, last_T = (~out_T_G).argmax(axis=1), out_T_G.shape[1] - 1 - (~out_T_G)[:, ::-1].argmax(axis=1)
    low_T = grid_G[np.maximum(first_T - 1, 0)]
    high_T = grid_G[np.minimum(last_T + 1, len(grid_G) - 1)]
    return np.where(some_T, low_T, np.nan), np.where(some_T, high_T, np.nan)
