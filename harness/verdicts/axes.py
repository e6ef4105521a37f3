"""Whether the ranking depends on what is held equal: methods ranked at equal spend of FLOPs, tokens, seconds, dollars and labels.

With checkpoints a method's score at a spend is read off its run, linear between the points scored; all methods are compared at the largest
spend that every one of them reached in every seed. Without checkpoints only the spend of whole runs is known, and on an axis on which
methods spent different amounts nothing is said about the ranking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from harness.stats.crossed import Estimate, contrast, seed_moments
from harness.stats.ranking import ranking
from harness.verdicts.frames import Frames, NotTestableError, Scores, is_trained
from harness.verdicts.tracks import AXES, Track, has_checkpoints, quality_at, spend, tracks

ALPHA = 0.05
MATCHED = 0.02
SHOWN = ("flops", "tokens", "seconds", "usd", "labels")
"""Axes of the table; queries of other models are in the verdicts."""


def axes_table(results: Frames, scores: Scores, tasks: Sequence[str]) -> dict[str, Any]:
    """What methods spend on each axis, and their ranking at equal spend.

    Returns:
        "rows": per axis {axis, unit, words, spend: {method: mean of whole runs}, matched, at (the common spend), ranking: [{method, value,
        tied_with_best}], why (where there is no ranking)}; "checkpoints": whether there are any; "winners": {axis: method};
        "text": whether the winner changes with the axis, in words.
    """
    methods = [method for method in scores.methods if is_trained(results.trials, method)]
    if len(methods) < 2:
        return {}
    seeds, along, why = scores.seeds(methods), {}, ""
    kept = set(results.checkpoint_samples["task"]) if has_checkpoints(results) else set()
    tasks = [task for task in tasks if task in kept]
    if not kept:
        why = "only whole runs were scored"
    elif not tasks or not seeds:
        why = "no task of the leaderboard was scored along the runs" if seeds else "the methods share no training seed"
    else:
        try:
            along = tracks(results, scores, methods, seeds, tasks)
        except NotTestableError as error:
            why = str(error)
    finished = results.trials[results.trials["status"] == "finished"]
    rows = [_row(axis, methods, seeds, finished, along, why) for axis in SHOWN]
    winners = {row["axis"]: row["ranking"][0]["method"] for row in rows if row["ranking"]}
    return {"rows": rows, "checkpoints": bool(along), "winners": winners, "text": _text(rows, winners, why), "tasks": list(tasks)}


def _row(
    axis: str, methods: Sequence[str], seeds: Sequence[int], trials: pd.DataFrame, along: dict[tuple[str, int], Track], why: str
) -> dict[str, Any]:
    amounts = spend(trials, axis).groupby(trials["method"]).mean().reindex(list(methods))
    known = bool(amounts.notna().all())
    row: dict[str, Any] = {
        "axis": axis, "unit": AXES[axis].unit, "words": AXES[axis].words,
        "spend": {method: None if math.isnan(amount) else float(amount) for method, amount in amounts.items()},
        "matched": known and bool(amounts.max() <= (1 + MATCHED) * amounts.min()), "at": None, "ranking": [], "why": why,
    }  # fmt: skip
    if not along:
        return row
    ends = {key: track.cost_T[axis][-1] for key, track in along.items()}
    idle = [method for method in methods if any(not ends[method, seed] > 0 for seed in seeds)]
    if idle:
        return row | {"why": f"{idle[0]} spends none, so no spend is equal"}
    at = min(ends.values())
    value_S_M = np.array([[quality_at(along[method, seed], axis, at) for method in methods] for seed in seeds])
    late = [method for method, values in zip(methods, value_S_M.T, strict=True) if np.isnan(values).any()]
    if late:
        return row | {"at": at, "why": f"at the largest spend that all reached, {late[0]} had no student scored yet"}
    return row | {"at": at, "ranking": _ranked(methods, value_S_M), "why": ""}


def _ranked(methods: Sequence[str], value_S_M: np.ndarray[Any, np.dtype[np.float64]]) -> list[dict[str, Any]]:
    """Best first; tied with the best where the seeds cannot tell them apart (one seed tells nothing apart)."""
    differences: dict[tuple[str, str], Estimate | None] = {}
    fitted = seed_moments(value_S_M)
    for first, second in combinations(range(len(methods)), 2):
        weights = np.zeros(len(methods))
        weights[[first, second]] = 1, -1
        differences[methods[first], methods[second]] = contrast(fitted, weights) if len(value_S_M) > 1 else None
    best = ranking(methods, differences, alpha=ALPHA).best
    means = dict(zip(methods, value_S_M.mean(axis=0), strict=True))
    order = sorted(methods, key=lambda method: -means[method])
    return [{"method": method, "value": float(means[method]), "tied_with_best": method == order[0] or method in best} for method in order]


def _text(rows: Sequence[dict[str, Any]], winners: dict[str, str], why: str) -> str:
    if not winners:
        unmatched = [row["axis"] for row in rows if not row["matched"]]
        told = f"matched on {', '.join(row['axis'] for row in rows if row['matched']) or 'no axis'}"
        if not unmatched:
            return f"Spend is {told}: the ranking is the same on every axis."
        return (
            f"Spend is {told}. Whether the ranking changes on {', '.join(unmatched)} cannot be told from this run ({why}): "
            "add `checkpoints` to the study."
        )
    untold = [row["axis"] for row in rows if row["axis"] not in winners]
    rest = f" No ranking on {', '.join(untold)}." if untold else ""
    leaders = [{entry["method"] for entry in row["ranking"] if entry["tied_with_best"]} for row in rows if row["ranking"]]
    if len(set(winners.values())) == 1:
        winner = next(iter(winners.values()))
        rivals = set.intersection(*leaders) - {winner}
        doubt = f" On none of them is it told apart from {' and '.join(sorted(rivals))}." if rivals else ""
        return f"The highest score is {winner}'s at equal spend on every axis ranked ({', '.join(winners)}).{doubt}{rest}"
    by_method: dict[str, list[str]] = {}
    for axis, method in winners.items():
        by_method.setdefault(method, []).append(axis)
    told = "; ".join(f"{method} at equal {', '.join(names)}" for method, names in by_method.items())
    doubt = " On no axis are these winners told apart from each other." if all(set(by_method) <= tied for tied in leaders) else ""
    return f"The highest score changes with the axis: {told}.{doubt}{rest}"
