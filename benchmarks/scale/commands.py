"""Times `selfteach plan` and `selfteach status` as whole commands on a synthetic study, by default of 10,000 trials (2,000 x 5 seeds).

    python benchmarks/scale/commands.py --repeats 5

The run folder is made from the study's real plan: six stages in ten finished (records and journal entries, no results), one in a hundred
failed.
Prints the median, least and greatest wall seconds of each command, start-up included, and the processor seconds of the median.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from harness.core.spec import StudySpec, load_study
from harness.core.store import RunStore, write_json
from harness.study.plan import Plan, Stage
from harness.study.run import Layout, make_plan, study_record


def write_study(root: Path, variants: int, seeds: int) -> Path:
    """A study of variants of the self-teaching system on a student whose weights are four bytes."""
    import numpy as np
    from safetensors.numpy import save_file

    model = root / "model"
    model.mkdir()
    save_file({"weight": np.zeros(1, dtype=np.float32)}, model / "model.safetensors")
    (model / "config.json").write_text("{}")
    methods = [{"name": "base"}] + [
        {"name": "selfteach", "variant": f"v{n}", "config": {"finetune": {"learning_rate": 1e-4 * (1 + n)}}} for n in range(variants)
    ]
    content = {
        "name": "scale",
        "student": {"model": f"file:{model}"},
        "pool": {"name": "mixed"},
        "budget": {"train_flops": 8e12},
        "seeds": list(range(seeds)),
        "methods": methods,
        "suites": [{"name": "complex_understanding", "limit": 40}],
    }
    path = root / "scale.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def write_run(study: StudySpec, plan: Plan, layout: Layout, run_dir: Path) -> None:
    """A run that got as far as the docstring says."""
    store = RunStore(run_dir)
    for folder in (store.failed, store.progress, store.logs):
        folder.mkdir(parents=True)
    write_json(run_dir / "study.json", study_record(study, plan, layout, "selfteach run scale.yaml"))
    events = [{"t": 0.0, "event": "run_started", "workers": layout.workers, "threads": layout.threads, "reused": 0}]
    for place, stage in enumerate(plan.stages.values()):
        about = {"stage": stage.id, "kind": stage.kind, "label": stage.label, "seed": stage.seed}
        if place >= 0.61 * len(plan.stages):
            break
        events.append({"t": float(place), "event": "stage_started", **about})
        if place % 100 == 99:
            events.append({"t": float(place), "event": "stage_failed", **about, "error": "out of memory"})
            continue
        meta = _meta(stage)
        ended = {"wall_s": meta["wall_s"], "flops": meta["spent"]["train"], "items": 80, "host": "synthetic", "threads": layout.threads}
        events.append({"t": float(place), "event": "stage_finished", **about, **ended})
        store.folder(stage.id).mkdir()
        (store.folder(stage.id) / "meta.json").write_text(json.dumps(meta))
    store.journal.path.write_text("".join(json.dumps(event) + "\n" for event in events))


def _meta(stage: Stage) -> dict[str, object]:
    flops = 8e12 if stage.kind == "train" else 1e12
    return {"id": stage.id, "kind": stage.kind, "label": stage.label, "spent": {"train": flops}, "wall_s": 100.0, "files": {}}


def timed(arguments: list[str], repeats: int, most_s: float) -> dict[str, object]:
    """Wall and processor seconds of a command."""
    walls: list[float] = []
    processor: list[float] = []
    for _ in range(repeats):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-m", "harness.cli", *arguments], check=True, stdout=subprocess.DEVNULL)
        walls.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    median = statistics.median(walls)
    return {
        "command": arguments[0],
        "median_s": round(median, 2),
        "least_s": round(min(walls), 2),
        "greatest_s": round(max(walls), 2),
        "processor_s": round(statistics.median(processor), 2),
        "n": repeats,
        "most_s": most_s,
        "met": median <= most_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        path, run_dir, layout = write_study(root, options.variants, options.seeds), root / "run", Layout.of(None)
        study = load_study(path)
        plan = make_plan(study, layout)
        write_run(study, plan, layout, run_dir)
        print(json.dumps({"trials": len(plan.trials), "stages": len(plan.stages)}))
        print(json.dumps(timed(["status", str(run_dir)], options.repeats, 2.0)))
        print(json.dumps(timed(["plan", str(path), "--out", str(run_dir)], options.repeats, 5.0)))
        print(json.dumps(timed(["plan", str(path), "--out", str(root / "none")], options.repeats, 5.0) | {"run": "none yet"}))


if __name__ == "__main__":
    main()
