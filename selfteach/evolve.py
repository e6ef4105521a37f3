"""The evolve loop: episodes of the environment, answers, policy updates, until the share of the budget meant for it is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.core.budget import Ledger
from harness.errors import BudgetExceeded
from selfteach.corpus import Entry
from selfteach.environment import Environment, Episode
from selfteach.policy import Policy, Rollout

BARREN_EPISODES = 5
"""Episodes in a row from which nothing survived, after which evolving ends: such episodes cost next to nothing and would never end."""


@dataclass
class Evolution:
    """All entries made, kept or not, policy updates done, and why it ended."""

    entries: list[Entry] = field(default_factory=list)
    updates: int = 0
    ended: str = ""


def evolve(
    environment: Environment, policy: Policy, ledger: Ledger, *, max_flops: float, attempt_flops: float, rng: np.random.Generator
) -> Evolution:
    """Evolves until the next episode might cost more than is left of `max_flops`; the last episodes shrink to fit.

    Args:
        attempt_flops: an upper guess of what one applied operation costs, until an episode has shown it.
    Never raises BudgetExceeded: what was made until then is returned.
    """
    assert np.isfinite(max_flops), "evolving needs a budget"
    started_at, config = ledger.spent(ledger.account), environment.config
    evolution, barren = Evolution(), 0
    while not evolution.ended:
        before = ledger.spent(ledger.account)
        left = max_flops - (before - started_at)
        lineages = config.lineages
        if attempt_flops > 0:
            lineages = min(lineages, int(left / (attempt_flops * config.horizon)))
        if left <= 0 or lineages < 1:
            evolution.ended = "share of the budget spent"
            break
        try:
            states, actions, logprobs = _act_out(environment, policy, ledger, lineages, rng)
            left = max_flops - (ledger.spent(ledger.account) - started_at)
            episode = environment.finish(step=evolution.updates + 1, max_flops=left, rng=rng)
            evolution.entries += episode.entries
            if episode.complete:
                rollout = Rollout(np.stack(states), np.stack(actions), np.stack(logprobs), episode.rewards_T_B)
                with ledger.use_phase("policy"):
                    statistics = policy.update(rollout, rng=rng)
                evolution.updates += 1
                _observe(ledger, evolution.entries, episode, rollout, environment.actions, statistics)
        except BudgetExceeded as refusal:
            evolution.entries += environment.finish(step=evolution.updates + 1, max_flops=0, rng=rng).entries
            evolution.ended = f"budget refused: {refusal}"
            break
        if not episode.complete:
            evolution.ended = "share of the budget spent, last episode partly answered"
        survived = any(entry.reward.validity for entry in episode.entries)
        barren = 0 if survived else barren + 1
        if barren == BARREN_EPISODES:
            evolution.ended = f"no instruction survived {barren} episodes in a row"
        attempt_flops = (ledger.spent(ledger.account) - before) / (lineages * config.horizon) or attempt_flops
    return evolution


def _act_out(
    environment: Environment, policy: Policy, ledger: Ledger, lineages: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    states, actions, logprobs = [environment.reset(lineages, rng=rng)], [], []
    for _ in range(environment.config.horizon):
        with ledger.use_phase("policy"):
            actions_B, logprobs_B = policy.act(states[-1], rng=rng)
        actions.append(actions_B)
        logprobs.append(logprobs_B)
        with ledger.use_phase("execute"):
            states.append(environment.step(actions_B, rng=rng))
    return states[:-1], actions, logprobs


def _observe(
    ledger: Ledger,
    entries: Sequence[Entry],
    episode: Episode,
    rollout: Rollout,
    names: Sequence[str],
    statistics: dict[str, float],
) -> None:
    """Adds a point to every curve of the method. Components are averaged over what they are defined for: novelty over the valid,
    learnability and pass rate over the answered; the reward over all steps, stops included."""
    valid = [entry for entry in episode.entries if entry.reward.validity]
    answered = [entry for entry in episode.entries if entry.pass_rate is not None]
    ledger.observe("reward", float(episode.rewards_T_B.mean()))
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
    ledger.observe("corpus size", sum(entry.kept for entry in entries))
    for name, value in statistics.items():
        ledger.observe(f"policy {name}", value)
