"""How long the holistic suite takes for one checkpoint at its default size, and what it says: python benchmarks/scoring/holistic.py

Prints wall time (model loading apart), the axes, and machine. `--limit` makes a smaller trial.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from harness.core import provenance
from harness.core.budget import Ledger
from harness.core.suite_spec import SuiteSpec
from harness.models.student import Student
from harness.scoring.suites import score
from harness.verdicts.holistic import holistic_axes


def main() -> None:
    """Scores once and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    student, ledger = Student.load(options.model, adaptation=None, seed=0), Ledger(account="eval")
    student.attach(ledger)
    started = time.monotonic()
    samples = score(student, [SuiteSpec(name="holistic", limit=options.limit)], [], ledger=ledger, seed=0)
    wall_s = time.monotonic() - started
    axes = {axis.measure: [axis.value, axis.interval, axis.n] for axis in holistic_axes(samples)}
    told = {"model": options.model, "wall_s": round(wall_s, 1), "threads": options.threads, "device": str(student.device)}
    items = len(samples.drop_duplicates(["task", "sample_id"]))
    print(json.dumps({**told, "items": items, "eval_tflop": ledger.spent("eval") / 1e12, **provenance.machine(), "axes": axes}, indent=1))


if __name__ == "__main__":
    main()
