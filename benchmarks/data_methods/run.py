"""One method once on the quickstart's pool: what it spends where, what it writes and what of it survives.

    python benchmarks/data_methods/run.py self_instruct 4e12 '{"answers": {"instruction_tokens": 40}}' --out FOLDER

Without evaluation items to keep clear of: this trains nothing that is scored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from harness.core import plugins
from harness.core.budget import Ledger
from harness.core.corpus import CORPUS, read_rows, summarise
from harness.core.spec import Adaptation
from harness.models.student import Student
from harness.seeds import generator
from tasks.pool import MixedPool, MixedPoolConfig

FAMILIES = ["letter_counting", "syllogism", "needle_haystack", "isomorphic_strings", "chain_sum", "word_sequence_reversal"]


def main() -> None:
    """Trains, then prints spend, counters and the corpus's summary."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("method", choices=plugins.names("methods"))
    parser.add_argument("flops", type=float)
    parser.add_argument("config", type=json.loads, nargs="?", default={}, help="the method's settings as JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(options.flops)
    student = Student.load("smollm2-135m-instruct", adaptation=Adaptation(), seed=options.seed)
    student.attach(ledger)
    config = MixedPoolConfig.model_validate({"families": FAMILIES, "constraint_share": 0.2, "seed_demonstrations": 40})
    pool = MixedPool(config, ledger=ledger, rng=generator("trial", options.seed, "pool"), ngrams=frozenset())
    method = plugins.load("methods", options.method)
    rng = np.random.default_rng(options.seed)
    method().train(student, pool, ledger, rng=rng, config=method.Config(**options.config), out=options.out)
    print(
        f"{options.method}: {ledger.spent() / options.flops:.1%} of {options.flops:g} FLOPs in {ledger.wall_s():.0f} s; {ledger.counters}"
    )
    for row in ledger.rows():
        if row["calls"]:
            print(f"  {row['phase']:10} {row['model']:24} {row['flops'] / options.flops:6.1%}")
    if (options.out / CORPUS).exists():
        summary = summarise(read_rows(options.out / CORPUS))
        shown = ("made", "answered", "kept", "pass_rate", "verified_by", "rejected")
        print("  corpus: " + ", ".join(f"{key} {summary[key]}" for key in shown))
    for note in ledger.notes:
        print(f"  {note}")


if __name__ == "__main__":
    main()
