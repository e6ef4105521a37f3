"""What reporting curves to trackers takes: seconds to start and to end a run, milliseconds for the values of one spend.

    python benchmarks/tracking/overhead.py --trackers tensorboard --repeats 5

Trackers that are not installed are left out. Each is measured in a fresh process, because the first start pays for imports. The share of
a training run is these figures over its time: a stage's meta.json tells `tracking_s` beside `wall_s`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CURVES = ("reward", "validity", "novelty", "learnability", "pass_rate", "operation entropy", "corpus size")
"""Values that come at one spend in the self-teaching system, its longest list."""


def measure(word: str, spends: int, folder: Path) -> tuple[float, float, float]:
    """Seconds to start, for the values of one spend, and to end."""
    from harness.core.budget import Ledger
    from harness.models.tracking import StageTracker

    ledger = Ledger()
    tracker = StageTracker([word], run_name="overhead", group="overhead", settings={"study": "overhead"}, folder=folder, note=ledger.note)
    ledger.tracker = tracker
    began = time.monotonic()
    assert tracker.ready() == [word], ledger.notes
    started = time.monotonic()
    for spend in range(spends):
        ledger.charge("model", 1e9, 1)
        for curve in CURVES:
            ledger.observe(curve, spend / spends)
    logged = time.monotonic()
    tracker.close()
    assert not ledger.notes, ledger.notes
    return started - began, (logged - started) / spends, time.monotonic() - logged


def main() -> None:
    """Prints medians (lowest to highest) by tracker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trackers", default="all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--spends", type=int, default=300)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print("measured", *measure(options.one, options.spends, Path.cwd()))
        return
    from harness.core.trackers import read_trackers

    print("| tracker | start, s | values of one spend, ms | end, s |\n|---|---|---|---|")
    for word in read_trackers(options.trackers.split(","), key="--trackers"):
        runs = [_in_fresh_process(word, options.spends) for _ in range(options.repeats)]
        start, log, end = ([run[place] for run in runs] for place in range(3))
        cells = (_spread(start), _spread([1e3 * seconds for seconds in log]), _spread(end))
        print(f"| {word} | {' | '.join(cells)} |", flush=True)


def _in_fresh_process(word: str, spends: int) -> tuple[float, ...]:
    with tempfile.TemporaryDirectory() as folder:
        local = {
            "WANDB_MODE": "offline",
            "TRACKIO_DIR": f"{folder}/trackio",
            "MLFLOW_TRACKING_URI": f"file:{folder}/mlruns",
            "MLFLOW_ALLOW_FILE_STORE": "true",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
        }
        command = [sys.executable, str(Path(__file__).resolve()), "--one", word, "--spends", str(spends)]
        done = subprocess.run(command, cwd=folder, env=os.environ | local, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("measured ")]
    return tuple(map(float, line.split()[1:]))


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
