"""One checkpoint's scores as a table: per task and perturbation the value, its interval over items, what guessing scores, and flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.core.records import CLEAN, Status
from harness.stats.clustered import mean_t
from harness.stats.intervals import wilson, wilson_mean

AT_CHANCE, FLOOR, CEILING = "at chance", "floor", "ceiling"
NEAR_FULL = 0.99
"""Where the interval reaches this high, better models cannot be told from this one."""

TaskInfo = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Estimate:
    """A mean over items with a 95 % interval that is robust to clusters; None where fewer than two clusters have a score."""

    value: float
    interval: tuple[float, float] | None
    n: int
    n_clusters: int


@dataclass(frozen=True)
class ScoreRow:
    """One task under one perturbation, in the task's own metric.

    Attributes:
        n_scored, n_asked: items with a score, and all that were asked.
        unscored: how many items have each other status.
        flag: "at chance" (not shown to be above it, one-sided 5 %), "floor", "ceiling" or "".
    """

    suite: str
    task: str
    perturbation: str
    metric: str
    estimate: Estimate | None
    n_scored: int
    n_asked: int
    unscored: dict[str, int]
    chance: float | None
    flag: str
    higher_is_better: bool
    source: str
    licence: str


def score_table(samples: pd.DataFrame, tasks: TaskInfo) -> list[ScoreRow]:
    """A row for each task and perturbation of one checkpoint's samples, in the order of `tasks`, clean ones first.

    Args:
        samples: SAMPLE_COLUMNS of one checkpoint.
        tasks: per task "metric", "chance", "higher_is_better", "source", "licence".
    """
    order = {name: at for at, name in enumerate(tasks)}
    rows = []
    for (suite, task, perturbation), part in samples.groupby(["suite", "task", "perturbation"], sort=False):
        about = tasks[str(task)]
        mine = part[part["metric"] == about["metric"]]
        rows.append(_row(str(suite), str(task), str(perturbation), mine, part, about))
    return sorted(rows, key=lambda row: (order[row.task], row.perturbation != CLEAN))


def _row(suite: str, task: str, perturbation: str, mine: pd.DataFrame, part: pd.DataFrame, about: Mapping[str, Any]) -> ScoreRow:
    scored = mine[(mine["status"] == Status.SCORED) & mine["value"].notna()]
    values = scored["value"].to_numpy(dtype=float)
    estimate = mean_estimate(values, scored["cluster"].tolist()) if len(values) else None
    by_status = mine.drop_duplicates("sample_id")["status"].value_counts()
    return ScoreRow(
        suite=suite,
        task=task,
        perturbation=perturbation,
        metric=str(about["metric"]),
        estimate=estimate,
        n_scored=scored["sample_id"].nunique(),
        n_asked=part["sample_id"].nunique(),
        unscored={str(status): int(count) for status, count in by_status.items() if status != Status.SCORED},
        chance=about.get("chance"),
        flag=_flag(values, scored["cluster"].tolist(), about) if len(values) else "",
        higher_is_better=bool(about.get("higher_is_better", True)),
        source=str(about.get("source", "")),
        licence=str(about.get("licence", "")),
    )


def mean_estimate(values_N: Sequence[float] | np.ndarray[Any, Any], clusters_N: Sequence[str], *, level: float = 0.95) -> Estimate:
    """Mean with an interval over clusters: Wilson's with the effective sample size for scores in [0, 1], else Student's t."""
    values = np.asarray(values_N, dtype=float)
    n_clusters = len(set(clusters_N))
    if n_clusters < 2:
        return Estimate(float(values.mean()), None, len(values), n_clusters)
    span = float(max(1.0, values.max() - values.min()))
    found = mean_t(values, clusters_N=np.asarray(clusters_N, dtype=str), level=level, score_range=span)
    if values.min() < 0 or values.max() > 1:
        return Estimate(found.estimate, found.interval, len(values), n_clusters)
    if found.degenerate:
        return Estimate(found.estimate, wilson(found.estimate * n_clusters, n_clusters, level=level), len(values), n_clusters)
    return Estimate(found.estimate, wilson_mean(found.estimate, found.se, n_clusters, df=found.df, level=level), len(values), n_clusters)


def _flag(values: np.ndarray[Any, Any], clusters: Sequence[str], about: Mapping[str, Any]) -> str:
    if not about.get("higher_is_better", True) or values.min() < 0 or values.max() > 1:
        return ""
    # One-sided 5 %: the ends of a two-sided 90 % interval.
    interval = mean_estimate(values, clusters, level=0.9).interval or (0.0, 1.0)
    if about.get("chance") is not None and interval[0] <= float(about["chance"]):
        return AT_CHANCE
    if values.max() == 0:
        return FLOOR
    return CEILING if interval[1] >= NEAR_FULL else ""
