"""Policies by the names that studies give them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selfteach.policies.bandit import ThompsonBandit
from selfteach.policies.constant import FixedPolicy, SchedulePolicy
from selfteach.policies.names import check_policy_name, operations_in
from selfteach.policy import LearnedPolicy, Policy, RandomPolicy, improve_by_ppo
from selfteach.trpo import improve_by_trpo

_IMPROVE = {"ppo": improve_by_ppo, "trpo": improve_by_trpo}


def make(name: str, *, state_size: int, actions: Sequence[str], rng: np.random.Generator) -> Policy:
    """A fresh policy by name.

    Args:
        rng: of the initial weights; later draws come from the generators passed to `act` and `update`.
    Raises:
        SpecError: as `check_policy_name`.
    """
    kind, _, listed = check_policy_name(name, actions).partition(":")
    if kind in _IMPROVE:
        return LearnedPolicy(state_size, len(actions), improve=_IMPROVE[kind], rng=rng)
    if kind == "random":
        return RandomPolicy(len(actions))
    if kind == "bandit":
        return ThompsonBandit(len(actions))
    indices = [list(actions).index(operation) for operation in operations_in(listed)]
    return FixedPolicy(len(actions), indices[0]) if kind == "fixed" else SchedulePolicy(len(actions), indices)
