"""Which of two methods does better on task families that training has not seen, from a study's leave-one-family-out folds."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from harness.core.records import CLEAN, Status
from harness.errors import SpecError
from harness.stats.crossed import TaskScores
from harness.stats.folds import FoldEffect, fold_effect
from harness.stats.multiplicity import holm


def fold_effects(samples: pd.DataFrame, tasks: Mapping[str, Mapping[str, Any]], *, level: float = 0.95) -> list[dict[str, Any]]:
    """First's score − second's on left-out families, for every two methods that at least two folds and seeds have in common.

    Args:
        samples: SAMPLE_COLUMNS, method, seed, fold (RunResults.fold_samples).
        tasks: per task "metric" and "higher_is_better"; a difference is positive where the first is better.
    Returns:
        One row a pair: difference, interval and p over families like these (Holm-adjusted over the pairs), interval for these families
        alone, per_fold differences, n_folds, n_seeds, n_items, n_dropped; the content of leaderboard.json's "folds".
    """
    if samples.empty:
        return []
    scored = _scored(samples, tasks)
    rows = []
    for first, second in combinations(dict.fromkeys(scored["method"]), 2):
        found = _effect(scored, first, second, level)
        if found is not None:
            rows.append(_row(first, second, found))
    adjusted = holm([row["p_value"] for row in rows]) if rows else []
    return [row | {"p_holm": p_holm} for row, p_holm in zip(rows, adjusted, strict=True)]


def _scored(samples: pd.DataFrame, tasks: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Clean rows of each task's own metric, turned so that higher is better; NaN where there is no score."""
    unknown = [task for task in samples["task"].unique() if task not in tasks]
    if unknown:
        raise SpecError("the study describes no such task", key="tasks", value=unknown[0], valid=tasks)
    metric = samples["task"].map({task: entry["metric"] for task, entry in tasks.items()})
    mine = samples[(samples["perturbation"] == CLEAN) & (samples["metric"] == metric)]
    sign = mine["task"].map({task: 1.0 if entry.get("higher_is_better", True) else -1.0 for task, entry in tasks.items()})
    value = mine["value"].astype(float).where(mine["status"] == Status.SCORED) * sign.astype(float)
    return mine[["task", "method", "seed", "fold", "sample_id", "cluster"]].assign(value=value)


def fold_scores(samples: pd.DataFrame, tasks: Mapping[str, Mapping[str, Any]], first: str, second: str) -> dict[str, TaskScores]:
    """Per left-out family the scores (S, N, 2) of two methods in the seeds they share; {} without 2 seeds and 2 such families.

    Args:
        samples, tasks: see `fold_effects`.
    """
    return _arrays(_scored(samples, tasks), first, second) if len(samples) else {}


def _effect(scored: pd.DataFrame, first: str, second: str, level: float) -> FoldEffect | None:
    usable = _arrays(scored, first, second)
    return fold_effect(usable, level=level) if usable else None


def _arrays(scored: pd.DataFrame, first: str, second: str) -> dict[str, TaskScores]:
    pair = scored[scored["method"].isin([first, second])]
    whole = pair.groupby(["fold", "seed"])["method"].nunique().unstack("seed") == 2
    seeds = list(whole.columns[whole.any()])
    folds = [str(fold) for fold in whole.index[whole[seeds].all(axis=1)]]
    if len(seeds) < 2 or len(folds) < 2:
        return {}
    arrays = {fold: _array(pair[(pair["fold"] == fold) & pair["seed"].isin(seeds)], first, second) for fold in folds}
    usable = {fold: array for fold, array in arrays.items() if _clusters(array) >= 2}
    return usable if len(usable) > 1 else {}


def _array(rows: pd.DataFrame, first: str, second: str) -> TaskScores:
    wide = rows.set_index(["task", "sample_id", "seed", "method"])["value"].unstack(["seed", "method"])
    both = [wide.xs(method, axis=1, level="method").sort_index(axis=1).to_numpy(float).T for method in (first, second)]
    clusters = rows.drop_duplicates(["task", "sample_id"]).set_index(["task", "sample_id"])["cluster"].reindex(wide.index)
    return TaskScores(np.stack(both, axis=-1), clusters.to_numpy())


def _clusters(scores: TaskScores) -> int:
    complete = np.isfinite(scores.values_S_N_P).all(axis=(0, 2))
    assert scores.clusters_N is not None
    return len(set(scores.clusters_N[complete]))


def _row(first: str, second: str, found: FoldEffect) -> dict[str, Any]:
    return {
        "first": first, "second": second, "difference": found.estimate, "interval": list(found.interval), "level": found.level,
        "p_value": found.p_value, "these_families": list(found.these_families.interval), "per_fold": found.per_fold,
        "n_folds": found.n_folds, "n_seeds": found.n_seeds, "n_items": found.n_items, "n_dropped": found.n_dropped,
    }  # fmt: skip
