"""The stages of a trial, as run inside a worker: train a student (harness.study.training), score it, score those kept along its run.

Random streams are named by the trial's seed and a purpose, never by the study. Streams that methods share (the pool's seeds, the adapters'
initialisation, torch's own generator) do not name the method either, so trials with one seed start alike; what a method draws later comes
from a stream of its own.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from harness.core import provenance
from harness.core.budget import Ledger
from harness.core.records import SAMPLE_COLUMNS, TrainingRecord
from harness.core.store import Meta, RunStore
from harness.models.engines.base import EngineName
from harness.models.student import Student
from harness.scoring import suites as scoring
from harness.study.fingerprint import code_fingerprint
from harness.study.progress import ProgressWriter
from harness.study.stage import (
    CHECKPOINT_MODELS,
    CHECKPOINTS,
    HELD_OUT,
    ITEM,
    TRAINED_ON,
    StageTask,
    read_pairs,
    score_seed,
    spent_by_account,
    suite_spec,
    torch_seed,
    write_accounts,
)
from harness.study.training import run_prepare_stage, run_train_stage, run_tune_stage


def run_stage(task: StageTask) -> Meta:
    """Does one stage and publishes its folder; returns its meta.json."""
    store, stage = RunStore(task.run_dir), task.stage
    share = stage.budget_share if stage.kind == "prepare" else 1.0
    trains = stage.kind in ("train", "tune", "prepare")
    unit, total = ("FLOPs", share * float(stage.content["train_flops"])) if trains else ("items", float(task.planned_items))
    progress = ProgressWriter(
        store.progress, stage=stage.id, label=f"{stage.label} seed {stage.seed}", kind=stage.kind, unit=unit, total=total
    )
    make_repeatable(stage.seed, task.threads)
    progress.report(0, phase="loading")

    def fill(folder: Path) -> Meta:
        started = time.monotonic()
        found = _RUN[stage.kind](task, folder, progress)
        taken_over_s = found["shared"]["wall_s"] if "shared" in found else 0.0
        return {
            "id": stage.id,
            "kind": stage.kind,
            "label": stage.label,
            "seed": stage.seed,
            "inputs": list(stage.inputs),
            "content": stage.content,
            "code": code_fingerprint(task.study, stage),
            # What reporting to trackers took is no part of a trial's time, which is compared between methods.
            "wall_s": round(time.monotonic() - started + taken_over_s - found.get("tracking_s", 0.0), 3),
            "device": stage.content["setting"]["device"],
            "host": provenance.machine()["host"],
            "peak_memory_gib": round(_peak_memory_bytes() / 2**30, 2),
            **found,
        }

    try:
        return store.write_stage(stage.id, fill)
    finally:
        progress.close()


def run_score_stage(task: StageTask, folder: Path, progress: ProgressWriter) -> Meta:
    """Scores the student of the upstream train stage and writes samples.parquet and the ledger into `folder`."""
    stage = task.stage
    (upstream,) = stage.inputs
    trained = RunStore(task.run_dir).folder(upstream)
    ledger = Ledger(account="eval")
    samples = scoring.score(
        _restored(trained / "model", ledger, task.study.student.engine),
        [suite_spec(suite) for suite in stage.content["suites"]],
        task.study.perturbations if stage.content["perturbations"] else [],
        ledger=ledger,
        seed=score_seed(),
        progress=lambda done, total: progress.report(done, total, phase="score"),
        training=_training_record(trained),
    )
    assert list(samples.columns) == list(SAMPLE_COLUMNS), list(samples.columns)
    samples.to_parquet(folder / "samples.parquet", index=False)
    write_accounts(ledger, folder)
    return {"counters": ledger.counters, "spent": spent_by_account(ledger), "items": len(samples.drop_duplicates(ITEM))}


def run_checkpoints_stage(task: StageTask, folder: Path, progress: ProgressWriter) -> Meta:
    """Scores the students kept along a run; samples.parquet has a column `share` more. Equal weights are scored once."""
    stage = task.stage
    (upstream,) = stage.inputs
    store = RunStore(task.run_dir)
    trained, files = store.folder(upstream), store.meta(upstream)["files"]
    kept, suites = json.loads((trained / CHECKPOINTS).read_text())[:-1], [suite_spec(suite) for suite in stage.content["suites"]]
    ledger = Ledger(account="eval")
    by_weights: dict[tuple[str, ...], pd.DataFrame] = {}
    frames, scored = [], 0
    for place, checkpoint in enumerate(kept):
        name = f"{CHECKPOINT_MODELS}/{checkpoint['share']:g}"
        weights = tuple(files[file] for file in sorted(files) if file.startswith(f"{name}/") and file.endswith(".safetensors"))
        if weights not in by_weights:

            def report(done: int, total: int, place: int = place) -> None:
                progress.report(place * total + done, len(kept) * total, phase=f"checkpoint {place + 1} of {len(kept)}")

            student = _restored(trained / name, ledger, task.study.student.engine)
            by_weights[weights] = scoring.score(student, suites, [], ledger=ledger, seed=score_seed(), progress=report)
            scored += len(by_weights[weights].drop_duplicates(ITEM))
        frames.append(by_weights[weights].assign(share=checkpoint["share"]))
    columns = [*SAMPLE_COLUMNS, "share"]
    samples = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    samples[columns].to_parquet(folder / "samples.parquet", index=False)
    write_accounts(ledger, folder)
    return {"counters": ledger.counters, "spent": spent_by_account(ledger), "items": scored, "checkpoints": len(kept)}


_RUN = {
    "prepare": run_prepare_stage,
    "train": run_train_stage,
    "tune": run_tune_stage,
    "score": run_score_stage,
    "checkpoints": run_checkpoints_stage,
}


def _training_record(trained: Path) -> TrainingRecord | None:
    """What a membership attack on the student needs; None of one that was trained on no text, or before this was kept."""
    members, nonmembers = read_pairs(trained / TRAINED_ON), read_pairs(trained / HELD_OUT)
    return TrainingRecord(members, nonmembers) if members else None


def _restored(model: Path, ledger: Ledger, engine: EngineName) -> Student:
    student = Student.restore(model, engine=engine)
    student.attach(ledger)
    return student


def make_repeatable(seed: int, threads: int) -> None:
    """Puts a worker, whatever it did before, into the state that a stage starts from."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(torch_seed("trial", seed, "torch"))
    random.seed(torch_seed("trial", seed, "python"))
    np.random.seed(torch_seed("trial", seed, "numpy"))


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
