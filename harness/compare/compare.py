"""The comparison of two or more models from their logs: a row per task and pair, the mean over tasks, the models near the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from harness.compare import wording
from harness.compare.align import Aligned, Common
from harness.compare.difference import Pair, TooFewItemsError, difference, distribution_free, mean_difference, pair_up
from harness.compare.rows import Comparison, Family, Needed, Row, Standing
from harness.errors import SpecError
from harness.stats.clustered import ClusterEstimate
from harness.stats.crossed import Components, Estimate
from harness.stats.groups import GroupEstimate
from harness.stats.multiplicity import benjamini_hochberg, holm
from harness.stats.power import designs_needed
from harness.stats.student import t_noncentrality, t_quantile, t_tail

OVERALL = "mean over tasks"
POWER = 0.8
_NOT_COMPARED = "not compared: "
FEW_CHECKPOINTS = 5
FEW_ITEMS = 30


def compare(common: Common, *, alpha: float = 0.05, margin: float | None = None, intersect: bool = False) -> Comparison:
    """Compares every pair of models on every task, and on the mean over tasks.

    Args:
        alpha: two-sided level of tests; intervals have level 1 − alpha and are not adjusted.
        margin: differences inside ±margin count as equal, on the scale of the scores (two one-sided tests).
    """
    warnings = list(common.warnings)
    families = []
    for name, tasks in _families(common.tasks):
        family, remarks = _family(name, tasks, common.models, alpha, margin, intersect)
        warnings += remarks
        if family is not None:
            families.append(family)
    if not families:
        refused = [text for text in warnings if text.startswith(_NOT_COMPARED)]
        raise SpecError(refused[0].removeprefix(_NOT_COMPARED))
    warnings += _general(families, common)
    return Comparison(common.models, alpha, margin, families, warnings, common.notes + _notes(families))


def _families(tasks: Sequence[Aligned]) -> list[tuple[str, list[Aligned]]]:
    """One family of all tasks if each has one metric on one scale and direction; else one a metric."""
    names = [task.task for task in tasks]
    same = len({task.higher_is_better for task in tasks}) == 1 and (len({task.metric for task in tasks}) == 1 or all(map(_unit, tasks)))
    if len(set(names)) == len(names) and same:
        metrics = list(dict.fromkeys(task.metric for task in tasks))
        return [(metrics[0] if len(metrics) == 1 else "each task's metric", list(tasks))]
    return [
        (metric, [task for task in tasks if task.metric == metric and task.higher_is_better == higher])
        for metric, higher in dict.fromkeys((task.metric, task.higher_is_better) for task in tasks)
    ]


def _unit(task: Aligned) -> bool:
    return all(float(np.nanmin(v, initial=0.0)) >= 0 and float(np.nanmax(v, initial=1.0)) <= 1 for v in task.scores.values())


def _family(
    name: str, tasks: list[Aligned], models: list[str], alpha: float, margin: float | None, intersect: bool
) -> tuple[Family | None, list[str]]:
    warnings: list[str] = []
    pairs: dict[tuple[str, str], list[Pair]] = {both: [] for both in combinations(models, 2)}
    kept = []
    for task in tasks:
        try:
            found = {both: pair_up(task, *both, intersect=intersect) for both in pairs}
        except TooFewItemsError as error:
            warnings.append(f"{_NOT_COMPARED}{error}")
            continue
        kept.append(task)
        for both, pair in found.items():
            pairs[both].append(pair)
    if not kept:
        return None, warnings
    rows = [_task_row(pair, *both, alpha) for both, mine in pairs.items() for pair in mine]
    rows = _judged(rows, alpha, margin)
    overall = []
    if len(kept) > 1:
        overall = [row for both, mine in pairs.items() if (row := _overall_row(name, mine, *both, alpha)) is not None]
        if len(overall) < len(pairs):
            warnings.append(f"{name}: no mean over tasks, because tasks have different numbers of checkpoints")
            overall = []
        overall = _judged(overall, alpha, margin)
    order = {task.task: index for index, task in enumerate(kept)}
    rows.sort(key=lambda row: order[row.task])
    top = overall or (rows if len(kept) == 1 else [])
    return Family(name, rows, overall, _standings(models, top, kept, alpha) if top else []), warnings


def _task_row(pair: Pair, first: str, second: str, alpha: float) -> Row:
    found = difference(pair, level=1 - alpha)
    row = _row([pair], found, pair.task.task, pair.task.metric, first, second, alpha)
    return replace(row, check=distribution_free(pair))


def _overall_row(name: str, pairs: list[Pair], first: str, second: str, alpha: float) -> Row | None:
    found = mean_difference(pairs, level=1 - alpha)
    return None if found is None else _row(pairs, found, OVERALL, name, first, second, alpha)


def _row(
    pairs: list[Pair], found: ClusterEstimate | GroupEstimate | Estimate, task: str, metric: str, first: str, second: str, alpha: float
) -> Row:
    clustered = any(pair.cluster_N is not None for pair in pairs)
    n_seeds = len(pairs[0].first_S_N)
    values = [float(np.mean([side.mean() for side in sides])) for sides in zip(*((p.first_S_N, p.second_S_N) for p in pairs), strict=True)]
    unit = all(float(side.min()) >= 0 and float(side.max()) <= 1 for pair in pairs for side in (pair.first_S_N, pair.second_S_N))
    n_items = sum(pair.first_S_N.shape[1] for pair in pairs)
    if found.estimate == 0 or found.degenerate:
        needed = None
    elif n_seeds == 1:
        needed = Needed(_items_needed(found.se, n_items, found.estimate, alpha))
    else:
        needed = _design(found, n_items, alpha)
    return Row(
        task, metric, first, second, n_items, sum(pair.n_dropped for pair in pairs),
        sum(pair.n_clusters for pair in pairs) if clustered else None, n_seeds, len(pairs), pairs[0].task.higher_is_better, unit,
        values[0], values[1], found.estimate, found.interval, found.level, found.se, found.df, found.p_value, found.model,
        found.degenerate, detectable=_detectable(found.se, found.df, alpha), needed=needed,
    )  # fmt: skip


def _items_needed(se: float, n_items: int, effect: float, alpha: float) -> int:
    """Items for which the two-sided normal test finds `effect` with POWER, at the variance per item that was seen."""
    reach = float(t_quantile(1 - alpha / 2, math.inf) + t_quantile(POWER, math.inf))
    return math.ceil(n_items * (reach * se / effect) ** 2)


def _design(found: Any, n_items: int, alpha: float) -> Needed | None:
    components: Components = found.components
    designs = designs_needed(components, found.estimate, n_items=n_items, alpha=alpha, power=POWER)
    return Needed(designs[0].n_items, designs[0].n_seeds) if designs else None


def _detectable(se: float, df: float, alpha: float) -> float:
    """Smallest true difference that these data would show with POWER."""
    return t_noncentrality(POWER, df, alpha=alpha) * se


def _judged(rows: list[Row], alpha: float, margin: float | None) -> list[Row]:
    """Adds adjusted p values, the equivalence test and the verdict in words."""
    if not rows:
        return []
    p_values = [row.decisive_p for row in rows]
    result = []
    for row, p_holm, p_bh in zip(rows, holm(p_values), benjamini_hochberg(p_values), strict=True):
        row = replace(row, p_holm=p_holm, p_bh=p_bh, equivalence_p=None if margin is None else _equivalence(row, margin))
        row = replace(row, verdict=_verdict(row, alpha))
        result.append(replace(row, words=wording.sentence(row, alpha, margin, alone=len(rows) == 1)))
    return result


def _equivalence(row: Row, margin: float) -> float:
    """p of two one-sided t tests of |difference| ≥ margin."""
    return float(t_tail(margin - abs(row.difference), row.se, row.df))


def _verdict(row: Row, alpha: float) -> str:
    if row.p_holm <= alpha:
        ahead = (row.difference > 0) == row.higher_is_better
        return wording.FIRST if ahead else wording.SECOND
    if row.equivalence_p is not None and row.equivalence_p <= alpha:
        return wording.EQUIVALENT
    return wording.NOT_APART


def _standings(models: list[str], rows: list[Row], tasks: list[Aligned], alpha: float) -> list[Standing]:
    """Models from best to worst by their own mean, with Holm's p (over all pairs) against the best."""
    means = {model: float(np.mean([np.nanmean(task.scores[model]) for task in tasks])) for model in models}
    higher = tasks[0].higher_is_better
    order = sorted(models, key=lambda model: -means[model] if higher else means[model])
    against = {frozenset((row.first, row.second)): row.p_holm for row in rows}
    found = []
    for model in order:
        p_holm = None if model == order[0] else against[frozenset((model, order[0]))]
        n_seeds = len(tasks[0].seeds[model])
        found.append(Standing(model, means[model], n_seeds, p_holm, p_holm is None or p_holm > alpha))
    return found


def _general(families: list[Family], common: Common) -> list[str]:
    """Warnings on what the data cannot say."""
    rows = [row for family in families for row in family.rows]
    counts = {model: min(len(task.seeds[model]) for task in common.tasks) for model in common.models}
    warnings = []
    if all(count == 1 for count in counts.values()):
        warnings.append(
            "one checkpoint of each model: the intervals cover other items, not another training run; they say nothing about retraining"
        )
    elif single := [model for model, count in counts.items() if count == 1]:
        warnings.append(
            f"{', '.join(single)}: one checkpoint, compared with every checkpoint of the others; its own retraining is not covered"
        )
    several = [count for count in counts.values() if count > 1]
    if several and min(several) < FEW_CHECKPOINTS:
        warnings.append(f"only {min(several)} checkpoints: how much training runs differ is poorly known below {FEW_CHECKPOINTS}")
    small = [row for row in rows if (row.n_clusters or row.n_items) < FEW_ITEMS]
    if small:
        units = min(row.n_clusters or row.n_items for row in small)
        named = ", ".join(dict.fromkeys(row.task for row in small[:3]))
        warnings.append(f"few items or clusters ({named}: {units}): below {FEW_ITEMS} the t interval is rough")
    if flat := list(dict.fromkeys(row.task for row in rows if row.degenerate)):
        warnings.append(f"no variation in the difference ({', '.join(flat[:5])}): the interval rests on a floor, not on seen variation")
    disagree = [row for row in rows if row.check and (row.check.p_value <= 1 - row.level) != (row.p_value <= 1 - row.level)]
    for row in disagree[:3]:
        assert row.check is not None
        warnings.append(
            f"{row.task} ({row.metric}), {row.first} vs {row.second}: t test p {wording.p_text(row.p_value)} and {row.check.name} "
            f"p {wording.p_text(row.check.p_value)} fall on different sides of {1 - row.level:.3g}; "
            f"{row.check.name if row.decisive_p == row.check.p_value else 'the t test'} decides"
        )
    return warnings


def _notes(families: list[Family]) -> list[str]:
    notes = []
    if len(families) > 1:
        notes.append(f"{len(families)} metrics are shown, each adjusted by itself; choose yours (--metric) before looking")
    if any(len(family.standings) > 2 for family in families):
        notes.append("the best of several models is flattered by having been chosen: its mean is biased upwards")
    return notes
