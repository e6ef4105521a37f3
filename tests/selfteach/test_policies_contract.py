"""What every policy must do alike, whatever it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.core.budget import Ledger
from selfteach.policies.make import make
from selfteach.policy import Policy, Rollout, restore_policy, save_policy

ACTIONS = ("breadth", "add_constraint", "deepen", "concretise", "increase_reasoning", "complicate_input", "stop")
STATE, T, B = 12, 3, 4
NAMES = ("ppo", "trpo", "random", "bandit", "fixed:deepen", "schedule:breadth,add_constraint,deepen,stop")
PAYS = np.linspace(0.1, 0.9, len(ACTIONS))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(name: str, seed: int = 0) -> Policy:
    return make(name, state_size=STATE, actions=ACTIONS, rng=np.random.default_rng(seed))


def play(policy: Policy, rng: np.random.Generator) -> Rollout:
    """An episode in which an operation earns a share of its worth."""
    states = (3 + rng.normal(size=(T, B, STATE))).astype(np.float32)
    acted = [policy.act(states[t], rng=rng) for t in range(T)]
    actions = np.stack([actions for actions, _ in acted])
    rewards = (PAYS[actions] * rng.random((T, B))).astype(np.float32)
    return Rollout(states, actions, np.stack([logprobs for _, logprobs in acted]), rewards)


def train(policy: Policy, rng: np.random.Generator, updates: int) -> list[Rollout]:
    rollouts = []
    for _ in range(updates):
        rollouts.append(play(policy, rng))
        policy.update(rollouts[-1], rng=rng)
    return rollouts


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[key]) and tensor.dtype == second[key].dtype for key, tensor in first.items()
    )


def test_actions_and_logprobs_have_their_types(name: str) -> None:
    actions_B, logprobs_B = build(name).act(np.zeros((5, STATE), np.float32), rng=np.random.default_rng(0))
    assert actions_B.shape == logprobs_B.shape == (5,)
    assert (actions_B.dtype, logprobs_B.dtype) == (np.int64, np.float32)
    assert set(actions_B) <= set(range(len(ACTIONS)))
    assert (logprobs_B <= 0).all()


def test_same_state_and_generator_same_actions(name: str) -> None:
    policies = [build(name), build(name)]
    rollouts = [train(policy, np.random.default_rng(1), 4) for policy in policies]
    for first, second in zip(*rollouts, strict=True):
        assert np.array_equal(first.actions_T_B, second.actions_T_B)
        assert np.array_equal(first.logprobs_T_B, second.logprobs_T_B)
    assert same(policies[0].state_dict(), policies[1].state_dict())


def test_logprobs_are_those_of_the_actions_sampled(name: str) -> None:
    policy, rng = build(name), np.random.default_rng(2)
    train(policy, rng, 5)
    n = 20_000
    actions_N, logprobs_N = policy.act(np.full((n, STATE), 3, np.float32), rng=rng)
    for action in set(actions_N):
        probability = float(np.exp(logprobs_N[actions_N == action][0]))
        deviation = 5 * max(probability * (1 - probability) / n, 1e-8) ** 0.5
        assert (actions_N == action).mean() == pytest.approx(probability, abs=deviation)


@pytest.mark.parametrize("mid_episode", [False, True])
def test_a_restored_policy_goes_on_as_if_nothing_had_happened(name: str, mid_episode: bool, tmp_path: Path) -> None:
    policy = build(name)
    train(policy, np.random.default_rng(3), 3)
    if mid_episode:
        policy.act(np.zeros((B, STATE), np.float32), rng=np.random.default_rng(4))
    save_policy(policy, tmp_path / "policy.safetensors")
    restored = build(name, seed=99)
    restore_policy(restored, tmp_path / "policy.safetensors")
    assert same(policy.state_dict(), restored.state_dict())
    rollouts = [train(each, np.random.default_rng(5), 3) for each in (policy, restored)]
    for first, second in zip(*rollouts, strict=True):
        assert np.array_equal(first.actions_T_B, second.actions_T_B)
        assert np.array_equal(first.logprobs_T_B, second.logprobs_T_B)
    assert same(policy.state_dict(), restored.state_dict())


def test_a_saved_state_does_not_change_with_the_policy(name: str) -> None:
    policy = build(name)
    saved = policy.state_dict()
    before = {key: tensor.clone() for key, tensor in saved.items()}
    train(policy, np.random.default_rng(6), 2)
    assert same(saved, before)


def test_statistics_are_finite_and_charges_go_to_the_ledger(name: str) -> None:
    policy, ledger = build(name), Ledger()
    policy.attach(ledger)
    rng = np.random.default_rng(7)
    statistics = policy.update(play(policy, rng), rng=rng)
    assert np.isfinite(list(statistics.values())).all()
    assert (ledger.spent() > 0) == (name in ("ppo", "trpo"))
