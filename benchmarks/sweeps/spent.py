"""What a study spent, against the sum of its trials run alone: FLOPs from the ledgers, worker-seconds from the stages' records.

    python benchmarks/sweeps/spent.py results/runs/ablations
    python benchmarks/sweeps/spent.py --run studies/ablations.yaml --out results/runs/sweep --train-flops 2e12 --seeds 0,1

Training and scoring count, on both sides; tuning on neither, because the variants of a study have it in common in any case. A trial run
alone does every stage that it names itself: its first part, which the study computes once for several, is part of its own ledger.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from harness.core.store import RunStore, computed


def spent(run_dir: Path) -> dict[str, Any]:
    """FLOPs and worker-seconds of a finished run: `computed` once for all, and `alone`, summed over its trials.

    Raises:
        SystemExit: a stage is not finished.
    """
    store = RunStore(run_dir)
    plan = store.study()["plan"]
    kinds = {stage["id"]: stage["kind"] for stage in plan["stages"] if stage["kind"] != "tune"}
    missing = [stage for stage, kind in kinds.items() if kind != "prepare" and not store.finished(stage)]
    if missing:
        raise SystemExit(f"{run_dir}: {len(missing)} of {len(kinds)} stages are not finished; run the study to its end first")
    metas = {stage: store.meta(stage) for stage in kinds if store.finished(stage)}
    charged_flops = {stage: float(pd.read_parquet(store.folder(stage) / "ledger.parquet")["flops"].sum()) for stage in metas}
    found: dict[str, Any] = {"run": str(run_dir), "trials": len(plan["trials"]), "first_parts": 0}
    once = {"train": [0.0, 0.0], "score": [0.0, 0.0]}
    for stage, meta in metas.items():
        part = once["train" if kinds[stage] in ("train", "prepare") else "score"]
        taken_over_flops = meta.get("shared", {"flops": 0.0})["flops"]
        part[0] += charged_flops[stage] - taken_over_flops
        part[1] += computed(meta)[1]
        found["first_parts"] += kinds[stage] == "prepare"
    alone = {"train": [0.0, 0.0], "score": [0.0, 0.0]}
    for trial in plan["trials"]:
        for stage in filter(None, (trial["train_stage"], trial["score_stage"], trial.get("checkpoint_stage"))):
            part = alone["train" if stage == trial["train_stage"] else "score"]
            part[0] += charged_flops[stage]
            part[1] += metas[stage]["wall_s"]
    for place, unit in enumerate(("flops", "worker_s")):
        for name, parts in (("computed", once), ("alone", alone)):
            found[f"{name}_{unit}"] = {kind: parts[kind][place] for kind in parts} | {"total": sum(part[place] for part in parts.values())}
        found[f"share_{unit}"] = found[f"computed_{unit}"]["total"] / found[f"alone_{unit}"]["total"]
    return found


def run(study: Path, out: Path, train_flops: float | None, seeds: str | None, workers: int | None) -> None:
    """Runs a study to its end, with another budget or other seeds if they are given."""
    content = yaml.safe_load(study.read_text(encoding="utf-8"))
    if train_flops is not None:
        content["budget"]["train_flops"] = train_flops
    if seeds is not None:
        content["seeds"] = [int(seed) for seed in seeds.split(",")]
    out.parent.mkdir(parents=True, exist_ok=True)
    changed = out.with_suffix(".yaml")
    changed.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    count = ["--workers", str(workers)] if workers else []
    subprocess.run([sys.executable, "-m", "harness.cli", "run", str(changed), "--out", str(out), *count], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("finished", nargs="?", type=Path, help="folder of a finished run")
    parser.add_argument("--run", type=Path, help="study file to run first")
    parser.add_argument("--out", type=Path, help="folder of that run")
    parser.add_argument("--train-flops", type=float)
    parser.add_argument("--seeds", help="such as 0,1")
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    if (options.run is None) == (options.finished is None) or (options.run is not None and options.out is None):
        parser.error("give the folder of a finished run, or --run STUDY --out FOLDER")
    if options.run is not None:
        run(options.run, options.out, options.train_flops, options.seeds, options.workers)
    print(json.dumps(spent(options.finished or options.out), indent=1))


if __name__ == "__main__":
    main()
