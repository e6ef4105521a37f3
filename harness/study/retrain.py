"""Trains students of a frozen leaderboard again, by the study that their run records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console

from harness.core import provenance
from harness.core.published import weights_sha256
from harness.core.results import RunResults, load_run
from harness.core.spec import MethodSpec, StudentSpec, StudySpec
from harness.core.store import RunStore
from harness.errors import SelfteachError, StoreError
from harness.study import rescore
from harness.study.run import Layout, run_study
from harness.verdicts.board_file import Model, Trial

SUFFIX = "-again"
"""Of the run folder: <study>-again."""


@dataclass(frozen=True)
class Retrained:
    """A student that was trained again: its samples, and whether its weights came out the same to the bit."""

    samples: pd.DataFrame
    same_weights: bool
    setting: str


def seconds_to_train(kept: RunResults, trials: Sequence[Trial]) -> float:
    """What training and scoring `trials` took where the run was made, in seconds of one worker."""
    store, found = RunStore(kept.run_dir), 0.0
    for trial in trials:
        for stage in (trial.train_stage, trial.score_stage):
            try:
                found += float(store.meta(stage).get("wall_s") or 0.0)
            except StoreError:
                continue
    return found


def train_again(
    kept: RunResults, wanted: Mapping[str, tuple[Model, Sequence[Trial]]], *, runs: Path, student: Path | None, console: Console
) -> tuple[dict[str, Retrained], str]:
    """Trains and scores the wanted trials in `runs`/<study>-again; what is finished there is reused.

    Args:
        wanted: by method, its model and the trials.
        student: stands in for a student that was a local folder.
    Returns:
        What was trained, by trial id, and why something was not, or nothing.
    """
    again = study_again(rescore.study_of(kept.study), wanted, student)
    folder = runs / f"{again.name}{SUFFIX}"
    threads = int(kept.study["plan"]["setting"]["threads"])
    layout = Layout(workers=max(1, provenance.cores() // threads), threads=threads)
    problem = ""
    try:
        summary = run_study(
            again, study_file=kept.run_dir / "study.json", run_dir=folder, layout=layout, console=console, conclude=lambda run_dir: run_dir
        )
        problem = "; ".join(dict.fromkeys(summary.failed.values()))
    except SelfteachError as error:
        problem = " ".join(str(error).split())
    return (_trained(load_run(folder, conclusions=False), wanted) if (folder / "study.json").exists() else {}), problem


def study_again(study: StudySpec, wanted: Mapping[str, tuple[Model, Sequence[Trial]]], student: Path | None) -> StudySpec:
    """The study of the wanted trials alone, without runs that leave families out.

    Checkpoints stay: which are kept along a run is part of what its training is known by.
    """
    return study.model_copy(
        update={
            "methods": [_with_student(method, student) for method in study.methods if method.label in wanted],
            "seeds": sorted({trial.seed for _, trials in wanted.values() for trial in trials}),
            "claims": [],
            "folds": None,
            "student": _local(study.student, student),
        }
    )


def _local(spec: StudentSpec, student: Path | None) -> StudentSpec:
    """The student of a study, where a local one is here."""
    if student is None or not spec.model.startswith("file:"):
        return spec
    return spec.model_copy(update={"model": f"file:{student.absolute()}"})


def _with_student(method: MethodSpec, student: Path | None) -> MethodSpec:
    if method.at is None:
        return method
    return method.model_copy(update={"at": method.at.model_copy(update={"student": _local(method.at.student, student)})})


def _trained(results: RunResults, wanted: Mapping[str, tuple[Model, Sequence[Trial]]]) -> dict[str, Retrained]:
    store, found = RunStore(results.run_dir), dict[str, Retrained]()
    setting = results.study["plan"]["setting"]
    rows = {str(row["trial_id"]): row for row in results.trials.to_dict("records") if row["status"] == "finished"}
    for method, (_, trials) in wanted.items():
        for trial in trials:
            if trial.trial not in rows:
                continue
            mine = results.samples[(results.samples["method"] == method) & (results.samples["seed"] == trial.seed)]
            same = weights_sha256(store.meta(str(rows[trial.trial]["train_stage"]))) == trial.weights_sha256
            found[trial.trial] = Retrained(mine, same, f"{setting['device']}, {setting['precision']}, {setting['threads']} threads")
    return found
