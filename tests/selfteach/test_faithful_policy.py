from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harness.core.budget import Ledger
from selfteach.faithful.policy import (
    BREADTH_BONUS,
    PUBLISHED_MAX_KL,
    VALUE_L2,
    FaithfulPolicy,
    RunningNormaliser,
    value_loss,
)
from selfteach.faithful.quirks import TRAINING_QUIRKS, Quirks
from selfteach.policy import LearnedPolicy, Rollout, restore_policy, save_policy
from selfteach.trpo import improve_by_trpo

ACTIONS = 6
GENERATION_QUIRKS = {"normaliser_lost", "constraint_bonus", "forced_breadth", "breadth_replaced", "no_elimination"}


def fresh(seed: int = 0, quirks: Quirks | None = None) -> FaithfulPolicy:
    return FaithfulPolicy(ACTIONS, ACTIONS, quirks=quirks or Quirks(), rng=np.random.default_rng(seed))


def play(policy: FaithfulPolicy, rng: np.random.Generator, *, T: int = 6, B: int = 1, best: int = 2) -> Rollout:
    states, actions, logprobs = [np.zeros((B, ACTIONS), np.float32)], [], []
    for _ in range(T):
        actions_B, logprobs_B = policy.act(states[-1], rng=rng)
        actions.append(actions_B)
        logprobs.append(logprobs_B)
        states.append(np.eye(ACTIONS, dtype=np.float32)[actions_B])
    rewards = (rng.random((T, B)) < np.where(np.stack(actions) == best, 0.95, 0.6)).astype(np.float32)
    return Rollout(np.stack(states[:-1]), np.stack(actions), np.stack(logprobs), rewards)


def test_published_size() -> None:
    assert sum(parameter.numel() for parameter in fresh().actor.parameters()) == 5004


def test_every_quirk_acts_somewhere_and_says_so() -> None:
    assert set(TRAINING_QUIRKS) | GENERATION_QUIRKS == set(Quirks.model_fields)
    assert not set(TRAINING_QUIRKS) & GENERATION_QUIRKS
    assert all("Off:" in (field.description or "") for field in Quirks.model_fields.values())
    assert all(Quirks().model_dump().values())
    assert not any(Quirks.none().model_dump().values())
    off = Quirks().without("tiny_kl").model_dump()
    assert [name for name, value in off.items() if not value] == ["tiny_kl"]


def test_running_normaliser_is_the_z_score_of_all_rows_so_far() -> None:
    rows = np.random.default_rng(0).normal(2, 3, size=(40, 3)).astype(np.float32)
    rows[:, 2] = 0
    normaliser = RunningNormaliser(3)
    assert normaliser.observe(np.zeros((1, 3), np.float32)) == pytest.approx(np.zeros((1, 3)))
    normaliser = RunningNormaliser(3)
    for end in range(1, 41):
        seen = normaliser.observe(rows[end - 1 : end])
    varied = rows[:, :2]
    assert seen[0, :2] == pytest.approx((varied[-1] - varied.mean(0)) / varied.std(0, ddof=1), rel=1e-5)
    # What never varied says nothing.
    assert seen[0, 2] == 0
    # An action taken once in a thousand steps is an outlier, cut at 5.
    normaliser = RunningNormaliser(1)
    normaliser.observe(np.zeros((999, 1), np.float32))
    assert normaliser.observe(np.ones((1, 1), np.float32)) == pytest.approx(5)


def test_untrained_share_of_breadth_closed_form() -> None:
    policy, rng = fresh(), np.random.default_rng(0)
    nn.init.zeros_(policy.actor.mean[-1].weight)
    actions, _ = policy.act(np.zeros((10_000, ACTIONS), np.float32), rng=rng)
    expected, _ = quad(lambda x: norm.pdf(x - BREADTH_BONUS) * norm.cdf(x) ** 5, -8, 8)
    assert expected == pytest.approx(0.2375, abs=0.0001)
    assert (actions == 0).mean() == pytest.approx(expected, abs=0.015)


def test_log_probability_is_the_one_hots_not_the_samples() -> None:
    states = np.zeros((500, ACTIONS), np.float32)
    wrong, right = fresh(), fresh(quirks=Quirks().without("one_hot_as_sample"))
    for policy in (wrong, right):
        nn.init.zeros_(policy.actor.mean[-1].weight)
    _, logprobs = wrong.act(states, rng=np.random.default_rng(0))
    assert logprobs == pytest.approx(5 * norm.logpdf(0) + norm.logpdf(1))
    _, logprobs = right.act(states, rng=np.random.default_rng(0))
    samples = np.random.default_rng(0).standard_normal((500, ACTIONS))
    assert logprobs == pytest.approx(norm.logpdf(samples).sum(1), abs=1e-5)


def test_softmax_log_probabilities_are_the_actions_frequencies() -> None:
    policy = fresh(3, Quirks().without("gaussian_argmax"))
    actions, logprobs = policy.act(np.zeros((10_000, ACTIONS), np.float32), rng=np.random.default_rng(0))
    for action in range(ACTIONS):
        assert (actions == action).mean() == pytest.approx(np.exp(logprobs[actions == action][0]), abs=0.015)


def test_value_loss_and_gradient_are_torchs() -> None:
    rng, policy = np.random.default_rng(0), fresh()
    states, returns = rng.normal(size=(9, ACTIONS)), rng.normal(size=9)
    parameters = list(policy.critic.parameters())
    error = (policy.critic(torch.from_numpy(states)).squeeze(1) - torch.from_numpy(returns)).square().mean()
    total = error + VALUE_L2 * sum(parameter.square().sum() for parameter in parameters)
    gradient = nn.utils.parameters_to_vector(torch.autograd.grad(total, parameters)).numpy()
    loss, written_out = value_loss(nn.utils.parameters_to_vector(parameters).detach().numpy(), states, returns)
    assert loss == pytest.approx(float(total.detach()))
    assert written_out == pytest.approx(gradient, abs=1e-12)


def test_update_moves_by_the_published_divergence() -> None:
    policy, rng = fresh(), np.random.default_rng(0)
    rollout = play(policy, rng, B=40)
    states = torch.from_numpy(np.concatenate([decision.states_B_D for decision in policy._decisions]))
    with torch.no_grad():
        before, old_log_std = policy.actor.mean(states), policy.actor.log_std.clone()
    statistics = policy.update(rollout, rng=rng)
    with torch.no_grad():
        divergence = policy._divergence(before, old_log_std, policy.actor.mean(states)).mean()
    assert statistics["moved"] == 1
    # The limit is on the damped quadratic form: of a policy this flat the damping takes a good part.
    assert 0.3 * PUBLISHED_MAX_KL < float(divergence) < 1.1 * PUBLISHED_MAX_KL


def test_value_net_fits_returns() -> None:
    policy, rng = fresh(), np.random.default_rng(0)
    losses = [policy.update(play(policy, rng, B=20), rng=rng)["value_error"] for _ in range(10)]
    assert losses[-1] < 0.5 * np.var([6, 5, 4, 3, 2, 1]) + 1


def test_without_quirks_the_best_operation_is_learnt() -> None:
    policy, rng = fresh(quirks=Quirks.none()), np.random.default_rng(0)
    shares = []
    for _ in range(40):
        rollout = play(policy, rng, B=8)
        policy.update(rollout, rng=rng)
        shares.append((rollout.actions_T_B == 2).mean())
    assert np.mean(shares[-10:]) > 0.7


@pytest.mark.parametrize("quirks", [Quirks(), Quirks.none()])
def test_checkpoint_resumes_exactly(quirks: Quirks, tmp_path: Path) -> None:
    policy, rng = fresh(quirks=quirks), np.random.default_rng(2)
    for _ in range(3):
        policy.update(play(policy, rng), rng=rng)
    save_policy(policy, tmp_path / "policy.safetensors")
    other = fresh(99, quirks)
    restore_policy(other, tmp_path / "policy.safetensors")
    assert (other.normaliser.count > 0) == quirks.running_normaliser
    for one in (policy, other):
        again = np.random.default_rng(3)
        for _ in range(3):
            one.update(play(one, again), rng=again)
    mine, theirs = policy.state_dict(), other.state_dict()
    assert int(mine["updates"]) == 6
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def charged(ledger: Ledger, model: str) -> float:
    return sum(row["flops"] for row in ledger.rows() if row["model"] == model)


@pytest.mark.parametrize("quirks", [Quirks(), Quirks.none()])
def test_compute_is_charged_as_torch_counts_it(quirks: Quirks) -> None:
    policy, ledger, rng = fresh(quirks=quirks), Ledger(), np.random.default_rng(0)
    policy.attach(ledger)
    with FlopCounterMode(display=False) as counter:
        policy.update(play(policy, rng, B=4), rng=rng)
    forward = 2 * 24 * sum(layer.weight.numel() for layer in policy.critic if isinstance(layer, nn.Linear))
    assert charged(ledger, "policy") == pytest.approx(counter.get_total_flops() - forward, rel=0.02)
    # The value net's fit is numpy's: a forward and a backward (without the states' gradient) an evaluation, which torch does not see.
    first = 2 * 24 * ACTIONS * 64
    evaluations = (charged(ledger, "policy-value") - forward) / (3 * forward - first)
    assert evaluations == pytest.approx(round(evaluations))
    assert 5 < evaluations < 60


def test_corrected_trpo_is_charged_as_torch_counts_it() -> None:
    rng, ledger = np.random.default_rng(0), Ledger()
    policy = LearnedPolicy(42, 7, improve=improve_by_trpo, rng=rng)
    policy.attach(ledger)
    states = rng.normal(size=(4, 8, 42)).astype(np.float32)
    rewards = rng.random((4, 8)).astype(np.float32)
    with FlopCounterMode(display=False) as counter:
        acted = [policy.act(states[t], rng=rng) for t in range(4)]
        rollout = Rollout(states, np.stack([actions for actions, _ in acted]), np.stack([logprobs for _, logprobs in acted]), rewards)
        policy.update(rollout, rng=rng)
    assert ledger.spent() == pytest.approx(counter.get_total_flops(), rel=0.02)
