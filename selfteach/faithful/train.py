"""Training of the published policy: `train_faithful`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.core.budget import Ledger
from harness.core.records import Demonstration
from harness.errors import BudgetExceeded
from selfteach.faithful.mdp import FaithfulEnvironment
from selfteach.faithful.policy import FaithfulPolicy
from selfteach.faithful.quirks import FaithfulConfig
from selfteach.operations import OPERATIONS
from selfteach.policy import Floats, Integers, Rollout
from selfteach.roles import Executor, Reviewer, TextEncoder

FINISHED = "all environment steps taken"
SPENT = "share of the budget spent"


@dataclass
class FaithfulRun:
    """The trained policy, and what every update learnt from: axes T (steps of an episode), B (lineages); and why training ended."""

    policy: FaithfulPolicy
    actions_T_B: list[Integers] = field(default_factory=list)
    rewards_T_B: list[Floats] = field(default_factory=list)
    ended: str = ""


def train_faithful(
    seeds: Sequence[Demonstration],
    executor: Executor,
    reviewer: Reviewer,
    ledger: Ledger,
    config: FaithfulConfig,
    *,
    encoder: TextEncoder | None = None,
    max_flops: float = float("inf"),
    rng: np.random.Generator,
) -> FaithfulRun:
    """Trains the policy for `config.environment_steps`, or until another update might cost more than is left of `max_flops`.

    Never raises BudgetExceeded: what was learnt until then is returned.

    Args:
        encoder: embeds instructions; only where `quirks.blind_state` is off.
    """
    environment = FaithfulEnvironment(seeds, OPERATIONS, executor, reviewer, ledger, config, encoder=encoder)
    policy = FaithfulPolicy(environment.states.size, len(OPERATIONS), quirks=config.quirks, rng=rng)
    policy.attach(ledger)
    run = FaithfulRun(policy)
    per_update = config.horizon * config.episodes_per_update
    stop_at, dearest = ledger.spent(ledger.account) + max_flops, 0.0
    for _ in range(max(1, config.environment_steps // per_update)):
        before = ledger.spent(ledger.account)
        if before + dearest > stop_at:
            run.ended = SPENT
            return run
        try:
            _update(run, environment, ledger, config.horizon, rng)
        except BudgetExceeded as refusal:
            run.ended = f"budget refused: {refusal}"
            return run
        dearest = max(dearest, ledger.spent(ledger.account) - before)
    run.ended = FINISHED
    return run


def _update(run: FaithfulRun, environment: FaithfulEnvironment, ledger: Ledger, horizon: int, rng: np.random.Generator) -> None:
    """Plays the episodes of one update and learns from them."""
    policy = run.policy
    states, actions, logprobs, rewards = [environment.reset(rng=rng)], [], [], []
    for _ in range(horizon):
        with ledger.use_phase("policy"):
            actions_B, logprobs_B = policy.act(states[-1], rng=rng)
        states_B_D, rewards_B = environment.step(actions_B.tolist(), rng=rng)
        states.append(states_B_D)
        actions.append(actions_B)
        logprobs.append(logprobs_B)
        rewards.append(rewards_B)
    # Nobody acts on the last state, but the published normaliser sees it.
    policy.observe(states[-1])
    rollout = Rollout(np.stack(states[:-1]), np.stack(actions), np.stack(logprobs), np.stack(rewards))
    with ledger.use_phase("policy"):
        statistics = policy.update(rollout, rng=rng)
    run.actions_T_B.append(rollout.actions_T_B)
    run.rewards_T_B.append(rollout.rewards_T_B)
    ledger.observe("reward", float(rollout.rewards_T_B.mean()))
    for index, name in enumerate(environment.operations):
        ledger.observe(f"share of {name}", float((rollout.actions_T_B == index).mean()))
    for name, value in statistics.items():
        ledger.observe(f"policy {name}", value)
