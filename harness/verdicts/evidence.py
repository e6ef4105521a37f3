"""Which stored stages a verdict rests on, by checksum, and whether their files still are what was sealed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.core.results import RunResults
from harness.core.store import RunStore


def checksums(results: RunResults) -> dict[str, str]:
    """sha256 of the sealed meta.json, which holds the sha256 of every other file, of each finished stage of the run.

    Raises:
        StoreError: a stage's meta.json is damaged.
    """
    store = RunStore(results.run_dir)
    stages = dict.fromkeys(
        str(stage) for column in ("train_stage", "score_stage", "checkpoint_stage") for stage in results.trials[column].dropna()
    )
    return {stage: str(store.meta(stage)["checksum"]) for stage in stages if store.finished(stage)}


def check_files(run_dir: Path, stages: Iterable[str]) -> None:
    """Computes the checksum of every file of `stages` anew.

    Raises:
        StoreError: a file is missing or differs from what was sealed; names it.
    """
    store = RunStore(run_dir)
    for stage in stages:
        store.verify(stage)
