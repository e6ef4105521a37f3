"""What the benchmarks of executors share: a study, a run of it through the command line, and its samples."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import yaml

from harness.core.results import load_run
from tests.study.conftest import PLUGINS, Workplace, write_tiny_model

ROOT = Path(__file__).parents[2]
SMALL = Path(__file__).parent / "small.yaml"
COMPARED = ["method", "seed", "task", "perturbation", "sample_id", "metric", "value", "output"]


def study_file(place: Path, *, tiny: bool, train_flops: float | None = None) -> Path:
    """The study to run: small.yaml, with another budget if one is given, or the tests' with their random model."""
    if not tiny:
        content = yaml.safe_load(SMALL.read_text(encoding="utf-8"))
        content["budget"]["train_flops"] = train_flops or content["budget"]["train_flops"]
        path = place / "small.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path
    model = place / "model"
    model.mkdir()
    return Workplace(place, write_tiny_model(model)).write(seeds=[0, 1, 2, 3])


def environment(place: Path, *, tiny: bool) -> dict[str, str]:
    """What `selfteach` is started with."""
    paths = [str(ROOT), *([str(PLUGINS)] if tiny else []), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)} | ({"XDG_CACHE_HOME": str(place / "cache")} if tiny else {})


def command(study: Path, out: Path, *options: str) -> list[str]:
    """`selfteach run` with one thread a worker, whatever their number."""
    return [sys.executable, "-m", "harness.cli", "run", str(study), "--out", str(out), "--threads", "1", *options]


def timed_run(study: Path, out: Path, options: list[str], variables: dict[str, str]) -> float:
    """Seconds of a run from its start to its report."""
    began = time.monotonic()
    done = subprocess.run(command(study, out, *options), env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(options)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return time.monotonic() - began


def samples(run_dir: Path) -> pd.DataFrame:
    """Every score and output of a run, in one order."""
    found: pd.DataFrame = load_run(run_dir).samples[COMPARED].sort_values(COMPARED[:6]).reset_index(drop=True)
    return found
