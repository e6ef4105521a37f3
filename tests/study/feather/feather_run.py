"""`selfteach` with featherweight stages: the real driver, workers, store, journal, verdicts and report, but a "student" of eight numbers.

No torch is loaded, so that a run takes seconds and can be disturbed hundreds of times. Stages are deterministic, write as many kinds of
files as real ones, and scores depend on every byte of the trained "weights". FEATHER_S: seconds that each stage takes (default 0.2).
FEATHER_GATE: a file; while it exists, stages wait, after touching <file>.there.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
import types
from pathlib import Path

import numpy as np
import pandas as pd

import harness.study.plan
import harness.study.run
from harness.core.budget import Ledger
from harness.core.records import SAMPLE_COLUMNS
from harness.core.store import RunStore
from harness.study.fingerprint import code_fingerprint, method_of
from harness.study.plan import Setting
from harness.study.progress import ProgressWriter
from harness.study.stage import spent_by_account, write_accounts

STEPS = 20


def run_stage(task):
    """Stands for harness.study.trial.run_stage."""
    store, stage = RunStore(task.run_dir), task.stage
    progress = ProgressWriter(
        store.progress, stage=stage.id, label=f"{stage.label} seed {stage.seed}", kind=stage.kind, unit="FLOPs", total=STEPS
    )

    def fill(folder):
        started = time.monotonic()
        ledger = Ledger(3e8 if stage.kind == "train" else None, account="train" if stage.kind == "train" else "eval")
        found = {"train": train, "score": score}[stage.kind](task, folder, ledger, progress)
        write_accounts(ledger, folder)
        return {
            "id": stage.id, "kind": stage.kind, "label": stage.label, "seed": stage.seed, "inputs": list(stage.inputs),
            "content": stage.content, "code": code_fingerprint(task.study, stage), "wall_s": round(time.monotonic() - started, 3),
            "device": "cpu", "host": "here", "counters": ledger.counters, "spent": spent_by_account(ledger), **found,
        }  # fmt: skip

    try:
        return store.write_stage(stage.id, fill)
    finally:
        progress.close()


def train(task, folder, ledger, progress):
    config = method_of(task.study, task.stage.label).config
    if config.get("memory_file"):
        run_out_of_memory(Path(config["memory_file"]))
    rng = np.random.default_rng(task.stage.seed)
    weights_W = np.zeros(8)
    (folder / "model").mkdir()
    for step in range(STEPS):
        step_by_step(progress, step)
        if task.stage.label != "feather_base":
            ledger.charge("student", 3e8 / STEPS, 10)
            weights_W += rng.normal(size=8)
        ledger.observe("loss", float(np.abs(weights_W).sum()))
        (folder / "model" / "weights.safetensors").write_bytes(weights_W.tobytes() * 2000)
    (folder / "checkpoints.json").write_text(json.dumps([{"share": 1.0, "wall_s": ledger.wall_s()}]))
    return {"budget_flops": 3e8, "notes": []}


def score(task, folder, ledger, progress):
    (upstream,) = task.stage.inputs
    content = (RunStore(task.run_dir).folder(upstream) / "model" / "weights.safetensors").read_bytes()
    digest = hashlib.sha256(content).digest()
    rows = []
    for item in range(12):
        step_by_step(progress, item)
        values = ["feather_suite", "feather_item", "clean", f"i{item}", f"i{item}", "acc", float(digest[item] % 2), "scored", "?", "!"]
        rows.append(dict(zip(SAMPLE_COLUMNS, [*values, f"{digest[item]}", 1], strict=True)))
    pd.DataFrame(rows).to_parquet(folder / "samples.parquet", index=False)
    return {"items": len(rows)}


def step_by_step(progress, step):
    progress.report(step, phase="update")
    time.sleep(float(os.environ.get("FEATHER_S", "0.2")) / STEPS)
    gate = os.environ.get("FEATHER_GATE")
    if gate and Path(gate).exists():
        Path(f"{gate}.there").touch()
        while Path(gate).exists():
            time.sleep(0.02)


def run_out_of_memory(times_file):
    left = int(times_file.read_text())
    if left:
        times_file.write_text(str(left - 1))
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, hard))
        try:
            bytearray(1 << 31)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# Workers are started from this file as well (multiprocessing's spawn), so they get the stages from it.
trial = types.ModuleType("harness.study.trial")
trial.run_stage = run_stage
sys.modules["harness.study.trial"] = trial


def local_setting(threads):
    return Setting("cpu", "float64", threads)


# A worker compares its own setting with the plan's.
harness.study.plan.local_setting = harness.study.run.local_setting = local_setting

if __name__ == "__main__":
    from harness.cli import main

    main()
