"""The ranked table of a run: macro score with interval, ranks that admit ties, per-task values, robustness, cost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from harness.core.blocks import blocks
from harness.core.records import CLEAN
from harness.stats.crossed import Estimate, Moments, contrast, moments
from harness.stats.intervals import wilson_mean
from harness.stats.ranking import Ranking, ranking
from harness.verdicts.frames import Frames, NotTestableError, Scores, SharedItems, TaskInfo, compute_spread, is_trained, restricted
from harness.verdicts.judge import FEW_SEEDS, MATCH_TOLERANCE
from harness.verdicts.robustness import EVERY_TASK, robustness

ALPHA = 0.05
MEANS = ("train_flops", "wall_s", "cost_usd", "demonstrations", "comparisons")


def leaderboard(results: Frames, *, task_info: TaskInfo | None = None) -> dict[str, Any]:
    """Ranks the methods of a run; the content of leaderboard.json.

    A sweep over budgets or students has a leaderboard of its own for each of them: the study's own at the top, the others under "blocks",
    each with its "name", "train_flops" and "student". Runs of different blocks are never ranked together.

    The score is the mean over tasks (equal weight) of every suite but the pool's validation, on the items with a score in all of the
    method's seeds. Ranks are given only where compute was matched. Two methods are told apart by the paired crossed test on the items
    and seeds that both have: ranks by Holm over all pairs, `tied_with_best` by comparison with each rival (harness.stats.ranking).
    `robustness` says what each method loses under each perturbation and which of two loses less (harness.verdicts.robustness).

    Args:
        task_info: see `Scores`; by default the study's own description of its tasks.
    """
    own, *others = blocks(results.study)
    if not others:
        return _board(results, task_info)
    board = _board(restricted(results, own.methods), task_info)
    board["notes"].insert(0, f"Ranked are the runs at {own.name}; runs at another budget or on another student are ranked apart.")
    board["blocks"] = [
        {"name": block.name, "train_flops": block.train_flops, "student": block.student}
        | _board(restricted(results, block.methods), task_info)
        for block in others
    ]
    return board


def _board(results: Frames, task_info: TaskInfo | None) -> dict[str, Any]:
    """The leaderboard of runs that may be compared."""
    scores = Scores(results, task_info)
    spread, owner = compute_spread(results.trials, scores.methods)
    matched = bool(spread <= MATCH_TOLERANCE)
    notes = _notes(results.trials, scores, spread, owner)
    upward = [task for task in scores.tasks(None) if scores.info[task].get("higher_is_better", True)]
    tasks = [task for task in upward if _scorable(scores, task)]
    skipped = [task for task in scores.tasks(None) if task not in tasks]
    if skipped:
        notes.append(f"Not in the score (lower is better, or fewer than 2 items that every method answered): {', '.join(skipped)}.")
    text = f"mean over {len(tasks)} tasks ({', '.join(tasks)}), equal weight per task" if tasks else "no task was scored"
    board: dict[str, Any] = {
        "metric_text": text,
        "rows": [],
        "matched": matched,
        "match_spread": spread,
        "notes": notes,
        "robustness": {"rows": [], "pairs": []},
    }
    if not tasks:
        return board
    losses = robustness(results, scores)
    rows = [_row(method, tasks, results.trials, scores, losses["rows"]) for method in scores.methods]
    rows.sort(key=lambda row: -row["value"])
    names = [row["method"] for row in rows]
    _rank(rows, ranking(names, _differences(names, tasks, scores), alpha=ALPHA), matched)
    return board | {"rows": rows, "robustness": losses}


def _scorable(scores: Scores, task: str) -> bool:
    try:
        shared = _shared(scores, [task], [(method, CLEAN) for method in scores.methods], scores.seeds(scores.methods))
    except NotTestableError:
        return False
    return pd.Series(shared[0].scores.clusters_N).nunique() >= 2


def _shared(scores: Scores, tasks: Sequence[str], columns: list[tuple[str, str]], seeds: Sequence[int]) -> list[SharedItems]:
    return [scores.collect(task, columns, seeds) for task in tasks]


def _fit(shared: Sequence[SharedItems]) -> Moments:
    return moments([part.scores for part in shared])


def _row(method: str, tasks: list[str], trials: pd.DataFrame, scores: Scores, losses: list[dict[str, Any]]) -> dict[str, Any]:
    mine = trials[(trials["method"] == method) & (trials["status"] == "finished")]
    seeds = own_seeds(method, trials, scores)
    shared = _shared(scores, tasks, [(method, CLEAN)], seeds)
    macro = contrast(_fit(shared), (1,))
    row: dict[str, Any] = {
        "method": method, "value": macro.estimate, "interval": bounded(macro), "n_seeds": len(seeds), "n_items": macro.n_items,
        "n_dropped": sum(part.n_total for part in shared) - macro.n_items, "trained": is_trained(trials, method),
        "per_task": {part.task: task_entry(part, scores) for part in shared},
        "robustness": {
            loss["perturbation"]: {name: loss[name] for name in ("value", "drop", "interval", "clean", "n_items")}
            for loss in losses
            if (loss["method"], loss["scope"]) == (method, EVERY_TASK) and loss["perturbation"] in scores.perturbations
        },
    }  # fmt: skip
    return row | {name: _mean(mine[name]) for name in MEANS}


def _mean(column: pd.Series[Any]) -> float | None:
    values = pd.to_numeric(column).dropna()
    return float(values.mean()) if len(values) else None


def own_seeds(method: str, trials: pd.DataFrame, scores: Scores) -> list[int]:
    """The seeds of a method's students; one without randomness has one student, listed once a seed: repeating it adds no replicate."""
    mine = trials[(trials["method"] == method) & (trials["status"] == "finished")]
    return sorted(int(seed) for seed in mine.drop_duplicates("score_stage")["seed"]) or scores.seeds([method])[:1]


def bounded(found: Estimate) -> list[float]:
    """The t interval, cut to the range of scores."""
    return [max(0.0, found.interval[0]), min(1.0, found.interval[1])] if 0 <= found.estimate <= 1 else list(found.interval)


def task_entry(part: SharedItems, scores: Scores) -> dict[str, Any]:
    """A method's mean on one task with its interval (Wilson's for scores in [0, 1]), and whether it is above chance."""
    found = contrast(_fit([part]), (1,))
    chance = scores.info[part.task].get("chance")
    inside = bool(part.scores.values_S_N_P.min() >= 0 and part.scores.values_S_N_P.max() <= 1)
    n_clusters = int(pd.Series(part.scores.clusters_N).nunique())

    def interval(level: float) -> tuple[float, float]:
        if inside:
            return wilson_mean(found.estimate, 0.0 if found.degenerate else found.se, n_clusters, df=found.df, level=level)
        return contrast(_fit([part]), (1,), level=level).interval

    # One-sided 5 % test: the lower end of a two-sided 90 % interval.
    at_chance = bool(interval(0.9)[0] <= (0.0 if chance is None else chance))
    return {
        "value": found.estimate, "interval": list(interval(0.95)), "n": found.n_items, "n_total": part.n_total, "chance": chance,
        "at_chance": at_chance,
    }  # fmt: skip


def _differences(methods: list[str], tasks: list[str], scores: Scores) -> dict[tuple[str, str], Estimate | None]:
    """Paired macro difference (first − second) of every pair, on the seeds that both have; None where that is one seed.

    One training run of each cannot tell methods apart, whatever the items say.
    """
    found: dict[tuple[str, str], Estimate | None] = {}
    for first, second in combinations(methods, 2):
        seeds = scores.seeds([first, second])
        columns = [(first, CLEAN), (second, CLEAN)]
        found[first, second] = contrast(_fit(_shared(scores, tasks, columns, seeds)), (1, -1)) if len(seeds) > 1 else None
    return found


def _rank(rows: list[dict[str, Any]], found: Ranking, matched: bool) -> None:
    """Adds rank, rank_interval (1 + methods surely better … methods − surely worse) and tied_with_best to rows sorted by value."""
    for index, row in enumerate(rows):
        name = row["method"]
        row |= {
            "rank": index + 1 if matched else None,
            "rank_interval": list(found.rank_intervals[name]) if matched else None,
            "tied_with_best": matched and (index == 0 or name in found.best),
        }


def _notes(trials: pd.DataFrame, scores: Scores, spread: float, owner: str) -> list[str]:
    notes = []
    if not spread <= MATCH_TOLERANCE:
        notes.append(f"Not ranked: {owner} missed its budget by {spread:.1%}; up to {MATCH_TOLERANCE:.0%} counts as matched.")
    unfinished = trials[trials["status"] != "finished"]
    if len(unfinished):
        notes.append(f"Trials without scores: {', '.join(str(name) for name in unfinished['trial_id'])}.")
    untrained = [method for method in scores.methods if not is_trained(trials, method)]
    if untrained:
        notes.append(f"{', '.join(untrained)}: spends no training compute; there to show what training changed.")
    seeds = [len(scores.seeds([method])) for method in scores.methods if is_trained(trials, method)]
    if seeds and min(seeds) < FEW_SEEDS:
        notes.append(
            f"Only {min(seeds)} training seed{'s' if min(seeds) > 1 else ''}: "
            f"how much training runs differ is poorly known below {FEW_SEEDS}."
        )
    if len(scores.methods) > 1:
        notes.append("The top row's value is flattered by being the highest of several; trust its rank interval and its pairwise tests.")
    return notes
