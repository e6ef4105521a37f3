"""Which candidate of a method's grid tuning chose, and the record of it that later studies can take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.grid import Values
from harness.core.records import CLEAN, Status
from harness.core.spec import StudySpec
from harness.core.store import RunStore, write_json
from harness.core.suite_spec import SuiteSpec
from harness.core.tuned import TUNED, circumstances
from harness.errors import TrainingError
from harness.scoring.suites import select
from harness.study.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

    from harness.study.stage import StageTask


def validation_score(samples: pd.DataFrame, suites: Sequence[SuiteSpec]) -> float:
    """Mean over tasks, of equal weight, of the mean primary metric, negative where lower is better.

    An item without a score counts at the task's worst, so that broken output cannot win: 0, or 1 where lower is better.

    Raises:
        TrainingError: there are such items, lower is better, and scores go above 1 or are none: what is worst is not known.
    """
    means = []
    for selection in select(suites):
        task, metric = selection.task.name, selection.task.metric
        rows = samples[(samples["task"] == task) & (samples["metric"] == metric) & (samples["perturbation"] == CLEAN)]
        value = rows["value"].where(rows["status"] == Status.SCORED).astype("Float64")
        sign, worst = (1, 0.0) if selection.task.higher_is_better else (-1, 1.0)
        known = value.dropna()
        if sign < 0 and len(known) < max(len(value), 1) and (known.empty or known.max() > 1):
            missing = len(value) - len(known)
            raise TrainingError(f"{missing} of {len(value)} items of {task} have no score, and how bad {metric} can be is not known")
        means.append(sign * float(value.fillna(worst).mean() if len(value) else worst))
    return sum(means) / len(means)


def chosen(task: StageTask) -> Values:
    """The settings that tuning chose for a train stage."""
    return best(candidates(RunStore(task.run_dir), task.stage.content["tuned"]), task.stage.label)


def candidates(store: RunStore, stages: Sequence[str]) -> list[dict[str, Any]]:
    """Per candidate, in the grid's order: values, mean score over the tuning seeds (none where one of them broke off), stages, errors."""
    by_values: dict[str, dict[str, Any]] = {}
    for stage in stages:
        meta = store.meta(stage)
        entry = by_values.setdefault(
            json.dumps(meta["values"], sort_keys=True),
            {"values": meta["values"], "score": None, "scores": [], "items": meta["items"], "flops": 0.0, "errors": [], "stages": []},
        )
        entry["scores"].append(meta["score"])
        entry["flops"] += meta["spent"]["tune"]
        entry["errors"] += [meta["error"]] if meta["error"] else []
        entry["stages"].append(stage)
    for entry in by_values.values():
        if None not in entry["scores"]:
            entry["score"] = sum(entry["scores"]) / len(entry["scores"])
    return list(by_values.values())


def best(found: Sequence[dict[str, Any]], label: str) -> Values:
    """The values of the candidate with the highest score, of equal ones the first.

    Raises:
        TrainingError: no candidate could be trained.
    """
    scored = [entry for entry in found if entry["score"] is not None]
    if not scored:
        reasons = "; ".join(dict.fromkeys(reason for entry in found for reason in entry["errors"]))
        raise TrainingError(f"tuning of {label}: no candidate of its grid could be trained ({reasons})")
    values: Values = max(scored, key=lambda entry: entry["score"])["values"]
    return values


def write_tuned(study: StudySpec, plan: Plan, store: RunStore) -> Path | None:
    """Writes tuned.json of every method whose tuning is finished; nothing where a study does not tune."""
    if study.tune is None:
        return None
    methods: dict[str, Any] = {}
    for trial in plan.trials:
        if trial.tune_stages and trial.label not in methods and all(map(store.finished, trial.tune_stages)):
            found = candidates(store, trial.tune_stages)
            if any(entry["score"] is not None for entry in found):
                methods[trial.label] = {"values": best(found, trial.label), "candidates": found}
    record = {"study": study.name, **circumstances(study), "tune": study.tune.model_dump(mode="json"), "methods": methods}
    write_json(store.root / TUNED, record)
    return store.root / TUNED
