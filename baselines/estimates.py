"""The arithmetic of policy optimisation: KL estimates, advantages and the clipped objective. Pure functions of tensors.

Tokens are R response tokens of B replies, reply after reply; `counts` says how many belong to each. Groups are P prompts of k replies.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import logsigmoid


def reply_sums(value_R: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Sums over each reply's tokens: (B,)."""
    return torch.stack([part.sum() for part in torch.split(value_R, list(counts))])


def sampled_kl(logprob_R: torch.Tensor, reference_R: torch.Tensor) -> torch.Tensor:
    """log(policy / reference) of the sampled tokens; its mean under the policy is the KL divergence, single values may be negative."""
    return logprob_R - reference_R


def positive_kl(logprob_R: torch.Tensor, reference_R: torch.Tensor) -> torch.Tensor:
    """The KL estimate ratio - 1 - log(ratio), ratio = reference / policy: unbiased and never negative (Shao et al. 2024, eq. 4)."""
    log_ratio_R = reference_R - logprob_R
    return torch.exp(log_ratio_R) - 1 - log_ratio_R


def leave_one_out(reward_P_k: torch.Tensor) -> torch.Tensor:
    """Each reply's reward minus the mean of its siblings' (Ahmadian et al. 2024, arXiv 2402.14740)."""
    k = reward_P_k.shape[1]
    assert k > 1, "no sibling to compare with"
    return (reward_P_k - reward_P_k.mean(1, keepdim=True)) * k / (k - 1)


def group_normalised(reward_P_k: torch.Tensor) -> torch.Tensor:
    """Rewards minus their group's mean, in units of its standard deviation; 0 where all are equal (Shao et al. 2024, arXiv 2402.03300)."""
    assert reward_P_k.shape[1] > 1, "no sibling to compare with"
    return (reward_P_k - reward_P_k.mean(1, keepdim=True)) / (reward_P_k.std(1, keepdim=True) + 1e-4)


def generalised_advantages(
    reward_R: torch.Tensor, value_R: torch.Tensor, counts: Sequence[int], *, decay: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantage estimates and value targets, undiscounted (Schulman et al. 2016, arXiv 1506.02438, eq. 16, gamma = 1).

    A_t = sum_l decay^l (r_{t+l} + V_{t+l+1} - V_{t+l}), with V = 0 after a reply's last token. Value targets are A + V.

    Args:
        reward_R: reward of each token; value_R: value of the state that each token was sampled in.
        decay: lambda; 0 trusts the values, 1 the rewards alone.
    Returns:
        Advantages (R,) and value targets (R,).
    """
    rewards, values = reward_R.tolist(), value_R.tolist()
    found: list[float] = []
    end = len(rewards)
    for count in reversed(counts):
        carried = following = 0.0
        for token in range(end - 1, end - count - 1, -1):
            carried = rewards[token] + following - values[token] + decay * carried
            following = values[token]
            found.append(carried)
        end -= count
    advantage_R = torch.tensor(found[::-1], dtype=reward_R.dtype, device=reward_R.device)
    return advantage_R, advantage_R + value_R


def whitened(value_R: torch.Tensor) -> torch.Tensor:
    """Mean 0 and variance 1; all 0 where there is one value or no spread."""
    if len(value_R) < 2:
        return torch.zeros_like(value_R)
    return (value_R - value_R.mean()) / (value_R.std() + 1e-8)


def clipped_loss(logprob_R: torch.Tensor, old_R: torch.Tensor, advantage_R: torch.Tensor, clip: float) -> torch.Tensor:
    """PPO's clipped surrogate per token, to be minimised (Schulman et al. 2017, arXiv 1707.06347, eq. 7).

    Its gradient is 0 where the probability ratio has left [1 - clip, 1 + clip] in the direction that the advantage asks for.
    """
    ratio_R = torch.exp(logprob_R - old_R)
    return -torch.minimum(ratio_R * advantage_R, ratio_R.clamp(1 - clip, 1 + clip) * advantage_R)


def dpo_loss(
    chosen_B: torch.Tensor, rejected_B: torch.Tensor, reference_chosen_B: torch.Tensor, reference_rejected_B: torch.Tensor, beta: float
) -> torch.Tensor:
    """-log sigmoid(beta (log-ratio of chosen - log-ratio of rejected)) per pair (Rafailov et al. 2023, arXiv 2305.18290, eq. 7)."""
    return -logsigmoid(beta * ((chosen_B - reference_chosen_B) - (rejected_B - reference_rejected_B)))
