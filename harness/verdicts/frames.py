"""From a run's frames to arrays: which seeds and items two methods share, and whether their compute was matched."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from harness.core.records import CLEAN, Status
from harness.errors import SpecError
from harness.stats.crossed import TaskScores

PERTURBED = "perturbed"
"""View: the mean over an item's perturbed versions."""
WORST = "worst"
"""View: the worst of an item's versions, the clean one among them, in the direction of the task's metric."""
UNTRAINED = "base"
"""The method that spends no training compute by definition."""

VALIDATION_SUITE = "pool_validation"
"""Shows that training did something; drawn from the training families, so it is in no claim and no leaderboard unless named."""
APART = frozenset({VALIDATION_SUITE, "holistic", "holistic_hub", "robustness"})
"""Suites that are no part of a mean over all tasks: not evaluation, not quality, or quality that another suite measures already."""

TaskInfo = Mapping[str, Mapping[str, Any]]
Column = tuple[str, str]
"""A method's label and a view: "clean", "perturbed", "worst" or a perturbation's label."""


class Frames(Protocol):
    """The part of harness.core.results.RunResults that is read here."""

    @property
    def study(self) -> dict[str, Any]: ...
    @property
    def trials(self) -> pd.DataFrame: ...
    @property
    def samples(self) -> pd.DataFrame: ...
    @property
    def curves(self) -> pd.DataFrame: ...
    @property
    def checkpoints(self) -> pd.DataFrame: ...
    @property
    def checkpoint_samples(self) -> pd.DataFrame: ...
    @property
    def folds(self) -> pd.DataFrame: ...
    @property
    def fold_samples(self) -> pd.DataFrame: ...


@dataclass(frozen=True)
class Part:
    """The frames of some of a run's methods."""

    study: dict[str, Any]
    trials: pd.DataFrame
    samples: pd.DataFrame
    curves: pd.DataFrame
    checkpoints: pd.DataFrame
    checkpoint_samples: pd.DataFrame
    folds: pd.DataFrame
    fold_samples: pd.DataFrame


def restricted(results: Frames, methods: Collection[str]) -> Part:
    """What a run has of `methods` alone."""

    def mine(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["method"].isin(list(methods))] if len(frame) else frame

    return Part(
        results.study, mine(results.trials), mine(results.samples), mine(results.curves), mine(results.checkpoints),
        mine(results.checkpoint_samples), mine(results.folds), mine(results.fold_samples),
    )  # fmt: skip


class NotTestableError(Exception):
    """A comparison cannot be made from this run; the message says why."""


@dataclass(frozen=True)
class SharedItems:
    """Scores of one task on the items that every column has in every seed."""

    task: str
    scores: TaskScores
    n_total: int


class Scores:
    """A run's samples, reduced to each task's primary metric.

    Args:
        task_info: per task "metric", "suite", "chance" (None where there is none), "higher_is_better".
    """

    def __init__(self, results: Frames, task_info: TaskInfo | None = None) -> None:
        info: TaskInfo = results.study.get("tasks", {}) if task_info is None else task_info
        present = list(dict.fromkeys(results.samples["task"])) if len(results.samples) else []
        unknown = [task for task in present if task not in info]
        if unknown:
            raise SpecError("the study describes no such task", key="tasks", value=unknown[0], valid=info)
        self.info = {task: info[task] for task in present}
        rows = results.samples
        primary = rows["metric"] == rows["task"].map({task: entry["metric"] for task, entry in self.info.items()})
        self._rows = rows.loc[primary, ["task", "method", "seed", "perturbation", "sample_id", "cluster", "value", "status"]]
        self._seeds = {
            str(method): sorted(int(seed) for seed in group.unique()) for method, group in self._rows.groupby("method", sort=False)["seed"]
        }
        self._groups = {(str(task), str(method)): part for (task, method), part in self._rows.groupby(["task", "method"], sort=False)}
        self._cells: dict[tuple[str, str], pd.DataFrame] = {}
        self._clusters: dict[tuple[str, str], pd.Series[Any]] = {}
        self._collected: dict[tuple[str, tuple[Column, ...], tuple[int, ...], bool], SharedItems] = {}

    @property
    def methods(self) -> list[str]:
        """Labels of the methods with samples."""
        return list(self._seeds)

    @property
    def perturbations(self) -> list[str]:
        """Perturbations in the run, without "clean"."""
        return [str(name) for name in dict.fromkeys(self._rows["perturbation"]) if name != CLEAN]

    def tasks(self, suite: str | None, names: Sequence[str] | None = None) -> list[str]:
        """Tasks of `suite` (None: of all but those in APART) that are in the run, limited to `names`."""
        chosen = [task for task, entry in self.info.items() if entry["suite"] == suite or (suite is None and entry["suite"] not in APART)]
        return [task for task in chosen if names is None or task in names]

    def has(self, task: str, perturbation: str) -> bool:
        """Whether `task` was run under `perturbation`."""
        part = self._rows[self._rows["task"] == task]["perturbation"]
        return bool((part != CLEAN).any() if perturbation in (PERTURBED, WORST) else (part == perturbation).any())

    def seeds(self, methods: Sequence[str]) -> list[int]:
        """Seeds for which every one of `methods` was scored."""
        shared = set.intersection(*(set(self._seeds.get(method, ())) for method in methods))
        return sorted(shared)

    def collect(self, task: str, columns: Sequence[Column], seeds: Sequence[int], *, rejected: bool = False) -> SharedItems:
        """Scores (S, N, P) of the items that have a score in every seed and column.

        Args:
            rejected: replace each score by 1 where it is below full marks and 0 elsewhere.
        """
        key = (task, tuple(columns), tuple(seeds), rejected)
        if key not in self._collected:
            self._collected[key] = self._collect(task, columns, seeds, rejected)
        return self._collected[key]

    def _collect(self, task: str, columns: Sequence[Column], seeds: Sequence[int], rejected: bool) -> SharedItems:
        cells = [self._by_cell(task, method) for method, _ in columns]
        kept: dict[str, pd.Index] = {}
        views = []
        for (_, view), frame in zip(columns, cells, strict=True):
            names = frame.index.get_level_values("perturbation")
            chosen = {PERTURBED: names != CLEAN, WORST: np.ones(len(names), dtype=bool)}.get(view, names == view)
            mine = frame[chosen].reindex(columns=list(seeds))
            complete = mine.index[mine.notna().all(axis=1)]
            kept[view] = complete if view not in kept else kept[view].intersection(complete)
            views.append(mine)
        by_item = []
        for (_, view), frame in zip(columns, views, strict=True):
            scored = frame.reindex(kept[view])
            scored = (scored < 1).astype(float) if rejected else scored
            versions = scored.groupby(level="sample_id", sort=True)
            # Rejection is bad, so its worst is its maximum as well.
            falls = not rejected and self.info[task].get("higher_is_better", True)
            if view == WORST:
                # Of an item with one version only there is nothing to take the worst of.
                by_item.append((versions.min() if falls else versions.max())[versions.size() > 1])
            else:
                by_item.append(versions.mean())
        shared = by_item[0].index
        for frame in by_item[1:]:
            shared = shared.intersection(frame.index)
        array = np.stack([frame.reindex(shared).to_numpy(dtype=float).T for frame in by_item], axis=2)
        every = pd.concat([self._cluster_of(task, method) for method in dict.fromkeys(method for method, _ in columns)])
        every = every[~every.index.duplicated()]
        return SharedItems(task, TaskScores(array, every.reindex(shared).to_numpy()), len(every))

    def _cluster_of(self, task: str, method: str) -> pd.Series[Any]:
        """The cluster of every item that was asked, scored or not."""
        if (task, method) not in self._clusters:
            self._clusters[task, method] = self._groups[task, method].drop_duplicates("sample_id").set_index("sample_id")["cluster"]
        return self._clusters[task, method]

    def _by_cell(self, task: str, method: str) -> pd.DataFrame:
        """Values indexed by (sample_id, perturbation), one column a seed."""
        key = (task, method)
        if key not in self._cells:
            if key not in self._groups:
                raise NotTestableError(f"{method} has no scores on {task}")
            part = self._groups[key]
            part = part[(part["status"] == Status.SCORED) & part["value"].notna()]
            twice = part.duplicated(["sample_id", "perturbation", "seed"])
            assert not twice.any(), (task, method, part[twice].iloc[0].to_dict())
            wide = part.astype({"value": float}).set_index(["sample_id", "perturbation", "seed"])["value"].unstack("seed")
            self._cells[key] = wide
        return self._cells[key]


def is_trained(trials: pd.DataFrame, method: str) -> bool:
    """Whether `method` trains: not if it is `base`, or one stage serves all its seeds and spent nothing.

    A method that ought to train and spent nothing in each seed's own stage is unmatched, not untrained.
    """
    mine = trials[(trials["method"] == method) & (trials["status"] == "finished")]
    idle = len(mine) > 0 and mine["train_stage"].nunique() == 1 and bool((mine["train_flops"] == 0).all())
    return not (idle or method.partition(":")[0] == UNTRAINED)


def compute_spread(trials: pd.DataFrame, methods: Sequence[str]) -> tuple[float, str]:
    """Largest |train FLOPs / budget − 1| over the finished trials of the trained `methods`, and whose it is."""
    rows = trials[trials["method"].isin([method for method in methods if is_trained(trials, method)]) & (trials["status"] == "finished")]
    worst, owner = 0.0, ""
    for row in rows.to_dict("records"):
        away = abs(float(row["train_flops"]) / float(row["budget_flops"]) - 1)
        if not away <= worst:
            worst, owner = away, str(row["trial_id"])
    return worst, owner
