"""The checksums of the stages that verdicts rest on, and which of them have files that are not what was sealed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.core.results import RunResults
from harness.core.store import RunStore
from harness.errors import StoreError


def checksums(results: RunResults) -> dict[str, str]:
    """sha256 of the sealed meta.json, which holds the sha256 of every other file, of each finished and undamaged stage of the run.

    Raises:
        StoreError: a stage's meta.json is damaged.
    """
    store = RunStore(results.run_dir)
    stages = dict.fromkeys(
        str(stage)
        for trials in (results.trials, results.folds)
        for column in ("train_stage", "score_stage", "checkpoint_stage")
        for stage in trials[column].dropna()
    )
    return {stage: str(store.meta(stage)["checksum"]) for stage in stages if stage not in results.damaged and store.finished(stage)}


def changed(run_dir: Path, stages: Iterable[str]) -> dict[str, str]:
    """Computes the checksum of every file of `stages` anew: by stage which file is missing or differs from what was sealed."""
    store, found = RunStore(run_dir), dict[str, str]()
    for stage in stages:
        try:
            store.verify(stage)
        except StoreError as error:
            found[stage] = str(error)
    return found
