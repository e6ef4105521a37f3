"""The two stages of a trial, as run inside a worker: train a student under a ledger, score a finished student.

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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from harness.core import plugins, provenance
from harness.core.budget import Ledger, Observation
from harness.core.records import SAMPLE_COLUMNS
from harness.core.spec import StudySpec
from harness.core.store import Meta, RunStore
from harness.core.suite_spec import SuiteSpec
from harness.errors import SpecError
from harness.models.student import Student
from harness.scoring import suites as scoring
from harness.seeds import generator, seed_from
from harness.study.fingerprint import code_fingerprint, method_of
from harness.study.plan import Stage
from harness.study.progress import ProgressWriter

ITEM = ["suite", "task", "perturbation", "sample_id"]
"""One scored item: samples have a row for each of its metrics."""
LEDGER_COLUMNS = ("account", "phase", "model", "flops", "tokens", "padding", "calls", "wall_s")
CURVE_COLUMNS = tuple(Observation.__dataclass_fields__)


@dataclass(frozen=True)
class StageTask:
    """A stage with what a worker needs to do it."""

    run_dir: Path
    study: StudySpec
    stage: Stage
    threads: int
    planned_items: int
    """Items that a score stage will score, for its progress bar; 0 where unknown."""


def run_stage(task: StageTask) -> Meta:
    """Does one stage and publishes its folder; returns its meta.json."""
    store, stage = RunStore(task.run_dir), task.stage
    unit, total = ("FLOPs", task.study.budget.train_flops) if stage.kind == "train" else ("items", float(task.planned_items))
    progress = ProgressWriter(
        store.progress, stage=stage.id, label=f"{stage.label} seed {stage.seed}", kind=stage.kind, unit=unit, total=total
    )
    make_repeatable(stage.seed, task.threads)
    progress.report(0, phase="loading")

    def fill(folder: Path) -> Meta:
        started = time.monotonic()
        run = run_train_stage if stage.kind == "train" else run_score_stage
        found = run(task, folder, progress)
        return {
            "id": stage.id,
            "kind": stage.kind,
            "label": stage.label,
            "seed": stage.seed,
            "inputs": list(stage.inputs),
            "content": stage.content,
            "code": code_fingerprint(task.study, stage),
            "wall_s": round(time.monotonic() - started, 3),
            "device": stage.content["setting"]["device"],
            "host": provenance.machine()["host"],
            "peak_memory_gib": round(_peak_memory_bytes() / 2**30, 2),
            **found,
        }

    try:
        return store.write_stage(stage.id, fill)
    finally:
        progress.close()


def run_train_stage(task: StageTask, folder: Path, progress: ProgressWriter) -> Meta:
    """Trains one student and writes its model, ledger and curves into `folder`; what the method itself writes lies beside them."""
    study, stage = task.study, task.stage
    method = method_of(study, stage.label)
    ledger = Ledger(study.budget.train_flops, on_change=lambda ledger: progress.report(ledger.spent(), phase=ledger.phase))
    student = Student.load(study.student.model, adaptation=study.student.adaptation, seed=_torch_seed("trial", stage.seed, "init"))
    student.attach(ledger)
    ngrams = evaluation_ngrams(study.suites)
    pool_class, method_class = plugins.load("pools", study.pool.name), plugins.load("methods", method.name)
    pool_config = pool_class.Config(**study.pool.config)
    pool = pool_class(pool_config, ledger=ledger, rng=generator("trial", stage.seed, "pool"), ngrams=ngrams)
    torch.manual_seed(_torch_seed("trial", stage.seed, "torch"))
    trained = method_class().train(
        student,
        pool,
        ledger,
        rng=generator("trial", stage.seed, "method", method.name),
        config=method_class.Config(**method.config),
        out=folder,
    )
    if not getattr(method_class, "seedless", False) and ledger.spent() == 0:
        # Scored, it would pass for a trained student.
        raise SpecError(
            f"too small: {stage.label} could not afford a single step", key="budget.train_flops", value=study.budget.train_flops
        )
    trained.save(folder / "model")
    write_accounts(ledger, folder)
    return {"counters": ledger.counters, "spent": spent_by_account(ledger), "budget_flops": study.budget.train_flops}


def run_score_stage(task: StageTask, folder: Path, progress: ProgressWriter) -> Meta:
    """Scores the student of the upstream train stage and writes samples.parquet and the ledger into `folder`."""
    study, stage = task.study, task.stage
    (upstream,) = stage.inputs
    student = Student.restore(RunStore(task.run_dir).folder(upstream) / "model")
    ledger = Ledger(account="eval")
    student.attach(ledger)
    samples = scoring.score(
        student,
        study.suites,
        study.perturbations,
        ledger=ledger,
        seed=score_seed(),
        progress=lambda done, total: progress.report(done, total, phase="score"),
    )
    assert list(samples.columns) == list(SAMPLE_COLUMNS), list(samples.columns)
    samples.to_parquet(folder / "samples.parquet", index=False)
    write_accounts(ledger, folder)
    return {"counters": ledger.counters, "spent": spent_by_account(ledger), "items": len(samples.drop_duplicates(ITEM))}


def score_seed() -> int:
    """The seed of perturbations and item subsets: one for all trials, or their samples would not be paired."""
    return _torch_seed("score")


def write_accounts(ledger: Ledger, folder: Path) -> None:
    """Writes ledger.parquet and curves.parquet."""
    pd.DataFrame(ledger.rows(), columns=list(LEDGER_COLUMNS)).to_parquet(folder / "ledger.parquet", index=False)
    curves = pd.DataFrame([asdict(point) for point in ledger.curves], columns=list(CURVE_COLUMNS))
    curves.to_parquet(folder / "curves.parquet", index=False)


def spent_by_account(ledger: Ledger) -> dict[str, float]:
    """FLOPs per account."""
    return {account: ledger.spent(account) for account in ("train", "tune", "eval")}


def make_repeatable(seed: int, threads: int) -> None:
    """Puts a worker, whatever it did before, into the state that a stage starts from."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(_torch_seed("trial", seed, "torch"))
    random.seed(_torch_seed("trial", seed, "python"))
    np.random.seed(_torch_seed("trial", seed, "numpy"))


def evaluation_ngrams(suites: Sequence[SuiteSpec]) -> frozenset[int]:
    """Hashed 8-grams of the evaluation items, read once per worker."""
    return _ngrams(json.dumps([suite.model_dump() for suite in suites]))


@lru_cache(maxsize=1)
def _ngrams(suites_json: str) -> frozenset[int]:
    return scoring.evaluation_ngrams([SuiteSpec(**suite) for suite in json.loads(suites_json)])


def _torch_seed(*names: object) -> int:
    return seed_from(*names) % 2**31


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
