"""The published policy: a Gaussian over six coordinates whose argmax is the operation, moved by TRPO, with a value net fitted by L-BFGS.

6→64→64→6 ReLU and six state-independent log standard deviations: 5,004 parameters, in double precision, as in the published code, whose
surrogate, KL, initialisation and order of things are kept: values before their net is fitted, returns not bootstrapped, advantages always
standardised, no look at the KL in the line search. Behind the interface of selfteach.policy.Policy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from harness.core.budget import Ledger
from harness.core.flops import linear_flops
from harness.models.meter import meter
from selfteach.faithful.quirks import Quirks
from selfteach.policy import Floats, Integers, Rollout, advantages
from selfteach.trpo import MAX_KL, fisher_flops, trust_region_step

Doubles = npt.NDArray[np.float64]

DISCOUNT, TRACE = 0.995, 0.97
PUBLISHED_MAX_KL = 0.01
BREADTH, BREADTH_BONUS = 0, 0.3
HIDDEN = 64
CLIP = 5.0
VALUE_ITERATIONS, VALUE_L2 = 25, 1e-3


class RunningNormaliser:
    """Running z-score, clipped to ±5; every row moves the statistics, one after another (Welford 1962)."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean_D = np.zeros(size)
        self.squares_D = np.zeros(size)

    def observe(self, states_B_D: Floats) -> Doubles:
        """Takes rows in, then z-scores them; a coordinate that never varied is 0."""
        for row_D in states_B_D.astype(np.float64):
            self.count += 1
            shift_D = row_D - self.mean_D
            self.mean_D = self.mean_D + shift_D / self.count
            self.squares_D = self.squares_D + shift_D * (row_D - self.mean_D)
        # Of a single row the published class calls the squared mean its variance.
        variance_D = self.squares_D / (self.count - 1) if self.count > 1 else self.mean_D**2
        z_B_D: Doubles = np.clip((states_B_D - self.mean_D) / (np.sqrt(variance_D) + 1e-8), -CLIP, CLIP)
        return z_B_D

    def state_dict(self) -> dict[str, Tensor]:
        """Count, mean and sum of squared deviations."""
        return {
            "count": torch.tensor(self.count),
            "mean": torch.from_numpy(self.mean_D.copy()),
            "squares": torch.from_numpy(self.squares_D.copy()),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` returned."""
        self.count = int(state["count"])
        self.mean_D, self.squares_D = state["mean"].numpy().copy(), state["squares"].numpy().copy()


class GaussianActor(nn.Module):
    """Means (N, A) from an MLP, log standard deviations (A,) of their own."""

    def __init__(self, state_size: int, n_actions: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.mean = _mlp(state_size, n_actions, generator)
        self.log_std = nn.Parameter(torch.zeros(n_actions, dtype=torch.float64))


@dataclass(frozen=True)
class Decision:
    """What one act stored for the update: normalised states (B, D), and Gaussian samples (B, A) or one-hots."""

    states_B_D: Doubles
    stored_B_A: Doubles


class FaithfulPolicy:
    """The published policy and its update, with quirks.

    Decisions are remembered between `act` and `update`, because what is stored is neither the state seen nor, always, the action taken.
    """

    def __init__(self, state_size: int, n_actions: int, *, quirks: Quirks, rng: np.random.Generator) -> None:
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        self.quirks = quirks
        self.actor = GaussianActor(state_size, n_actions, generator=generator)
        self.critic = _mlp(state_size, 1, generator)
        self.normaliser = RunningNormaliser(state_size)
        self.updates = 0
        self._ledger: Ledger | None = None
        self._decisions: list[Decision] = []

    def attach(self, ledger: Ledger) -> None:
        """Meters both nets; Fisher-vector products are charged by the update."""
        self._ledger = ledger
        meter(self.actor.mean, "policy", ledger)
        meter(self.critic, "policy-value", ledger)

    def observe(self, states_B_D: Floats) -> Doubles:
        """Normalises states and lets them move the statistics."""
        return self.normaliser.observe(states_B_D) if self.quirks.running_normaliser else states_B_D.astype(np.float64)

    def act(self, states_B_D: Floats, *, rng: np.random.Generator) -> tuple[Integers, Floats]:
        """Samples an operation per state; returns actions (B,) and the log-probabilities (B,) that the update will believe in."""
        normalised_B_D = self.observe(states_B_D)
        bonus = BREADTH_BONUS if self.quirks.breadth_bonus else 0.0
        actions_B, sample_B_A = self.choose(normalised_B_D, favoured=BREADTH, bonus=bonus, rng=rng)
        one_hot = self.quirks.one_hot_as_sample or not self.quirks.gaussian_argmax
        stored_B_A = np.eye(sample_B_A.shape[1])[actions_B] if one_hot else sample_B_A
        self._decisions.append(Decision(normalised_B_D, stored_B_A))
        with torch.no_grad():
            logprob_B = self._logprob(torch.from_numpy(normalised_B_D), torch.from_numpy(stored_B_A))
        return actions_B, logprob_B.numpy().astype(np.float32)

    @torch.no_grad()
    def choose(self, normalised_B_D: Doubles, *, favoured: int, bonus: float, rng: np.random.Generator) -> tuple[Integers, Doubles]:
        """Actions (B,), and the samples (B, A) before `bonus` was added to coordinate `favoured`."""
        mean_B_A = self.actor.mean(torch.from_numpy(normalised_B_D)).numpy()
        if self.quirks.gaussian_argmax:
            sample_B_A = mean_B_A + np.exp(self.actor.log_std.numpy()) * rng.standard_normal(mean_B_A.shape)
        else:
            sample_B_A = mean_B_A + rng.gumbel(size=mean_B_A.shape)
        tilted_B_A = sample_B_A.copy()
        tilted_B_A[:, favoured] += bonus
        return tilted_B_A.argmax(1), sample_B_A

    def update(self, rollout: Rollout, *, rng: np.random.Generator) -> dict[str, float]:
        """Fits the value net, then takes one TRPO step, on what was decided since the last update."""
        assert len(self._decisions) == len(rollout.rewards_T_B), (len(self._decisions), len(rollout.rewards_T_B))
        states_N_D = torch.from_numpy(np.concatenate([decision.states_B_D for decision in self._decisions]))
        stored_N_A = torch.from_numpy(np.concatenate([decision.stored_B_A for decision in self._decisions]))
        self._decisions = []
        T, B = rollout.rewards_T_B.shape
        with torch.no_grad():
            values_T_B = self.critic(states_N_D).numpy().reshape(T, B).astype(np.float32)
        advantage_T_B, _ = advantages(rollout.rewards_T_B, values_T_B, discount=DISCOUNT, trace=TRACE)
        _, return_T_B = advantages(rollout.rewards_T_B, values_T_B, discount=DISCOUNT, trace=1.0)
        value_error = self._fit_values(states_N_D, torch.from_numpy(return_T_B.reshape(-1).astype(np.float64)))
        advantage_N = torch.from_numpy(advantage_T_B.reshape(-1).astype(np.float64))
        moved = self._step(states_N_D, stored_N_A, (advantage_N - advantage_N.mean()) / advantage_N.std().clamp(min=1e-8))
        self.updates += 1
        return {"moved": float(moved), "value_error": value_error, "mean_std": float(self.actor.log_std.detach().exp().mean())}

    def _step(self, states_N_D: Tensor, stored_N_A: Tensor, advantage_N: Tensor) -> bool:
        with torch.no_grad():
            old_mean_N_A, old_log_std_A = self.actor.mean(states_N_D), self.actor.log_std.clone()
            old_logprob_N = self._density(old_mean_N_A, stored_N_A)

        def surrogate() -> Tensor:
            return (advantage_N * (self._logprob(states_N_D, stored_N_A) - old_logprob_N).exp()).mean()

        def divergence() -> Tensor:
            return self._divergence(old_mean_N_A, old_log_std_A, self.actor.mean(states_N_D)).mean()

        parameters = list(self.actor.parameters())
        if not self.quirks.gaussian_argmax:
            parameters = list(self.actor.mean.parameters())
        max_kl = PUBLISHED_MAX_KL if self.quirks.tiny_kl else MAX_KL
        fisher = fisher_flops(self.actor.mean, len(states_N_D))
        return trust_region_step(
            parameters, surrogate, divergence, max_kl=max_kl, kl_slack=None, before_fisher=lambda: self._charge("policy", fisher)
        )

    def _charge(self, model: str, flops: float) -> None:
        """Pays for what happens outside the modules that `meter` watches."""
        if self._ledger is not None:
            self._ledger.charge(model, flops, 0)

    def _logprob(self, states_N_D: Tensor, stored_N_A: Tensor) -> Tensor:
        return self._density(self.actor.mean(states_N_D), stored_N_A)

    def _density(self, mean_N_A: Tensor, stored_N_A: Tensor) -> Tensor:
        """Log-density of samples, or log-probability of one-hots under the softmax, (N,)."""
        if not self.quirks.gaussian_argmax:
            return (self._tilted_log_softmax(mean_N_A) * stored_N_A).sum(1)
        log_std_A = self.actor.log_std
        z_N_A = (stored_N_A - mean_N_A) / log_std_A.exp()
        return (-0.5 * z_N_A**2 - 0.5 * math.log(2 * math.pi) - log_std_A).sum(1)

    def _tilted_log_softmax(self, mean_N_A: Tensor) -> Tensor:
        bonus_A = torch.zeros(mean_N_A.shape[1], dtype=mean_N_A.dtype)
        bonus_A[BREADTH] = BREADTH_BONUS if self.quirks.breadth_bonus else 0.0
        return torch.log_softmax(mean_N_A + bonus_A, dim=1)

    def _divergence(self, old_mean_N_A: Tensor, old_log_std_A: Tensor, mean_N_A: Tensor) -> Tensor:
        """KL from the old distribution, (N,)."""
        if not self.quirks.gaussian_argmax:
            old_N_A, new_N_A = self._tilted_log_softmax(old_mean_N_A), self._tilted_log_softmax(mean_N_A)
            return (old_N_A.exp() * (old_N_A - new_N_A)).sum(1)
        log_std_A = self.actor.log_std
        spread_N_A = ((2 * old_log_std_A).exp() + (old_mean_N_A - mean_N_A) ** 2) / (2 * (2 * log_std_A).exp())
        return (log_std_A - old_log_std_A + spread_N_A - 0.5).sum(1)

    def _fit_values(self, states_N_D: Tensor, return_N: Tensor) -> float:
        """L-BFGS on mean squared error plus L2 of all parameters; returns that loss.

        The gradient is written out: at these sizes automatic differentiation costs twenty times the arithmetic.
        """
        from scipy.optimize import minimize

        parameters = list(self.critic.parameters())
        weights = [layer.weight.numel() for layer in self.critic if isinstance(layer, nn.Linear)]
        positions = len(states_N_D)
        flops = linear_flops(weights[0], positions, weight_grad=True)
        flops += linear_flops(sum(weights[1:]), positions, input_grad=True, weight_grad=True)

        def loss(flat: Doubles) -> tuple[float, Doubles]:
            self._charge("policy-value", flops)
            return value_loss(flat, states_N_D.numpy(), return_N.numpy())

        start = nn.utils.parameters_to_vector(parameters).detach().numpy().copy()
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": VALUE_ITERATIONS})
        nn.utils.vector_to_parameters(torch.from_numpy(found.x.copy()), parameters)
        return float(found.fun)

    def state_dict(self) -> dict[str, Tensor]:
        """Both nets, the normaliser and the number of updates; between updates nothing else matters."""
        state = {f"actor.{name}": tensor for name, tensor in self.actor.state_dict().items()}
        state |= {f"critic.{name}": tensor for name, tensor in self.critic.state_dict().items()}
        state |= {f"normaliser.{name}": tensor for name, tensor in self.normaliser.state_dict().items()}
        state["updates"] = torch.tensor(self.updates)
        return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` returned."""
        self.actor.load_state_dict(_under(state, "actor."))
        self.critic.load_state_dict(_under(state, "critic."))
        self.normaliser.load_state_dict(_under(state, "normaliser."))
        self.updates = int(state["updates"])
        self._decisions = []


def value_loss(flat: Doubles, states_N_D: Doubles, return_N: Doubles) -> tuple[float, Doubles]:
    """Mean squared error of the value net with parameters `flat` (in torch's order) plus L2, and its gradient, laid out as `flat`."""
    sizes = (states_N_D.shape[1], HIDDEN, HIDDEN, 1)
    layers, start = [], 0
    for inputs, outputs in pairwise(sizes):
        middle, end = start + inputs * outputs, start + inputs * outputs + outputs
        layers.append((flat[start:middle].reshape(outputs, inputs), flat[middle:end]))
        start = end
    activations = [states_N_D]
    for index, (weight, bias) in enumerate(layers):
        reached = activations[-1] @ weight.T + bias
        activations.append(reached if index == len(layers) - 1 else np.maximum(reached, 0))
    error_N = activations[-1][:, 0] - return_N
    back = (2 / len(error_N)) * error_N[:, None]
    parts: list[Doubles] = []
    for index in reversed(range(len(layers))):
        parts = [(back.T @ activations[index]).reshape(-1), back.sum(0), *parts]
        if index > 0:
            back = (back @ layers[index][0]) * (activations[index] > 0)
    loss = float((error_N**2).mean() + VALUE_L2 * flat @ flat)
    return loss, np.concatenate(parts) + 2 * VALUE_L2 * flat


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _mlp(size: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    """Two ReLU layers, initialised as torch does by default (uniform within 1/√inputs); the head's weights × 0.1, its bias 0."""
    net = nn.Sequential(nn.Linear(size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)).double()
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(layer.in_features)
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
        head = net[-1]
        assert isinstance(head, nn.Linear)
        head.weight.mul_(0.1)
        head.bias.zero_()
    return net
