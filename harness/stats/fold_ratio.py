"""A ratio of means over leave-one-family-out folds: the set of ratios that the test over folds does not reject (as harness.stats.relative).

Treatment / comparator > ρ is the same as E[treatment − ρ·comparator] > 0 where the comparator's mean is above 0, and that difference is
tested by `harness.stats.folds.fold_effect`, which allows for the overlap of the folds' training sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from harness.stats.crossed import Components, TaskScores
from harness.stats.folds import FoldEffect, fold_effect
from harness.stats.relative import RatioEstimate, RatioUndefinedError, root_of
from harness.stats.student import t_quantile, t_tail


def fold_ratio(folds: Mapping[str, TaskScores], *, level: float = 0.95) -> RatioEstimate:
    """Treatment's mean / comparator's mean, folds weighing the same.

    Args:
        folds: see `fold_effect`.
    Raises:
        SpecError: see `fold_effect`.
        RatioUndefinedError: the comparator's mean over families like these is not clearly above 0.
    """
    below = fold_effect(_weighed(folds, 0.0, -1.0), level=level)
    if below.interval[0] <= 0:
        raise RatioUndefinedError(
            f"the comparator's mean {below.estimate:.3g} over families like these is not clearly above 0 (interval from "
            f"{below.interval[0]:.3g})"
        )
    value = fold_effect(_weighed(folds, 1.0, 0.0), level=level).estimate / below.estimate
    centre = against(folds, value, level=level)

    def excess(rho: float) -> float:
        there = against(folds, rho, level=level)
        return abs(there.estimate) - (there.interval[1] - there.interval[0]) / 2

    step = max(centre.interval[1] - centre.interval[0], 1e-12) / below.estimate
    interval = (root_of(excess, value, -step), root_of(excess, value, step)) if centre.se > 0 else (value, value)
    parts, factor = design_components(centre), below.estimate**-2
    assert parts.seed is not None
    assert parts.residual is not None
    return RatioEstimate(
        value, centre.se / below.estimate, centre.df, interval, level, min(1.0, 2 * min(tails(against(folds, 1.0)))),
        Components(parts.seed * factor, parts.item * factor, parts.residual * factor), centre.n_seeds, centre.n_items, "folds",
    )  # fmt: skip


def against(folds: Mapping[str, TaskScores], rho: float, *, level: float = 0.95) -> FoldEffect:
    """The effect of treatment − ρ·comparator; where both scored alike everywhere, with the variance of their difference, a floor, added."""
    found, alike = fold_effect(_weighed(folds, 1.0, rho), level=level), fold_effect(_weighed(folds, 1.0, 1.0), level=level)
    if not alike.these_families.degenerate or found.these_families.degenerate:
        return found
    variance = found.se**2 + alike.se**2
    se, df = math.sqrt(variance), variance**2 / (found.se**4 / found.df + alike.se**4 / alike.df)
    half = float(t_quantile((1 + level) / 2, df)) * se
    p_value = min(1.0, 2 * float(t_tail(abs(found.estimate), se, df)))
    return replace(found, se=se, df=df, interval=(found.estimate - half, found.estimate + half), p_value=p_value)


def tails(found: FoldEffect, null: float = 0.0) -> tuple[float, float]:
    """One-sided p values of "mean ≤ null" and of "mean ≥ null"."""
    distance = found.estimate - null
    return float(t_tail(distance, found.se, found.df)), float(t_tail(-distance, found.se, found.df))


def design_components(found: FoldEffect) -> Components:
    """Variances as designs of seeds × items count them: the parts of families and cells, overlap included, times the items of a family."""
    seed, family, residual = found.components.seed, found.components.item, found.components.residual
    assert seed is not None
    assert residual is not None
    overlap, items_a_family = 1 + found.n_folds / (found.n_folds - 1), found.n_items / found.n_folds
    return Components(seed, overlap * family * items_a_family, residual * items_a_family)


def _weighed(folds: Mapping[str, TaskScores], treatment: float, comparator: float) -> dict[str, TaskScores]:
    return {name: TaskScores(fold.values_S_N_P * np.array([treatment, comparator]), fold.clusters_N) for name, fold in folds.items()}
