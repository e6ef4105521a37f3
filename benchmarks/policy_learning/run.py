"""Does a policy learn anything on the real environment? Trained policies against random ones, on seeds held out from training.

    python benchmarks/policy_learning/run.py OUT [--seeds 10] [--updates 20] [--episodes 5] [--policies random ppo ...] [--workers 2]

Per training seed: a pool of 80 seed instructions, half of which a policy is trained on (rule operations, the student's own frozen
checkpoint as responder, reward validity × novelty × learnability); then it plays, frozen, `--episodes` episodes of 12 lineages × 3 steps
on the other half, and so does the random policy, from equal random states. Reported is the mean reward a step, stops
included, and the mean of every component of it. The replicate is the training seed; differences are paired by it. One JSON file a
(policy, seed) in OUT: a run that was stopped goes on where it was. `analyse.py OUT` writes table and picture.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from harness.core.budget import Ledger
from harness.models.embed import Embedder
from harness.models.student import Student
from harness.seeds import generator
from selfteach.corpus import Entry
from selfteach.environment import Environment, EnvironmentConfig
from selfteach.evolve import Evolution, evolve
from selfteach.operations import OPERATIONS, RuleExecutor
from selfteach.policies.make import make
from selfteach.policy import Floats, Integers, Policy, Rollout
from selfteach.respond.config import ResponderConfig
from selfteach.respond.responder import Responder
from tasks.pool import MixedPool, MixedPoolConfig

FAMILIES = ["letter_counting", "syllogism", "needle_haystack", "isomorphic_strings", "chain_sum", "word_sequence_reversal"]
POOL = MixedPoolConfig.model_validate({"families": FAMILIES, "constraint_share": 0.2, "seed_demonstrations": 80})
RESPONDER = ResponderConfig(reasoning_tokens=10, instruction_tokens=40)
LINEAGES, HORIZON = 12, 3
LEARNING = ("ppo", "trpo", "bandit")
"""Policies that are trained before they are played; the others only play."""


class Frozen:
    """A policy that acts as it is and learns no more."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def act(self, states_B_D: Floats, *, rng: np.random.Generator) -> tuple[Integers, Floats]:
        return self.policy.act(states_B_D, rng=rng)

    def update(self, rollout: Rollout, *, rng: np.random.Generator) -> dict[str, float]:
        return {}


def one(policy_name: str, seed: int, *, updates: int, episodes: int, student: Student, embedder: Embedder) -> dict[str, Any]:
    """Trains a policy and plays it and the random one on held-out seeds; plain JSON values."""
    started = time.monotonic()
    ledger = Ledger()
    student.attach(ledger)
    embedder.attach(ledger)
    pool = MixedPool(POOL, ledger=ledger, rng=generator("policy_learning", "pool", seed), ngrams=frozenset())
    seeds = pool.seeds()
    train, held_out = seeds[::2], seeds[1::2]
    responder = Responder(student, pool, ledger, train, config=RESPONDER)
    config = EnvironmentConfig(lineages=LINEAGES, horizon=HORIZON)

    def world(starts: list[Any]) -> Environment:
        executor = RuleExecutor([seed.instruction for seed in train])
        return Environment(starts, OPERATIONS, executor, embedder, responder, pool.contaminated, config)

    def play(environment: Environment, policy: Any, purpose: str, rounds: int) -> Evolution:
        rng = generator("policy_learning", purpose, seed)
        return evolve(environment, policy, ledger, max_flops=np.inf, attempt_flops=0.0, rng=rng, max_updates=rounds)

    environment = world(train)
    policy = make(
        policy_name, state_size=environment.state_size, actions=environment.actions, rng=generator("policy_learning", "policy", seed)
    )
    if updates:
        play(environment, policy, "train", updates)
    curve = {name: [point.value for point in ledger.curves if point.curve == name] for name in ("reward", "operation entropy")}
    shares = {name: [point.value for point in ledger.curves if point.curve == f"share of {name}"][-5:] for name in environment.actions}
    played = play(world(held_out), Frozen(policy), "held out", episodes)
    return {
        "policy": policy_name,
        "seed": seed,
        "updates": updates,
        "training_curve": curve,
        "last_shares": {name: float(np.mean(values)) for name, values in shares.items() if values},
        "held_out": _summary(played.entries, episodes),
        "train_steps": updates * LINEAGES * HORIZON,
        "held_out_steps": episodes * LINEAGES * HORIZON,
        "flops": ledger.spent(),
        "wall_s": time.monotonic() - started,
    }


def _summary(entries: list[Entry], episodes: int) -> dict[str, float]:
    steps = episodes * LINEAGES * HORIZON
    valid = [entry for entry in entries if entry.reward.validity]
    answered = [entry for entry in entries if entry.pass_rate is not None]
    return {
        "reward": sum(entry.reward.total for entry in entries) / steps,
        "validity": len(valid) / max(len(entries), 1),
        "novelty": float(np.mean([entry.reward.novelty for entry in valid])) if valid else 0.0,
        "learnability": float(np.mean([entry.reward.learnability for entry in answered])) if answered else 0.0,
        "pass_rate": float(np.mean([entry.pass_rate for entry in answered])) if answered else 0.0,
        "kept": sum(entry.kept for entry in entries) / steps,
        "stops": 1 - len(entries) / steps,
    }


def work(jobs: list[tuple[str, int]], out: Path, updates: int, episodes: int) -> None:
    """Does jobs one after another; finished ones are skipped."""
    import torch

    torch.set_num_threads(1)
    student, embedder = Student.load("smollm2-135m-instruct", adaptation=None, seed=0), Embedder.load()
    for policy, seed in jobs:
        path = out / f"{policy.replace(':', '-').replace(',', '+')}-{seed}.json"
        if not path.exists():
            record = one(policy, seed, updates=updates if policy in LEARNING else 0, episodes=episodes, student=student, embedder=embedder)
            temporary = path.with_suffix(".partial")
            temporary.write_text(json.dumps(record) + "\n")
            temporary.replace(path)
            print(f"{policy} seed {seed}: held-out reward {record['held_out']['reward']:.3f}, {record['wall_s']:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--policies", nargs="+", default=["random", *LEARNING])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = [(policy, seed) for seed in range(options.seeds) for policy in options.policies]
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=work, args=(jobs[index :: options.workers], options.out, options.updates, options.episodes), daemon=True)
        for index in range(options.workers)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a worker failed; what it finished is kept")


if __name__ == "__main__":
    main()
