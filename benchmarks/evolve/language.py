"""Evolving with a language model: our LanguageExecutor against distilabel's EvolInstruct, side by side on one machine.

    python benchmarks/evolve/language.py --rival-python DISTILABEL_ENV/bin/python [--pairs 5] [--instructions 64] [--batch-sizes 1 16 64]

Same weights, dtype, threads, instructions, temperature and token limit; one evolution of every instruction a pass, operations drawn at
random by both. distilabel runs in an environment of its own (`pip install distilabel torch transformers`), with each of `--batch-sizes`
in a first pass; the best one is its setting. Then passes alternate, ours and the rival's, and medians and the median of the paired ratios
are printed. Prompts differ, they are part of what is compared: tokens written are printed beside instructions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from harness.core.budget import Ledger
from harness.core.provenance import machine
from harness.models.sources import resolve
from harness.models.student import Student, compute_dtype, default_device
from selfteach.language.executor import LanguageExecutor
from selfteach.language.models import StudentModel
from selfteach.operations import OPERATIONS
from tasks.pool import constraint_items

MODEL = "smollm2-135m-instruct"


class Rival:
    """distilabel in its own process."""

    def __init__(self, python: Path, instructions: Path, batch_size: int, max_new_tokens: int, dtype: str, threads: int) -> None:
        script = Path(__file__).with_name("_distilabel_side.py")
        command = [
            str(python),
            str(script),
            str(resolve(MODEL)),
            str(instructions),
            str(batch_size),
            str(max_new_tokens),
            dtype,
            str(threads),
        ]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.versions = self._line()["ready"]

    def evolve(self) -> dict[str, Any]:
        """One pass."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._line()

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise SystemExit("the rival ended without an answer: does its python import distilabel, torch and transformers?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rival-python", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--instructions", type=int, default=64)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = str(compute_dtype(default_device())).removeprefix("torch.")
    parents = constraint_items("train", options.instructions)
    student = Student.load(MODEL, adaptation=None, seed=0)
    ledger = Ledger()
    student.attach(ledger)
    executor = LanguageExecutor(StudentModel(student, ledger), max_new_tokens=options.max_new_tokens, temperature=0.7)

    def ours(seed: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        operations = [OPERATIONS[index] for index in rng.integers(len(OPERATIONS), size=len(parents))]
        started = time.perf_counter()
        outcomes = executor.apply_batch(parents, operations, rng=rng)
        wall_s = time.perf_counter() - started
        tokens = sum(len(student.encode(outcome.reply)) for outcome in outcomes)
        made = sum(outcome.instruction is not None for outcome in outcomes)
        return {"wall_s": wall_s, "instructions": len(outcomes), "tokens": tokens, "made": made}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instructions.json"
        path.write_text(json.dumps([parent.text for parent in parents]))
        arguments = (options.max_new_tokens, dtype, options.threads)
        trials = {}
        for batch_size in options.batch_sizes:
            rival = Rival(options.rival_python, path, batch_size, *arguments)
            rival.evolve() if len(options.batch_sizes) == 1 else None
            trials[batch_size] = rival.evolve()["wall_s"]
            rival.close()
            print(f"distilabel, batch size {batch_size}: {trials[batch_size]:.1f} s", flush=True)
        best = min(trials, key=lambda size: trials[size])
        rival = Rival(options.rival_python, path, best, *arguments)
        rival.evolve(), ours(0)  # warm up
        pairs = []
        for index in range(options.pairs):
            pairs.append((ours(index + 1), rival.evolve()))
            print(f"pair {index + 1}: ours {pairs[-1][0]}, distilabel {pairs[-1][1]}", flush=True)
        rival.close()
    ratio = median(theirs["wall_s"] / mine["wall_s"] for mine, theirs in pairs)
    rates = [median(side["instructions"] / side["wall_s"] for side in sides) for sides in zip(*pairs, strict=True)]
    token_rates = [median(side["tokens"] / side["wall_s"] for side in sides) for sides in zip(*pairs, strict=True)]
    print(f"\n{machine()}\nrival: {rival.versions}, batch size {best}; ours: torch {torch.__version__}; {dtype}, {options.threads} threads")
    print(f"instructions/s, median of {len(pairs)}: ours {rates[0]:.2f}, distilabel {rates[1]:.2f}; median paired ratio {ratio:.2f}")
    print(f"tokens written/s: ours {token_rates[0]:.0f}, distilabel {token_rates[1]:.0f}")


if __name__ == "__main__":
    main()
