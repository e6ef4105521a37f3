"""How much each method loses under perturbation, what it keeps in the worst case, and which of two methods loses less.

Loss is clean − perturbed where a higher score is better and perturbed − clean where a lower one is: a positive loss is always bad.
The worst case takes each item at its worst version, the clean one included, in the metric's own direction (HELM takes the minimum even
where less is better). It falls with the number of perturbations for any model that is not perfectly steady: compare it only between methods
on the same versions. Whether one method loses less than another is a question of its own (harness.stats.interaction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pandas as pd

from harness.core.records import CLEAN, Status
from harness.stats.crossed import Estimate, Moments, TaskScores, contrast, moments
from harness.stats.interaction import loss_contrast
from harness.stats.multiplicity import holm
from harness.stats.relative import RatioUndefinedError, ratio
from harness.verdicts.frames import PERTURBED, WORST, Frames, Scores, SharedItems, TaskInfo

EVERY_TASK = "mean over tasks"
"""Scope: the equally weighted tasks in which a higher score is better; a task in which a lower one is has rows of its own."""
_REJECTED = "rejected"


@dataclass(frozen=True)
class _Scope:
    """Tasks whose scores are averaged; `sign` turns them so that higher is better."""

    name: str
    tasks: list[str]
    sign: int


@dataclass(frozen=True)
class OneCheckpoint:
    """Frames of one scored checkpoint, for samples that come from no study."""

    samples: pd.DataFrame
    study: dict[str, Any]
    trials: pd.DataFrame = field(default_factory=pd.DataFrame)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    checkpoints: pd.DataFrame = field(default_factory=pd.DataFrame)
    checkpoint_samples: pd.DataFrame = field(default_factory=pd.DataFrame)
    folds: pd.DataFrame = field(default_factory=pd.DataFrame)
    fold_samples: pd.DataFrame = field(default_factory=pd.DataFrame)


def robustness_of_samples(samples: pd.DataFrame, tasks: TaskInfo, *, label: str = "model") -> dict[str, Any]:
    """`robustness` of one checkpoint: its intervals speak of items only.

    Args:
        samples: SAMPLE_COLUMNS, as `harness.scoring.suites.score` returns them.
        tasks: per task "metric", "suite", "higher_is_better".
    """
    known = {name: dict(info) for name, info in tasks.items()}
    frames = OneCheckpoint(samples.assign(method=label, seed=0), {"tasks": known})
    return robustness(frames, Scores(frames, known))


def robustness(results: Frames, scores: Scores, *, level: float = 0.95) -> dict[str, Any]:
    """The content of leaderboard.json's "robustness".

    Returns:
        rows: for each method, scope and perturbation (also "perturbed", the mean over an item's versions, and "worst"): clean, value, drop
            with interval and p, Holm-adjusted over the perturbations of that method and scope ("worst" is never better than clean and has
            no p), retention (value / clean) with Fieller's interval or None, n_items, n_asked, rejected, inapplicable, per_task drops.
        pairs: for each two methods on two or more common seeds: first's loss − second's, with interval and p, Holm-adjusted over the
            perturbations of that pair and scope.
    """
    measured = _Measured(scores, results.trials, _counts(results.samples), level)
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for scope in _scopes(scores):
        for method in scores.methods:
            rows += _adjusted([row for view in _views(scores) if (row := measured.row(method, view, scope))])
        for first, second in combinations(scores.methods, 2):
            pairs += _adjusted([row for view in _views(scores) if (row := measured.pair(first, second, view, scope))])
    return {"rows": rows, "pairs": pairs}


def _views(scores: Scores) -> list[str]:
    """Each perturbation; the mean and the worst of them where there are several."""
    names = scores.perturbations
    return [*names, PERTURBED, WORST] if len(names) > 1 else names


def _scopes(scores: Scores) -> list[_Scope]:
    perturbed = [task for task in scores.tasks(None) if scores.has(task, PERTURBED)]
    up = [task for task in perturbed if scores.info[task].get("higher_is_better", True)]
    down = [_Scope(task, [task], -1) for task in perturbed if task not in up]
    return ([_Scope(EVERY_TASK, up, 1)] if up else []) + down


def _counts(samples: pd.DataFrame) -> dict[tuple[str, str], dict[str, int]]:
    """Per task and perturbation the items asked for, rejected as too unlike, and set aside because the perturbation does not apply."""
    found = {}
    one = samples.drop_duplicates(["task", "perturbation", "sample_id"])
    for (task, view), group in one.groupby(["task", "perturbation"], sort=False):
        skipped = group[group["status"] == Status.SKIPPED]
        rejected = int(skipped["output"].astype(str).str.startswith(_REJECTED).sum())
        found[str(task), str(view)] = {"n_asked": len(group), "rejected": rejected, "inapplicable": len(skipped) - rejected}
    return found


@dataclass(frozen=True)
class _Measured:
    """Losses of one run's methods."""

    scores: Scores
    trials: pd.DataFrame
    counts: Mapping[tuple[str, str], Mapping[str, int]]
    level: float

    def row(self, method: str, view: str, scope: _Scope) -> dict[str, Any] | None:
        """A method's loss under one view; None where too few items have both scores."""
        shared = self._collected(scope, view, [(method, CLEAN), (method, view)], self._seeds(method))
        if not shared:
            return None
        fitted = moments([one.scores for one in shared])
        drop = contrast(fitted, (1, -1), level=self.level)
        retention, retention_interval = self._retention(fitted, scope)
        asked = [self.counts.get((one.task, view), self.counts[one.task, CLEAN]) for one in shared]
        return {
            "method": method, "scope": scope.name, "perturbation": view, "higher_is_better": scope.sign > 0,
            "clean": scope.sign * float(fitted.mean_P[0]), "value": scope.sign * float(fitted.mean_P[1]), "drop": drop.estimate,
            **_uncertainty(drop), "p_value": None if view == WORST else drop.p_value,
            "retention": retention, "retention_interval": retention_interval,
            **{name: sum(entry[name] for entry in asked) for name in ("n_asked", "rejected", "inapplicable")},
            "per_task": {one.task: self._task_entry(one) for one in shared},
        }  # fmt: skip

    def pair(self, first: str, second: str, view: str, scope: _Scope) -> dict[str, Any] | None:
        """First's loss − second's; None on fewer than two common seeds or too few common items."""
        seeds = self.scores.seeds([first, second])
        columns = [(first, CLEAN), (first, view), (second, CLEAN), (second, view)]
        shared = self._collected(scope, view, columns, seeds) if len(seeds) > 1 else []
        if not shared:
            return None
        found = loss_contrast(moments([one.scores for one in shared]), level=self.level)
        return {
            "first": first, "second": second, "scope": scope.name, "perturbation": view, "difference": found.estimate,
            **_uncertainty(found), "p_value": found.p_value, "tasks": [one.task for one in shared],
        }  # fmt: skip

    def _seeds(self, method: str) -> list[int]:
        """A method without randomness is one checkpoint, listed once a seed: it counts once."""
        seeds = self.scores.seeds([method])
        if self.trials.empty:
            return seeds
        mine = self.trials[(self.trials["method"] == method) & (self.trials["status"] == "finished")]
        return sorted(int(seed) for seed in mine.drop_duplicates("score_stage")["seed"]) or seeds[:1]

    def _collected(self, scope: _Scope, view: str, columns: Sequence[tuple[str, str]], seeds: Sequence[int]) -> list[SharedItems]:
        """The scope's tasks that have two clusters of items or more in all columns, turned so that higher is better."""
        shared = [self.scores.collect(task, columns, seeds) for task in scope.tasks if self.scores.has(task, view)]
        return [
            SharedItems(one.task, TaskScores(scope.sign * one.scores.values_S_N_P, one.scores.clusters_N), one.n_total)
            for one in shared
            if pd.Series(one.scores.clusters_N).nunique() >= 2
        ]

    def _task_entry(self, one: SharedItems) -> dict[str, Any]:
        found = contrast(moments([one.scores]), (1, -1), level=self.level)
        return {"drop": found.estimate, "interval": list(found.interval), "n_items": found.n_items}

    def _retention(self, fitted: Moments, scope: _Scope) -> tuple[float | None, list[float] | None]:
        """Perturbed / clean; none where a lower score is better or the clean score is not clearly above 0."""
        if scope.sign < 0:
            return None, None
        try:
            found = ratio(fitted, (0, 1), (1, 0), level=self.level)
        except RatioUndefinedError:
            return None, None
        return found.estimate, list(found.interval)


def _uncertainty(found: Estimate) -> dict[str, Any]:
    return {"interval": list(found.interval), "level": found.level, "n_seeds": found.n_seeds, "n_items": found.n_items}


def _adjusted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds p_holm: over the single perturbations; the mean over them and the worst case are not further perturbations."""
    tested = [row for row in rows if row["perturbation"] not in (PERTURBED, WORST)]
    adjusted = {id(row): p for row, p in zip(tested, holm([row["p_value"] for row in tested]), strict=True)} if tested else {}
    return [row | {"p_holm": adjusted.get(id(row))} for row in rows]
