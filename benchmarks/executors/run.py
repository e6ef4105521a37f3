"""One study under each executor: seconds from start to report, in turns.

    python benchmarks/executors/run.py --rounds 3 --out executors.json
    python benchmarks/executors/run.py --tiny --rounds 1

Every worker has one thread, so that a second worker is a second core and nothing else. Each round runs all variants, in an order that
moves on by one; a run starts from nothing (models are in the cache). Printed: medians, and of each round's ratios median and range. All
runs must agree in every sample.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from common import environment, samples, study_file, timed_run

from harness.core import provenance

VARIANTS = {
    "local, 1 worker": ["--executor", "local", "--workers", "1"],
    "local, 2 workers": ["--executor", "local", "--workers", "2"],
    "ray, 2 workers": ["--executor", "ray", "--workers", "2"],
}
RATIOS = {
    "two workers (1 worker / 2 workers), wanted >= 1.7": ("local, 1 worker", "local, 2 workers"),
    "Ray (ray / local, 2 workers), wanted <= 1.05": ("ray, 2 workers", "local, 2 workers"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="the tests' study: times imports, not work")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=list(VARIANTS), nargs="+", default=list(VARIANTS), help="these variants alone")
    parser.add_argument("--train-flops", type=float, help="of a training run, in place of small.yaml's")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        seconds = measure(Path(folder), arguments.rounds, arguments.only, tiny=arguments.tiny, train_flops=arguments.train_flops)
    found = summary(seconds)
    for name, values in found["seconds"].items():
        print(f"{name}: median {np.median(values):.1f} s of {', '.join(f'{value:.1f}' for value in values)}")
    for name, values in found["ratios"].items():
        print(f"{name}: {np.median(values):.3f} ({min(values):.3f}-{max(values):.3f}, n={len(values)})")
    print("all samples equal")
    if arguments.out:
        arguments.out.write_text(json.dumps({**found, "machine": provenance.machine(), "tiny": arguments.tiny}, indent=1) + "\n")


def measure(place: Path, rounds: int, names: list[str], *, tiny: bool, train_flops: float | None) -> dict[str, list[float]]:
    """Seconds of every run, by variant.

    Raises:
        AssertionError: two runs differ in a sample.
    """
    study, variables = study_file(place, tiny=tiny, train_flops=train_flops), environment(place, tiny=tiny)
    first = None
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in [*names[number % len(names) :], *names[: number % len(names)]]:
            out = place / "run"
            seconds[name].append(timed_run(study, out, VARIANTS[name], variables))
            print(f"round {number + 1}, {name}: {seconds[name][-1]:.1f} s", flush=True)
            found = samples(out)
            first = found if first is None else first
            pd.testing.assert_frame_equal(found, first, check_exact=True)
            shutil.rmtree(out)
    return seconds


def summary(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """The seconds, and each round's ratios."""
    ratios = {
        name: list(np.array(seconds[over]) / np.array(seconds[under]))
        for name, (over, under) in RATIOS.items()
        if {over, under} <= seconds.keys()
    }
    return {"seconds": seconds, "ratios": ratios}


if __name__ == "__main__":
    main()
