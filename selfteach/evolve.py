"""The evolve loop: episodes of the environment, answers, policy updates, until the share of the budget meant for it is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.core.budget import Ledger
from harness.errors import BudgetExceeded
from selfteach.corpus import Entry
from selfteach.environment import Environment
from selfteach.policy import Floats, Integers, Policy, Rollout

SPENT = "share of the budget spent"
DONE = "all updates done"
BARREN_EPISODES = 5
"""Episodes in a row from which nothing survived, after which evolving ends: such episodes cost next to nothing and would never end."""


@dataclass
class Evolution:
    """All entries made, kept or not, policy updates done, and why it ended."""

    entries: list[Entry] = field(default_factory=list)
    updates: int = 0
    ended: str = ""


@dataclass
class Episode:
    """What one episode has come to so far, a list element per step."""

    states: list[Floats] = field(default_factory=list)
    actions: list[Integers] = field(default_factory=list)
    logprobs: list[Floats] = field(default_factory=list)
    rewards: list[Floats] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    complete: bool = True

    def rollout(self) -> Rollout:
        """The episode as the policy learns from it."""
        return Rollout(np.stack(self.states), np.stack(self.actions), np.stack(self.logprobs), np.stack(self.rewards))


def evolve(
    environment: Environment,
    policy: Policy,
    ledger: Ledger,
    *,
    max_flops: float,
    attempt_flops: float,
    rng: np.random.Generator,
    max_updates: int | None = None,
) -> Evolution:
    """Evolves until the next episode might cost more than is left of `max_flops`; the last episodes shrink to fit.

    Args:
        attempt_flops: an upper guess of what one applied operation costs, until an episode has shown it.
        max_updates: ends earlier, after as many policy updates.
    Never raises BudgetExceeded: what was made until then is returned.
    """
    assert np.isfinite(max_flops) or max_updates is not None, "evolving needs a budget"
    stop_at = ledger.spent(ledger.account) + max_flops
    horizon = environment.config.horizon
    evolution, barren = Evolution(), 0
    while not evolution.ended:
        before = ledger.spent(ledger.account)
        affordable = (stop_at - before) / (attempt_flops * horizon) if attempt_flops > 0 else np.inf
        lineages = int(min(environment.config.lineages, affordable))
        if max_updates is not None and evolution.updates >= max_updates:
            evolution.ended = DONE
            break
        if before >= stop_at or lineages < 1:
            evolution.ended = SPENT
            break
        episode = Episode()
        try:
            _play(episode, environment, policy, ledger, lineages, update=evolution.updates + 1, stop_at=stop_at, rng=rng)
            if episode.complete:
                rollout = episode.rollout()
                with ledger.use_phase("policy"):
                    statistics = policy.update(rollout, rng=rng)
                evolution.updates += 1
                _observe(ledger, evolution, episode, rollout, environment.actions, statistics)
            else:
                evolution.ended = SPENT
        except BudgetExceeded as refusal:
            evolution.ended = f"budget refused: {refusal}"
        evolution.entries += episode.entries
        barren = 0 if any(entry.reward.validity for entry in episode.entries) else barren + 1
        if barren == BARREN_EPISODES and not evolution.ended:
            evolution.ended = f"no instruction survived {barren} episodes in a row"
        attempt_flops = (ledger.spent(ledger.account) - before) / (lineages * horizon) or attempt_flops
    return evolution


def _play(
    episode: Episode,
    environment: Environment,
    policy: Policy,
    ledger: Ledger,
    lineages: int,
    *,
    update: int,
    stop_at: float,
    rng: np.random.Generator,
) -> None:
    """Plays an episode into `episode`, so that what was made before a refused charge is not lost."""
    states_B_D = environment.reset(lineages, rng=rng)
    for _ in range(environment.config.horizon):
        with ledger.use_phase("policy"):
            actions_B, logprobs_B = policy.act(states_B_D, rng=rng)
        with ledger.use_phase("execute"):
            left = stop_at - ledger.spent(ledger.account)
            step = environment.step(actions_B, update=update, max_flops=left, rng=rng)
        episode.states.append(states_B_D)
        episode.actions.append(actions_B)
        episode.logprobs.append(logprobs_B)
        episode.rewards.append(step.rewards_B)
        episode.entries += step.entries
        states_B_D = step.states_B_D
        if not step.complete:
            episode.complete = False
            break


def _observe(
    ledger: Ledger,
    evolution: Evolution,
    episode: Episode,
    rollout: Rollout,
    names: Sequence[str],
    statistics: dict[str, float],
) -> None:
    """Adds a point to every curve of the method.

    Components are averaged over what they are defined for: novelty over the valid, learnability and pass rate over the answered; the reward
    over all steps, stops included.
    """
    valid = [entry for entry in episode.entries if entry.reward.validity]
    answered = [entry for entry in episode.entries if entry.pass_rate is not None]
    ledger.observe("reward", float(rollout.rewards_T_B.mean()))
    if episode.entries:
        ledger.observe("validity", len(valid) / len(episode.entries))
    if valid:
        ledger.observe("novelty", float(np.mean([entry.reward.novelty for entry in valid])))
    if answered:
        ledger.observe("learnability", float(np.mean([entry.reward.learnability for entry in answered])))
        ledger.observe("pass_rate", float(np.mean([entry.pass_rate for entry in answered])))
    share_A = np.bincount(rollout.actions_T_B.reshape(-1), minlength=len(names)) / rollout.actions_T_B.size
    for name, share in zip(names, share_A, strict=True):
        ledger.observe(f"share of {name}", float(share))
    present = share_A[share_A > 0]
    ledger.observe("operation entropy", float(-(present * np.log(present)).sum()))
    ledger.observe("corpus size", sum(entry.kept for entry in [*evolution.entries, *episode.entries]))
    for name, value in statistics.items():
        ledger.observe(f"policy {name}", value)
