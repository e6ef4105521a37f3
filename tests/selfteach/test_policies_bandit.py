from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from selfteach.policies.bandit import ThompsonBandit, best_probabilities
from selfteach.policy import Rollout

ACCEPTANCE = np.array([0.60, 0.95, 0.60, 0.60, 0.60, 0.60, 0.0])
"""One operation better than the rest, as in docs/method-card.md."""


def rollout(actions: np.ndarray, rewards: np.ndarray) -> Rollout:
    return Rollout(np.zeros((*actions.shape, 1), np.float32), actions, np.zeros(actions.shape, np.float32), rewards.astype(np.float32))


def test_posterior_counts_rewards_as_shares_of_successes() -> None:
    bandit = ThompsonBandit(3)
    bandit.update(rollout(np.array([[0, 1], [0, 0]]), np.array([[0.25, 1.0], [0.5, 0.0]])), rng=np.random.default_rng(0))
    assert bandit.successes_A == pytest.approx([1.75, 2, 1])
    assert bandit.failures_A == pytest.approx([1 + 0.75 + 0.5 + 1, 1, 1])


def test_one_batch_is_worth_as_much_as_its_parts() -> None:
    rng = np.random.default_rng(1)
    actions, rewards = rng.integers(4, size=(6, 5)), rng.random((6, 5))
    whole, parts = ThompsonBandit(4), ThompsonBandit(4)
    whole.update(rollout(actions, rewards), rng=rng)
    for t in range(6):
        parts.update(rollout(actions[t : t + 1], rewards[t : t + 1]), rng=rng)
    assert whole.successes_A == pytest.approx(parts.successes_A)
    assert whole.failures_A == pytest.approx(parts.failures_A)


def test_probability_of_being_the_best_closed_form() -> None:
    assert best_probabilities(np.ones(7), np.ones(7)) == pytest.approx(np.full(7, 1 / 7))
    # Beta(2, 1) against Beta(1, 1): P(X > Y) = E[X] = 2/3.
    assert best_probabilities(np.array([2.0, 1.0]), np.array([1.0, 1.0])) == pytest.approx([2 / 3, 1 / 3], abs=1e-4)


def test_probability_of_being_the_best_against_simulation() -> None:
    successes, failures = np.array([30.0, 40.0, 5.0, 900.0]), np.array([40.0, 35.0, 5.0, 950.0])
    draws = beta.rvs(successes, failures, size=(200_000, 4), random_state=np.random.default_rng(2))
    simulated = np.bincount(draws.argmax(1), minlength=4) / 200_000
    assert best_probabilities(successes, failures) == pytest.approx(simulated, abs=0.005)


def test_finds_the_best_operation() -> None:
    shares = []
    for seed in range(6):
        rng, bandit = np.random.default_rng(seed), ThompsonBandit(len(ACCEPTANCE))
        taken = []
        for _ in range(120):
            actions_B, _ = bandit.act(np.zeros((6, 1), np.float32), rng=rng)
            taken.append((actions_B == 1).mean())
            bandit.update(rollout(actions_B[None], (rng.random((1, 6)) < ACCEPTANCE[actions_B])), rng=rng)
        shares.append(np.mean(taken[-30:]))
    assert np.mean(shares) > 0.9


def test_rewards_outside_the_unit_interval_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        ThompsonBandit(2).update(rollout(np.array([[0]]), np.array([[1.5]])), rng=np.random.default_rng(0))
