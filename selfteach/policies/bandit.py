"""Thompson sampling: what can be learnt without looking at the instruction.

The control for policies that read a state. On stub reviewers it finds the best operation (1.00 of the last steps) where TeaMs-RL's
published update does not (.45 at best, docs/method-card.md), because it wastes no sample on what depends on the state.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.core.budget import Ledger
from selfteach.policy import Floats, Integers, Rollout

QUANTILES = 256
"""Midpoints of the integral that gives an operation's probability."""
SMALLEST_PROBABILITY = 1e-12


class ThompsonBandit:
    """Beta posteriors over the mean reward of each operation; every lineage draws from them and takes the operation that drew most.

    Agrawal & Goyal 2012, algorithm 2, for rewards in [0, 1] from a uniform prior; its coin with probability r of a success is replaced by
    what it comes to on average (r of a success, 1−r of a failure), so that an update is a function of the rollout alone.
    """

    def __init__(self, n_actions: int) -> None:
        assert n_actions > 0, n_actions
        self._set(np.ones(n_actions), np.ones(n_actions))

    def act(self, states_B_D: Floats, *, rng: np.random.Generator) -> tuple[Integers, Floats]:
        draws_B_A = rng.beta(self.successes_A, self.failures_A, size=(len(states_B_D), len(self.successes_A)))
        actions_B = draws_B_A.argmax(1)
        return actions_B, np.log(self.probabilities_A[actions_B]).astype(np.float32)

    def update(self, rollout: Rollout, *, rng: np.random.Generator) -> dict[str, float]:
        actions_N, rewards_N = rollout.actions_T_B.reshape(-1), rollout.rewards_T_B.reshape(-1).astype(np.float64)
        assert rewards_N.min() >= 0, rewards_N
        assert rewards_N.max() <= 1, rewards_N
        n_actions = len(self.successes_A)
        successes_A = self.successes_A + np.bincount(actions_N, rewards_N, minlength=n_actions)
        self._set(successes_A, self.failures_A + np.bincount(actions_N, 1 - rewards_N, minlength=n_actions))
        return {"entropy": float(-(self.probabilities_A * np.log(self.probabilities_A)).sum())}

    def state_dict(self) -> dict[str, Tensor]:
        return {"successes": torch.from_numpy(self.successes_A.copy()), "failures": torch.from_numpy(self.failures_A.copy())}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._set(state["successes"].numpy().copy(), state["failures"].numpy().copy())

    def attach(self, ledger: Ledger) -> None:
        """Spends no FLOPs of a model, so charges nothing."""

    def _set(self, successes_A: npt.NDArray[np.float64], failures_A: npt.NDArray[np.float64]) -> None:
        self.successes_A, self.failures_A = successes_A, failures_A
        self.probabilities_A = best_probabilities(successes_A, failures_A)


def best_probabilities(successes_A: npt.NDArray[np.float64], failures_A: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probability (A,) that each of independent Beta variables is the largest: the mean, over its quantiles, of all others lying below."""
    from scipy.special import betainc, betaincinv

    quantiles_Q = (np.arange(QUANTILES) + 0.5) / QUANTILES
    values_A_Q = betaincinv(successes_A[:, None], failures_A[:, None], quantiles_Q)
    below_A_A_Q = betainc(successes_A[None, :, None], failures_A[None, :, None], values_A_Q[:, None, :])
    own = np.arange(len(successes_A))
    below_A_A_Q[own, own] = 1
    wins_A = below_A_A_Q.prod(1).mean(1).clip(SMALLEST_PROBABILITY)
    return np.asarray(wins_A / wins_A.sum())
