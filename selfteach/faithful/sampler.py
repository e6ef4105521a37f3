"""Generation as published: six chained operations on every seed, picked by the trained policy and then overruled.

Each operation's result is an instruction of the corpus; nobody has answered it yet. No reviewer is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.core.budget import Ledger
from harness.core.records import Demonstration, Instruction
from harness.errors import BudgetExceeded
from selfteach.corpus import Entry, LineageStep, Reward
from selfteach.elimination import Candidate, Context, eliminate
from selfteach.faithful.mdp import StateEncoder
from selfteach.faithful.policy import BREADTH, FaithfulPolicy, RunningNormaliser
from selfteach.faithful.quirks import FaithfulConfig
from selfteach.faithful.train import FINISHED, SPENT
from selfteach.operations import OPERATIONS
from selfteach.policy import Integers
from selfteach.roles import Executor, Outcome, TextEncoder

ADD_CONSTRAINT, CONSTRAINT_BONUS = 1, 0.7
FORCED_STEPS = (1, 4)
"""Steps of an episode, from 0, that are breadth whatever the policy says."""


@dataclass
class Generated:
    """Entries in the order of seeds and steps, the instructions of those kept by entry id, and why generation ended."""

    entries: list[Entry] = field(default_factory=list)
    instructions: dict[str, Instruction] = field(default_factory=dict)
    ended: str = ""


@dataclass(frozen=True)
class Eliminator:
    """The elimination rules, for generation with `quirks.no_elimination` off: the seeds must be among what `context` has kept."""

    encoder: TextEncoder
    context: Context


@dataclass
class _Lineage:
    seed_id: str
    current: Instruction
    steps: list[LineageStep]
    last_action: int | None = None


def generate_faithful(
    policy: FaithfulPolicy,
    seeds: Sequence[Demonstration],
    executor: Executor,
    ledger: Ledger,
    config: FaithfulConfig,
    *,
    encoder: TextEncoder | None = None,
    eliminator: Eliminator | None = None,
    max_flops: float = float("inf"),
    attempt_flops: float = 0.0,
    rng: np.random.Generator,
) -> Generated:
    """Evolves every seed in six chained steps, or as many seeds as `max_flops` reach.

    Never raises BudgetExceeded: what was made until then is returned. The policy is left as it was.

    Args:
        encoder: embeds instructions; only where `quirks.blind_state` is off.
        eliminator: only where `quirks.no_elimination` is off.
        attempt_flops: an upper guess of what one applied operation costs, until a batch has shown it.
    """
    assert config.quirks.no_elimination or eliminator is not None, "elimination needs rules"
    states = StateEncoder(len(OPERATIONS), config, encoder)
    normaliser, policy.normaliser = policy.normaliser, _normaliser(policy, states, config)
    generated, todo = Generated(), list(seeds)
    stop_at = ledger.spent(ledger.account) + max_flops
    try:
        while todo:
            before = ledger.spent(ledger.account)
            affordable = (stop_at - before) / (attempt_flops * config.horizon) if attempt_flops > 0 else np.inf
            size = int(min(config.generation_lineages, len(todo), affordable))
            if size < 1 or before >= stop_at:
                generated.ended = SPENT
                return generated
            batch, todo = todo[:size], todo[size:]
            _evolve_batch(
                generated, batch, policy, states, executor, ledger, config, None if config.quirks.no_elimination else eliminator, rng
            )
            attempt_flops = max(attempt_flops, (ledger.spent(ledger.account) - before) / (size * config.horizon))
        generated.ended = FINISHED
    except BudgetExceeded as refusal:
        generated.ended = f"budget refused: {refusal}"
    finally:
        policy.normaliser = normaliser
    return generated


def overrule(actions_B: Integers, time: int, config: FaithfulConfig) -> Integers:
    """What is done instead of what the policy chose at step `time` (from 0): breadth at the forced steps and only there."""
    if config.quirks.forced_breadth and time in FORCED_STEPS:
        return np.full_like(actions_B, BREADTH)
    if config.quirks.breadth_replaced:
        return np.where(actions_B == BREADTH, ADD_CONSTRAINT, actions_B)
    return actions_B


def _normaliser(policy: FaithfulPolicy, states: StateEncoder, config: FaithfulConfig) -> RunningNormaliser:
    fresh = RunningNormaliser(states.size)
    if not config.quirks.normaliser_lost:
        fresh.load_state_dict(policy.normaliser.state_dict())
    return fresh


def _evolve_batch(
    generated: Generated,
    seeds: Sequence[Demonstration],
    policy: FaithfulPolicy,
    states: StateEncoder,
    executor: Executor,
    ledger: Ledger,
    config: FaithfulConfig,
    eliminator: Eliminator | None,
    rng: np.random.Generator,
) -> None:
    """One episode of every seed in `seeds`; what was made before a refused charge is kept."""
    lineages = [_Lineage(seed.instruction.id, seed.instruction, [LineageStep("seed", seed.instruction.text)]) for seed in seeds]
    bonus = CONSTRAINT_BONUS if config.quirks.constraint_bonus else 0.0
    made: list[list[Entry]] = [[] for _ in seeds]
    try:
        for time in range(config.horizon):
            states_B_D = states([lineage.last_action for lineage in lineages], [lineage.current for lineage in lineages], time)
            with ledger.use_phase("policy"):
                chosen_B, _ = policy.choose(policy.observe(states_B_D), favoured=ADD_CONSTRAINT, bonus=bonus, rng=rng)
            actions = overrule(chosen_B, time, config).tolist()
            with ledger.use_phase("execute"):
                parents = [lineage.current for lineage in lineages]
                outcomes = executor.apply_batch(parents, [OPERATIONS[action] for action in actions], rng=rng)
            for index, (lineage, action, outcome) in enumerate(zip(lineages, actions, outcomes, strict=True)):
                name = f"{lineage.seed_id}/{time}"
                made[index].append(_advance(lineage, name, action, outcome, generated, eliminator, policy.updates))
        # As in training: the state that nobody acts on.
        policy.observe(states([lineage.last_action for lineage in lineages], [lineage.current for lineage in lineages], config.horizon))
    finally:
        generated.entries += [entry for entries in made for entry in entries]


def _advance(
    lineage: _Lineage, name: str, action: int, outcome: Outcome, generated: Generated, eliminator: Eliminator | None, updates: int
) -> Entry:
    """Moves a lineage on to what an operation made of it, unless that is nothing or eliminated; returns the entry."""
    operation, parent = OPERATIONS[action], lineage.current
    lineage.last_action = action
    child, reason, path = outcome.instruction, None, tuple(lineage.steps)
    if child is None:
        reason = f"executor: {outcome.reason or 'no result'}"
    else:
        child = replace(child, id=name, seed_id=lineage.seed_id, parent_id=parent.id, operation=operation, step=len(lineage.steps))
        path = (*path, LineageStep(operation, child.text))
        if eliminator is not None:
            reason = _eliminated(child, parent, outcome, path, eliminator)
        if reason is None:
            lineage.current, lineage.steps = child, list(path)
            generated.instructions[name] = child
    shown = child or parent
    return Entry(
        id=name,
        seed_id=lineage.seed_id,
        parent_id=parent.id,
        lineage=path,
        operation=operation,
        family=shown.family,
        instruction=child.text if child else "",
        constraints=child.constraints if child else (),
        response=None,
        verified=None,
        verified_by=None,
        kept=reason is None,
        reject_reason=reason,
        reward=Reward(validity=float(reason is None)),
        samples=0,
        pass_rate=None,
        step=updates,
    )


def _eliminated(
    child: Instruction, parent: Instruction, outcome: Outcome, path: tuple[LineageStep, ...], eliminator: Eliminator
) -> str | None:
    embedding = eliminator.encoder.encode([child.text])[0]
    ancestors = tuple(step.text for step in path[:-1])
    reason = eliminate(Candidate(child, parent, embedding, reply=outcome.reply or child.text, ancestors=ancestors), eliminator.context)
    if reason is None:
        eliminator.context.kept.add(child.text, embedding)
    return reason
