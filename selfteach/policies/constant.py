"""Policies that know beforehand what they will do: always one operation, or a list of them in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness.core.budget import Ledger
from selfteach.policy import Floats, Integers, Rollout


class SchedulePolicy:
    """The operations of a list, one a step of the episode for every lineage alike, from the start again when it ends.

    An episode begins after an update: whoever plays episodes without learning from them plays on through the list.

    Args:
        actions: indices below `n_actions`.
    """

    def __init__(self, n_actions: int, actions: Sequence[int]) -> None:
        assert actions, "an empty schedule"
        assert all(0 <= action < n_actions for action in actions), (n_actions, actions)
        self.n_actions, self.actions = n_actions, tuple(actions)
        self._step = 0

    def act(self, states_B_D: Floats, *, rng: np.random.Generator) -> tuple[Integers, Floats]:
        action = self.actions[self._step % len(self.actions)]
        self._step += 1
        return np.full(len(states_B_D), action, dtype=np.int64), np.zeros(len(states_B_D), dtype=np.float32)

    def update(self, rollout: Rollout, *, rng: np.random.Generator) -> dict[str, float]:
        self._step = 0
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        return {"n_actions": torch.tensor(self.n_actions), "actions": torch.tensor(self.actions), "step": torch.tensor(self._step)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.n_actions, self.actions, self._step = int(state["n_actions"]), tuple(state["actions"].tolist()), int(state["step"])

    def attach(self, ledger: Ledger) -> None:
        """Spends nothing, so charges nothing."""


class FixedPolicy(SchedulePolicy):
    """One operation, always: a schedule of length one."""

    def __init__(self, n_actions: int, action: int) -> None:
        super().__init__(n_actions, (action,))
