"""Policies that pick a textual operation, behind one interface; `random` is Evol-Instruct, `ppo` learns, `trpo` (selfteach.trpo) too.

Small MLPs over the environment's state (docs/method-card.md, corrected MDP). The state normaliser is part of the policy: it changes only
after an update, so that the log-probabilities of a rollout and of its update agree, and it is saved with the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.core.budget import Ledger
from harness.models.meter import meter

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rollout:
    """One batch of episodes of equal length: axes T (steps), B (lineages), D (state size)."""

    states_T_B_D: Floats
    actions_T_B: Integers
    logprobs_T_B: Floats
    rewards_T_B: Floats


class Policy(Protocol):
    """What an environment and a training loop may ask of a policy."""

    def act(self, states_B_D: Floats, *, rng: np.random.Generator) -> tuple[Integers, Floats]:
        """Samples an action per state; returns actions (B,) and their log-probabilities (B,)."""
        ...

    def update(self, rollout: Rollout, *, rng: np.random.Generator) -> dict[str, float]:
        """Learns from a rollout sampled with the present weights; returns statistics to log."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that later acts and updates depend on, normaliser and optimiser included."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` returned."""
        ...

    def attach(self, ledger: Ledger) -> None:
        """Charges every later forward and backward pass to `ledger`."""
        ...


class RandomPolicy:
    """Every operation equally likely; never learns. The control without which the RL claim means nothing."""

    def __init__(self, n_actions: int) -> None:
        self.n_actions = n_actions

    def act(self, states_B_D: Floats, *, rng: np.random.Generator) -> tuple[Integers, Floats]:
        actions_B = rng.integers(self.n_actions, size=len(states_B_D))
        return actions_B, np.full(len(states_B_D), -np.log(self.n_actions), dtype=np.float32)

    def update(self, rollout: Rollout, *, rng: np.random.Generator) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        return {"n_actions": torch.tensor(self.n_actions)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.n_actions = int(state["n_actions"])

    def attach(self, ledger: Ledger) -> None:
        """Spends nothing, so charges nothing."""


class Normaliser(nn.Module):
    """Running z-score of states, clipped to ±5; the identity until the first `absorb`."""

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, states_N_D: Tensor) -> Tensor:
        return ((states_N_D - self.mean) / (self.variance + 1e-6).sqrt()).clamp(-5, 5)

    def absorb(self, states_N_D: Tensor) -> None:
        """Merges a batch's moments into the running ones (Chan et al. 1979)."""
        n, total = len(states_N_D), self.count + len(states_N_D)
        mean, variance = states_N_D.mean(0), states_N_D.var(0, unbiased=False)
        old_variance = self.variance if self.count > 0 else torch.zeros_like(self.variance)
        shift = mean - self.mean
        self.variance = (old_variance * self.count + variance * n + shift**2 * self.count * n / total) / total
        self.mean = self.mean + shift * n / total
        self.count = total


class ActorCritic(nn.Module):
    """Two MLPs with 64 tanh units a layer: logits over operations, and the value of a state.

    Normalised states enter with norm about 0.5 instead of √D. What holds in every state is then learnt first, through the biases, and what
    depends on the state as evidence comes in: at a few dozen samples an update the unscaled net fits their noise (on a 42-d stub with one
    best operation, its share after 60 updates is .95 instead of .49; a stub whose best operation depends on the state is learnt no slower).
    """

    def __init__(self, state_size: int, n_actions: int, *, rng: np.random.Generator, hidden: int = 64) -> None:
        super().__init__()
        self.normaliser = Normaliser(state_size)
        self.ledger: Ledger | None = None
        self.input_gain = 0.5 / state_size**0.5
        self.actor = _mlp(state_size, hidden, n_actions)
        self.critic = _mlp(state_size, hidden, 1)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        for tower in (self.actor, self.critic):
            linears = [layer for layer in tower if isinstance(layer, nn.Linear)]
            for layer in linears:
                nn.init.orthogonal_(layer.weight, gain=0.01 if layer is linears[-1] else 2**0.5, generator=generator)
                nn.init.zeros_(layer.bias)

    def logprobs(self, states_N_D: Tensor) -> Tensor:
        """Log-probabilities of all operations, (N, A)."""
        return torch.log_softmax(self.actor(self.input_gain * self.normaliser(states_N_D)), dim=-1)

    def charger(self, flops: float) -> Callable[[], None]:
        """A call that charges `flops` of actor compute which no forward pass shows (`meter` charges those)."""

        def charge() -> None:
            if self.ledger is not None:
                self.ledger.charge("policy", flops, 0)

        return charge

    def values(self, states_N_D: Tensor) -> Tensor:
        """Expected discounted reward of the rest of the episode, (N,)."""
        value_N_1: Tensor = self.critic(self.input_gain * self.normaliser(states_N_D))
        return value_N_1.squeeze(-1)


def _mlp(size: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def advantages(rewards_T_B: Floats, values_T_B: Floats, *, discount: float, trace: float) -> tuple[Floats, Floats]:
    """Generalised advantage estimates and returns of episodes that end after step T (Schulman et al. 2016, eq. 16).

    Args:
        discount: γ. trace: λ.
    Returns:
        advantages (T, B) and the returns (T, B) that the value net is fitted to.
    """
    advantages_T_B = np.zeros_like(rewards_T_B)
    next_value_B = next_advantage_B = np.zeros_like(rewards_T_B[0])
    for t in reversed(range(len(rewards_T_B))):
        delta_B = rewards_T_B[t] + discount * next_value_B - values_T_B[t]
        next_advantage_B = advantages_T_B[t] = delta_B + discount * trace * next_advantage_B
        next_value_B = values_T_B[t]
    return advantages_T_B, advantages_T_B + values_T_B


@dataclass(frozen=True)
class Experience:
    """A rollout flattened for learning: states (N, D), the rest (N,); advantages have mean 0, standard deviation at most 1."""

    states_N_D: Tensor
    actions_N: Tensor
    logprob_N: Tensor
    advantage_N: Tensor
    return_N: Tensor

    def log_ratio(self, logprobs_N_A: Tensor) -> Tensor:
        """Log of new over old probability of the actions taken, (N,)."""
        return logprobs_N_A.gather(1, self.actions_N[:, None]).squeeze(1) - self.logprob_N


MIN_SPREAD = 0.02
"""Advantages that spread less (rewards lie in [0, 1]) are not blown up to standard deviation 1: they are the critic's noise."""

Improve = Callable[[ActorCritic, torch.optim.Optimizer, Experience], None]
"""How actor and critic learn from experience: `improve_by_ppo` or `selfteach.trpo.improve_by_trpo`."""


class LearnedPolicy:
    """A categorical actor with a critic, moved by `improve` after every rollout; γ and λ are the paper's."""

    discount, trace = 0.995, 0.97

    def __init__(self, state_size: int, n_actions: int, *, improve: Improve, rng: np.random.Generator, learning_rate: float = 3e-3) -> None:
        self.improve = improve
        self.network = ActorCritic(state_size, n_actions, rng=rng)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=learning_rate)

    def attach(self, ledger: Ledger) -> None:
        """Meters both towers (the ledger's phase is set by the caller)."""
        self.network.ledger = ledger
        meter(self.network.actor, "policy", ledger)
        meter(self.network.critic, "policy-value", ledger)

    @torch.no_grad()
    def act(self, states_B_D: Floats, *, rng: np.random.Generator) -> tuple[Integers, Floats]:
        logprobs_B_A = self.network.logprobs(torch.from_numpy(states_B_D)).numpy()
        actions_B = (logprobs_B_A + rng.gumbel(size=logprobs_B_A.shape)).argmax(1)
        return actions_B, logprobs_B_A[np.arange(len(actions_B)), actions_B]

    def update(self, rollout: Rollout, *, rng: np.random.Generator) -> dict[str, float]:
        experience = self._experience(rollout)
        # Where every step earned the same there is nothing to learn but the critic's noise.
        if np.ptp(rollout.rewards_T_B) > 0:
            self.improve(self.network, self.optimiser, experience)
        with torch.no_grad():
            logprobs_N_A = self.network.logprobs(experience.states_N_D)
            log_ratio_N = experience.log_ratio(logprobs_N_A)
            value_error = nn.functional.mse_loss(self.network.values(experience.states_N_D), experience.return_N)
        self.network.normaliser.absorb(experience.states_N_D)
        return {
            "kl": float((log_ratio_N.exp() - 1 - log_ratio_N).mean()),
            "entropy": float(entropy(logprobs_N_A)),
            "value_error": float(value_error),
        }

    @torch.no_grad()
    def _experience(self, rollout: Rollout) -> Experience:
        T, B, D = rollout.states_T_B_D.shape
        states_N_D = torch.from_numpy(rollout.states_T_B_D.reshape(T * B, D))
        values_T_B = self.network.values(states_N_D).numpy().reshape(T, B)
        advantages_T_B, returns_T_B = advantages(rollout.rewards_T_B, values_T_B, discount=self.discount, trace=self.trace)
        advantage_N = torch.from_numpy(advantages_T_B.reshape(-1))
        return Experience(
            states_N_D=states_N_D,
            actions_N=torch.from_numpy(rollout.actions_T_B.reshape(-1)),
            logprob_N=torch.from_numpy(rollout.logprobs_T_B.reshape(-1)),
            advantage_N=(advantage_N - advantage_N.mean()) / advantage_N.std(unbiased=False).clamp(min=MIN_SPREAD),
            return_N=torch.from_numpy(returns_T_B.reshape(-1)),
        )

    def state_dict(self) -> dict[str, Tensor]:
        state = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for index, slots in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{slot}": tensor for slot, tensor in slots.items()}
        return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.network.load_state_dict({name[len("network.") :]: tensor for name, tensor in state.items() if name.startswith("network.")})
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            if name.startswith("optimiser."):
                _, index, slot = name.split(".")
                slots.setdefault(int(index), {})[slot] = tensor.clone()
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": slots})


def entropy(logprobs_N_A: Tensor) -> Tensor:
    """Mean entropy of the actions, in nats."""
    return -(logprobs_N_A.exp() * logprobs_N_A).sum(1).mean()


PPO_EPOCHS, PPO_CLIP, PPO_ENTROPY_BONUS, PPO_MAX_KL = 10, 0.2, 0.01, 0.02


def improve_by_ppo(network: ActorCritic, optimiser: torch.optim.Optimizer, experience: Experience) -> None:
    """Clipped proximal policy optimisation (Schulman et al. 2017, eq. 7 and 9) on the whole rollout at once: it is small.

    The epochs end early once the mean KL from the policy that acted exceeds PPO_MAX_KL.
    """
    for _ in range(PPO_EPOCHS):
        logprobs_N_A = network.logprobs(experience.states_N_D)
        log_ratio_N = experience.log_ratio(logprobs_N_A)
        ratio_N = log_ratio_N.exp()
        if float((ratio_N - 1 - log_ratio_N).detach().mean()) > PPO_MAX_KL:
            break
        clipped_N = ratio_N.clamp(1 - PPO_CLIP, 1 + PPO_CLIP)
        policy_loss = -torch.minimum(ratio_N * experience.advantage_N, clipped_N * experience.advantage_N).mean()
        value_loss = nn.functional.mse_loss(network.values(experience.states_N_D), experience.return_N)
        optimiser.zero_grad()
        (policy_loss + 0.5 * value_loss - PPO_ENTROPY_BONUS * entropy(logprobs_N_A)).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimiser.step()


def save_policy(policy: Policy, path: Path) -> None:
    """Writes a policy as safetensors, atomically."""
    temporary = path.with_name(path.name + ".partial")
    save_file(policy.state_dict(), temporary)
    temporary.replace(path)


def restore_policy(policy: Policy, path: Path) -> None:
    """Loads what `save_policy` wrote into a policy of the same shape."""
    policy.load_state_dict(load_file(path))
