"""How long `selfteach compare` takes on two lm-eval logs: `python benchmarks/compare/speed.py [--samples 100000] [--repeats 3]`.

Writes two logs in lm-eval's own layout (a four-choice task, 2.4 KB a sample), compares them in a fresh process and prints wall and
processor seconds from the start of Python to the printed table; the same for CSV files, and for logs of 10 samples (the start-up).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

QUESTION = "A train leaves the station at noon and travels east at a constant speed; another leaves an hour later and follows it. " * 2


def write_log(path: Path, *, n_samples: int, accuracy: float, rng: np.random.Generator) -> None:
    """One log as lm-eval writes it for a multiple-choice task."""
    with path.open("w") as file:
        for index, correct in enumerate(rng.random(n_samples) < accuracy):
            question = f"{QUESTION}Question {index}: which of the four statements follows?"
            arguments = {f"gen_args_{choice}": {"arg_0": f"{question}\nAnswer:", "arg_1": f" choice {choice}"} for choice in range(4)}
            answers = [[f"{-10 * rng.random():.12f}", "False"] for _ in range(4)]
            digest = hashlib.sha256(str(index).encode()).hexdigest()
            row = {
                "doc_id": index, "doc": {"question": question, "choices": ["a", "b", "c", "d"], "gold": 1}, "target": "1",
                "arguments": arguments, "resps": [[answer] for answer in answers], "filtered_resps": answers, "filter": "none",
                "metrics": ["acc", "acc_norm"], "doc_hash": digest, "prompt_hash": digest, "target_hash": digest,
                "acc": float(correct), "acc_norm": float(correct),
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")


def write_table(path: Path, *, n_samples: int, accuracy: float, rng: np.random.Generator) -> None:
    """One CSV file of item and score."""
    lines = (f"q{index},{int(correct)}" for index, correct in enumerate(rng.random(n_samples) < accuracy))
    path.write_text("item,score\n" + "\n".join(lines) + "\n")


def seconds(*logs: Path, repeats: int) -> tuple[float, float]:
    """Shortest wall and processor seconds of the command over `repeats` fresh processes."""
    found = []
    for _ in range(repeats):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-m", "harness.cli", "compare", *map(str, logs)], check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append((wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return min(wall for wall, _ in found), min(processor for _, processor in found)


def main() -> None:
    """Prints one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores; shortest of {options.repeats} fresh processes")
    with tempfile.TemporaryDirectory() as scratch:
        for n_samples in (10, options.samples):
            for kind, suffix, write in (("lm-eval", "jsonl", write_log), ("CSV", "csv", write_table)):
                paths = []
                for name, accuracy in (("a", 0.62), ("b", 0.60)):
                    rng = np.random.default_rng([n_samples, len(paths)])
                    paths.append(Path(scratch) / f"{name}-{n_samples}.{suffix}")
                    write(paths[-1], n_samples=n_samples, accuracy=accuracy, rng=rng)
                megabytes = sum(path.stat().st_size for path in paths) / 1e6
                wall, processor = seconds(*paths, repeats=options.repeats)
                print(f"2 × {n_samples:,} samples, {kind} ({megabytes:.1f} MB): {wall:.2f} s wall, {processor:.2f} s processor")


if __name__ == "__main__":
    main()
