from pathlib import Path

import numpy as np
import pytest
import torch

from harness.core.budget import Ledger
from selfteach.policy import (
    PPO_MAX_KL,
    LearnedPolicy,
    Normaliser,
    Policy,
    RandomPolicy,
    Rollout,
    advantages,
    improve_by_ppo,
    restore_policy,
    save_policy,
)
from selfteach.trpo import MAX_KL, conjugate_gradients, improve_by_trpo

ACTIONS, STATE, BEST = 7, 42, 1
ACCEPTANCE = np.array([0.60, 0.95, 0.60, 0.60, 0.60, 0.60, 0.0])
IMPROVE = {"ppo": improve_by_ppo, "trpo": improve_by_trpo}


def learner(kind: str, seed: int) -> LearnedPolicy:
    return LearnedPolicy(STATE, ACTIONS, improve=IMPROVE[kind], rng=np.random.default_rng(seed))


def play(policy: Policy, rng: np.random.Generator, *, T: int = 4, B: int = 8) -> Rollout:
    """One rollout in a stub environment that accepts operation a with probability ACCEPTANCE[a]."""
    states = rng.normal(size=(T, B, STATE)).astype(np.float32)
    acted = [policy.act(states[t], rng=rng) for t in range(T)]
    actions = np.stack([actions for actions, _ in acted])
    rewards = (rng.random((T, B)) < ACCEPTANCE[actions]).astype(np.float32)
    return Rollout(states, actions, np.stack([logprobs for _, logprobs in acted]), rewards)


def share_of_best(policy: Policy, seed: int, updates: int) -> float:
    rng = np.random.default_rng(seed)
    shares = []
    for _ in range(updates):
        rollout = play(policy, rng)
        policy.update(rollout, rng=rng)
        shares.append((rollout.actions_T_B == BEST).mean())
    return float(np.mean(shares[-20:]))


def test_advantages_closed_form() -> None:
    rewards, values = np.array([[1.0], [0.0], [2.0]], np.float32), np.array([[0.5], [1.0], [0.25]], np.float32)
    # λ = 1: discounted return minus value; λ = 0: one-step temporal difference.
    full, returns = advantages(rewards, values, discount=0.5, trace=1.0)
    assert full[:, 0] == pytest.approx([1 + 0.25 * 2 - 0.5, 0.5 * 2 - 1.0, 2 - 0.25])
    assert returns[:, 0] == pytest.approx([1.5, 1.0, 2.0])
    one_step, _ = advantages(rewards, values, discount=0.5, trace=0.0)
    assert one_step[:, 0] == pytest.approx([1 + 0.5 * 1.0 - 0.5, 0 + 0.5 * 0.25 - 1.0, 2 - 0.25])


def test_normaliser_equals_moments_of_all_it_absorbed() -> None:
    data = torch.from_numpy(np.random.default_rng(0).normal(3, 2, size=(90, 5)).astype(np.float32))
    normaliser = Normaliser(5)
    assert normaliser(data) == pytest.approx(data.clamp(-5, 5).numpy(), abs=1e-4)
    for part in data.split([7, 53, 30]):
        normaliser.absorb(part)
    assert normaliser.mean.numpy() == pytest.approx(data.mean(0).numpy(), abs=1e-5)
    assert normaliser.variance.numpy() == pytest.approx(data.var(0, unbiased=False).numpy(), abs=1e-4)
    assert float(normaliser(data * 1000).abs().max()) == 5


@pytest.mark.parametrize(("kind", "updates"), [("ppo", 60), ("trpo", 150)])
def test_learns_the_best_operation(kind: str, updates: int) -> None:
    shares = [share_of_best(learner(kind, seed), seed, updates=updates) for seed in range(4)]
    assert np.mean(shares) >= 0.8
    assert min(shares) >= 0.6


def test_random_stays_uniform() -> None:
    assert share_of_best(RandomPolicy(ACTIONS), 0, updates=150) == pytest.approx(1 / 7, abs=0.05)


@pytest.mark.parametrize("kind", IMPROVE)
def test_equal_rewards_teach_nothing(kind: str) -> None:
    policy, rng = learner(kind, 0), np.random.default_rng(0)
    for _ in range(30):
        rollout = play(policy, rng)
        flat = Rollout(rollout.states_T_B_D, rollout.actions_T_B, rollout.logprobs_T_B, np.zeros_like(rollout.rewards_T_B))
        statistics = policy.update(flat, rng=rng)
    assert statistics["entropy"] > 0.9 * np.log(ACTIONS)


@pytest.mark.parametrize("kind", IMPROVE)
def test_an_update_stays_near_the_policy_that_acted(kind: str) -> None:
    policy, rng = learner(kind, 0), np.random.default_rng(1)
    divergences = [policy.update(play(policy, rng), rng=rng)["kl"] for _ in range(40)]
    assert max(divergences) < 3 * max(MAX_KL, PPO_MAX_KL)
    assert max(divergences) > 0.001


@pytest.mark.parametrize("kind", IMPROVE)
def test_log_probabilities_are_of_the_policy_that_acted(kind: str) -> None:
    policy, rng = learner(kind, 0), np.random.default_rng(1)
    policy.update(play(policy, rng), rng=rng)
    rollout = play(policy, rng)
    frequencies = np.zeros(ACTIONS)
    states = np.repeat(rollout.states_T_B_D[0, :1], 20_000, axis=0)
    actions, logprobs = policy.act(states, rng=rng)
    for action in range(ACTIONS):
        frequencies[action] = (actions == action).mean()
        assert frequencies[action] == pytest.approx(np.exp(logprobs[actions == action][0]), abs=0.015)


@pytest.mark.parametrize("kind", IMPROVE)
def test_checkpoint_resumes_exactly(kind: str, tmp_path: Path) -> None:
    policy, rng = learner(kind, 0), np.random.default_rng(2)
    for _ in range(3):
        policy.update(play(policy, rng), rng=rng)
    save_policy(policy, tmp_path / "policy.safetensors")
    other = learner(kind, 99)
    restore_policy(other, tmp_path / "policy.safetensors")
    for one in (policy, other):
        again = np.random.default_rng(3)
        for _ in range(3):
            one.update(play(one, again), rng=again)
    mine, theirs = policy.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert not list(tmp_path.glob("*.partial"))


def test_same_seed_same_policy() -> None:
    one, two, three = (learner("ppo", seed).state_dict()["network.actor.0.weight"] for seed in (5, 5, 6))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_compute_is_charged() -> None:
    policy, ledger, rng = learner("ppo", 0), Ledger(1e12), np.random.default_rng(0)
    policy.attach(ledger)
    with ledger.use_phase("policy"):
        states = np.zeros((8, STATE), np.float32)
        policy.act(states, rng=rng)
        acted = ledger.spent()
        assert acted == 2 * 8 * (STATE * 64 + 64 * 64 + 64 * ACTIONS)
        policy.update(play(policy, rng), rng=rng)
    assert ledger.spent() > 10 * acted
    assert {row["phase"] for row in ledger.rows()} == {"policy"}


def test_conjugate_gradients_solve() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    matrix, target = torch.from_numpy(root @ root.T + np.eye(6)), torch.from_numpy(rng.normal(size=6))
    solution = conjugate_gradients(lambda vector: matrix @ vector, target, steps=6)
    assert (matrix @ solution).numpy() == pytest.approx(target.numpy(), abs=1e-6)
