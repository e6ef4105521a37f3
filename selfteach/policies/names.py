"""Policies by the names that studies give them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.errors import SpecError
from selfteach.policies.bandit import ThompsonBandit
from selfteach.policies.constant import FixedPolicy, SchedulePolicy
from selfteach.policy import LearnedPolicy, Policy, RandomPolicy, improve_by_ppo
from selfteach.trpo import improve_by_trpo

LEARNING = {"ppo": improve_by_ppo, "trpo": improve_by_trpo}
IDLE = "stop"
"""The action that carries out no operation (selfteach.environment.STOP)."""


def check_policy_name(name: str, actions: Sequence[str], *, others: Sequence[str] = ()) -> str:
    """Returns `name` if `make` can build it: "ppo", "trpo", "random", "bandit", "fixed:<operation>" or "schedule:<operation>,...".

    Args:
        actions: of the environment, "stop" included where it has it.
        others: names that the caller builds itself.
    Raises:
        SpecError: the name or one of its operations is unknown, or it would never carry out an operation.
    """
    kind, colon, listed = name.partition(":")
    if not colon:
        plain = (*LEARNING, "random", "bandit", *others)
        if name in plain:
            return name
        if name in ("fixed", "schedule"):
            raise SpecError(f"expected operations after the name, as in {_example(name, actions)!r}", key="policy", value=name)
        forms = (_example("fixed", actions), _example("schedule", actions))
        raise SpecError("expected the name of a policy", key="policy", value=name, valid=(*plain, *forms))
    if kind not in ("fixed", "schedule"):
        raise SpecError(
            "only fixed and schedule take operations", key="policy", value=name, valid=(f"fixed:{listed}", f"schedule:{listed}")
        )
    operations = _operations(listed)
    for operation in operations:
        if operation not in actions:
            raise SpecError(f"expected an operation in {name!r}", key="policy", value=operation, valid=actions)
    if kind == "fixed" and len(operations) > 1:
        raise SpecError(f"expected one operation; several in turn are 'schedule:{listed}'", key="policy", value=name)
    if set(operations) == {IDLE}:
        raise SpecError(f"expected an operation beside {IDLE!r}, which evolves nothing", key="policy", value=name)
    return name


def make(name: str, *, state_size: int, actions: Sequence[str], rng: np.random.Generator) -> Policy:
    """A fresh policy by name.

    Args:
        rng: of the initial weights; later draws come from the generators passed to `act` and `update`.
    Raises:
        SpecError: as `check_policy_name`.
    """
    kind, _, listed = check_policy_name(name, actions).partition(":")
    if kind in LEARNING:
        return LearnedPolicy(state_size, len(actions), improve=LEARNING[kind], rng=rng)
    if kind == "random":
        return RandomPolicy(len(actions))
    if kind == "bandit":
        return ThompsonBandit(len(actions))
    indices = [list(actions).index(operation) for operation in _operations(listed)]
    return FixedPolicy(len(actions), indices[0]) if kind == "fixed" else SchedulePolicy(len(actions), indices)


def _operations(listed: str) -> list[str]:
    return [operation.strip() for operation in listed.split(",")]


def _example(kind: str, actions: Sequence[str]) -> str:
    shown = [action for action in actions if action != IDLE]
    return f"{kind}:{','.join(shown[: 1 if kind == 'fixed' else 2])}"
