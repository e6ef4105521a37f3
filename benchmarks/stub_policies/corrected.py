"""What corrected policies learn on stub reviewers at the bandit's number of environment steps (1,200).

`python benchmarks/stub_policies/corrected.py --seeds 30 --workers 2` plays the corrected environment (its states, elimination rules and
episodes; the reward is validity alone, decided by the stub reviewer; "stop" earns nothing) and appends what `results/corrected.jsonl`
lacks; `table.py` writes the tables. Default settings throughout: 50 updates of 8 lineages × 3 steps.
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
from harness.seeds import generator
from selfteach.environment import Environment, EnvironmentConfig
from selfteach.evolve import evolve
from selfteach.operations import OPERATIONS
from selfteach.policies.make import make
from selfteach.policy import Floats, Integers, Policy, Rollout
from selfteach.stubs import ONE_BEST, PROFILES, StubAnswerer, StubEncoder, StubExecutor, StubReviewer, stub_seeds

RESULTS = Path(__file__).parent / "results" / "corrected.jsonl"
STEPS, LAST = 1200, 300
POLICIES = ("ppo", "trpo", "bandit", "random")
RATES = {"one best": ONE_BEST, "spread": PROFILES}


class Recorded:
    """A policy whose rollouts are kept."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.rollouts: list[Rollout] = []

    def act(self, states_B_D: Floats, *, rng: np.random.Generator) -> tuple[Integers, Floats]:
        return self.policy.act(states_B_D, rng=rng)

    def update(self, rollout: Rollout, *, rng: np.random.Generator) -> dict[str, float]:
        self.rollouts.append(rollout)
        return self.policy.update(rollout, rng=rng)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)


def runs(seeds: int) -> Iterator[tuple[str, str, str, int]]:
    """Every policy on every profile, first where one operation is best."""
    for seed in range(seeds):
        for policy in POLICIES:
            yield from (("one best", profile, policy, seed) for profile in ONE_BEST)
    for seed in range(seeds):
        for policy in POLICIES:
            yield from (("spread", profile, policy, seed) for profile in ("breadth best", "breadth worst"))


def run(rates: str, profile: str, variant: str, seed: int) -> dict[str, Any]:
    """One training run: shares of the actions and mean reward over the last 300 environment steps."""
    torch.set_num_threads(1)
    config = EnvironmentConfig(reward_terms=("validity",))
    reviewer = StubReviewer(RATES[rates][profile])
    environment = Environment(
        stub_seeds(), OPERATIONS, StubExecutor(), StubEncoder(), StubAnswerer(), lambda text: False, config, reviewer=reviewer
    )
    rng = generator("stub_policies", "corrected", rates, profile, seed)
    policy = Recorded(make(variant, state_size=environment.state_size, actions=environment.actions, rng=rng))
    ledger = Ledger()
    policy.attach(ledger)
    updates = STEPS // (config.lineages * config.horizon)
    evolve(environment, policy, ledger, max_flops=np.inf, attempt_flops=0.0, rng=rng, max_updates=updates)
    actions = np.concatenate([rollout.actions_T_B.reshape(-1) for rollout in policy.rollouts])
    rewards = np.concatenate([rollout.rewards_T_B.reshape(-1) for rollout in policy.rollouts])
    return {
        "rates": rates,
        "profile": profile,
        "variant": variant,
        "seed": seed,
        "steps": len(actions),
        "shares": (np.bincount(actions[-LAST:], minlength=len(environment.actions)) / LAST).tolist(),
        "reward": float(rewards[-LAST:].mean()),
        "flops": ledger.spent(),
    }


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
