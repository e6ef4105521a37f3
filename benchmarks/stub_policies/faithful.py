"""What the published update learns on stub reviewers, and each quirk's part in it.

`python benchmarks/stub_policies/faithful.py --seeds 30 --workers 2` runs what `results/faithful.jsonl` lacks and appends it, a line a run;
`python benchmarks/stub_policies/table.py` writes the tables. One thread a worker, CPU.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.core.budget import Ledger
from harness.core.records import Demonstration
from harness.seeds import generator
from selfteach.faithful.quirks import TRAINING_QUIRKS, FaithfulConfig, Quirks
from selfteach.faithful.train import train_faithful
from selfteach.operations import OPERATIONS, RuleExecutor
from selfteach.roles import Executor
from selfteach.stubs import ONE_BEST, PROFILES, StubEncoder, StubExecutor, StubReviewer, stub_seeds
from tasks.pool import MixedPool, MixedPoolConfig

RESULTS = Path(__file__).parent / "results" / "faithful.jsonl"
LAST = 300
WITHOUT_EFFECT = ("exact_reply", "persistent_lineage")
"""Stub reviewers never add a full stop and do not read the text: the first has no effect here, the second only with a real executor."""
VARIANTS = {"published": Quirks()} | {f"without {name}": Quirks().without(name) for name in TRAINING_QUIRKS if name not in WITHOUT_EFFECT}
VARIANTS |= {"none": Quirks.none()}
VARIANTS |= {"without persistent_lineage": Quirks().without("persistent_lineage")}
RATES = {"one best": ONE_BEST, "spread": PROFILES, "rules": ONE_BEST}
"""In "rules" the operations are carried out by rules on the pool's own seeds, so that a lineage can reach an end."""


def runs(seeds: int) -> Iterator[tuple[str, str, str, int]]:
    """Published and none on every profile first; then each quirk, where one operation is best. Fewer for the other questions."""
    few = ("published", "none", "without persistent_lineage")
    for variant in few[:2]:
        yield from (("one best", profile, variant, seed) for seed in range(seeds) for profile in ONE_BEST)
    for seed in range(seeds):
        for profile in ("breadth best", "breadth worst"):
            yield from (("one best", profile, variant, seed) for variant in VARIANTS if variant not in few)
            yield from (("spread", profile, variant, seed) for variant in few[:2])
        yield ("one best", "flat", "without breadth_bonus", seed)
        yield from (("rules", "flat", variant, seed) for variant in (few[0], few[2]) if seed < 10)


def run(rates: str, profile: str, variant: str, seed: int) -> dict[str, Any]:
    """One training run: shares of the operations and mean reward over the last 300 environment steps."""
    torch.set_num_threads(1)
    ledger, config = Ledger(), FaithfulConfig(quirks=VARIANTS[variant])
    rng = generator("stub_policies", "faithful", rates, profile, seed)
    reviewer = StubReviewer(RATES[rates][profile])
    seeds, executor = _pool(seed) if rates == "rules" else (stub_seeds(), StubExecutor())
    done = train_faithful(seeds, executor, reviewer, ledger, config, encoder=StubEncoder(), rng=rng)
    actions = np.concatenate([actions_T_B.reshape(-1) for actions_T_B in done.actions_T_B])
    rewards = np.concatenate([rewards_T_B.reshape(-1) for rewards_T_B in done.rewards_T_B])
    return {
        "rates": rates,
        "profile": profile,
        "variant": variant,
        "seed": seed,
        "steps": len(actions),
        "shares": (np.bincount(actions[-LAST:], minlength=len(OPERATIONS)) / LAST).tolist(),
        "reward": float(rewards[-LAST:].mean()),
        "flops": ledger.spent(),
    }


def _pool(seed: int) -> tuple[list[Demonstration], Executor]:
    pool = MixedPool(MixedPoolConfig(), ledger=Ledger(), rng=generator("stub_policies", "pool", seed), ngrams=frozenset())
    seeds = pool.seeds()
    return seeds, RuleExecutor([demonstration.instruction for demonstration in seeds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    done = {(row["rates"], row["profile"], row["variant"], row["seed"]) for row in rows}
    missing = [key for key in runs(arguments.seeds) if key not in done]
    with ProcessPoolExecutor(arguments.workers) as pool, RESULTS.open("a") as file:
        for row in pool.map(run, *zip(*missing, strict=True), chunksize=1) if missing else ():
            file.write(json.dumps(row) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
