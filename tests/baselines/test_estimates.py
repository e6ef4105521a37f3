"""The arithmetic of policy optimisation against closed forms and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from baselines.estimates import (
    clipped_loss,
    dpo_loss,
    generalised_advantages,
    group_normalised,
    leave_one_out,
    positive_kl,
    reply_sums,
    sampled_kl,
    whitened,
)


def test_generalised_advantages_by_hand() -> None:
    """Two replies of 2 and 1 tokens, lambda 1/2: deltas 0.6, 0.5 | -0.3; A = 0.6 + 0.25, 0.5 | -0.3."""
    reward_R, value_R = torch.tensor([0.1, 1.0, 0.5]), torch.tensor([0.0, 0.5, 0.8])
    advantage_R, return_R = generalised_advantages(reward_R, value_R, [2, 1], decay=0.5)
    assert advantage_R.tolist() == pytest.approx([0.85, 0.5, -0.3])
    assert return_R.tolist() == pytest.approx([0.85, 1.0, 0.5])


def test_with_lambda_1_advantages_are_rewards_to_go_minus_values_and_with_0_one_step_errors() -> None:
    generator = torch.Generator().manual_seed(0)
    reward_R, value_R = torch.randn(9, generator=generator), torch.randn(9, generator=generator)
    all_R, _ = generalised_advantages(reward_R, value_R, [4, 5], decay=1.0)
    one_R, _ = generalised_advantages(reward_R, value_R, [4, 5], decay=0.0)
    for start, end in ((0, 4), (4, 9)):
        togo = reward_R[start:end].flip(0).cumsum(0).flip(0)
        assert torch.allclose(all_R[start:end], togo - value_R[start:end], atol=1e-5)
        following = torch.cat([value_R[start + 1 : end], torch.zeros(1)])
        assert torch.allclose(one_R[start:end], reward_R[start:end] + following - value_R[start:end], atol=1e-6)


def test_the_closed_form_of_advantages_with_a_final_reward_alone() -> None:
    """Values 0 and reward 1 at the last of T tokens: A_t = lambda^(T - 1 - t)."""
    advantage_R, _ = generalised_advantages(torch.tensor([0.0, 0, 0, 0, 1]), torch.zeros(5), [5], decay=0.9)
    assert advantage_R.tolist() == pytest.approx([0.9**4, 0.9**3, 0.9**2, 0.9, 1])


@pytest.mark.parametrize(
    ("advantage", "ratio", "moves"), [(1, 1.3, False), (1, 0.7, True), (1, 1.1, True), (-1, 0.7, False), (-1, 1.3, True), (-1, 0.9, True)]
)
def test_the_clipped_gradient_is_zero_only_outside_the_clip_on_the_side_of_the_advantage(
    advantage: float, ratio: float, moves: bool
) -> None:
    old_R = torch.tensor([-2.0])
    logprob_R = (old_R + math.log(ratio)).requires_grad_()
    loss = clipped_loss(logprob_R, old_R, torch.tensor([float(advantage)]), 0.2).sum()
    loss.backward()
    assert logprob_R.grad is not None
    # Inside, d(ratio A)/d(log p) = ratio A.
    assert float(logprob_R.grad) == pytest.approx(-ratio * advantage if moves else 0.0, rel=1e-5)


def test_the_clipped_value_by_hand() -> None:
    found = clipped_loss(torch.log(torch.tensor([1.5, 0.5, 1.1])), torch.zeros(3), torch.tensor([2.0, -1.0, 1.0]), 0.2)
    assert found.tolist() == pytest.approx([-2.4, 0.8, -1.1], rel=1e-5)


def test_at_the_old_policy_the_clipped_gradient_is_that_of_reinforce() -> None:
    logprob_R = torch.tensor([-1.0, -0.3, -2.0], requires_grad=True)
    advantage_R = torch.tensor([0.5, -1.5, 2.0])
    clipped_loss(logprob_R, logprob_R.detach(), advantage_R, 0.2).sum().backward()
    assert logprob_R.grad is not None
    assert torch.allclose(logprob_R.grad, -advantage_R)


def test_both_kl_estimates_have_the_divergence_as_their_mean() -> None:
    policy, reference = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    exact = float((policy * (policy / reference).log()).sum())
    for estimate in (sampled_kl, positive_kl):
        assert float((policy * estimate(policy.log(), reference.log())).sum()) == pytest.approx(exact, rel=1e-5)
    drawn = torch.tensor(np.random.default_rng(0).choice(3, 20_000, p=policy.double().numpy() / policy.double().sum().item()))
    assert float(sampled_kl(policy.log()[drawn], reference.log()[drawn]).mean()) == pytest.approx(exact, abs=0.02)
    assert (positive_kl(policy.log(), reference.log()) >= 0).all()
    assert (sampled_kl(policy.log(), reference.log()) < 0).any()


def test_leave_one_out_by_hand() -> None:
    assert leave_one_out(torch.tensor([[1.0, 2.0, 6.0]])).tolist()[0] == pytest.approx([1 - 4, 2 - 3.5, 6 - 1.5])


def test_groups_are_normalised_each_by_itself() -> None:
    found = group_normalised(torch.tensor([[1.0, 3.0], [10.0, 10.0]]))
    assert found[0].tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5], rel=1e-3)
    assert found[1].tolist() == [0, 0]
    assert torch.allclose(
        group_normalised(torch.tensor([[1.0, 3.0, 4.0]]) * 7 - 2), group_normalised(torch.tensor([[1.0, 3.0, 4.0]])), atol=1e-3
    )


def test_whitening_leaves_one_value_alone() -> None:
    found = whitened(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert float(found.mean()) == pytest.approx(0, abs=1e-6)
    assert float(found.std()) == pytest.approx(1, rel=1e-5)
    assert whitened(torch.tensor([5.0])).tolist() == [0]
    assert whitened(torch.tensor([2.0, 2.0])).tolist() == [0, 0]


def test_reply_sums() -> None:
    assert reply_sums(torch.tensor([1.0, 2.0, 3.0, 4.0]), [1, 3]).tolist() == [1, 9]


def test_the_dpo_loss_by_hand() -> None:
    found = dpo_loss(torch.tensor([-1.0]), torch.tensor([-2.0]), torch.tensor([-1.5]), torch.tensor([-1.0]), 0.5)
    assert float(found) == pytest.approx(math.log(1 + math.exp(-0.5 * (0.5 + 1.0))))
