"""What the three policy optimisers make of a batch of rewarded replies: advantages, and the loss of each sampled token."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from baselines.config import OptimiseConfig
from baselines.estimates import (
    clipped_loss,
    generalised_advantages,
    group_normalised,
    leave_one_out,
    positive_kl,
    reply_sums,
    sampled_kl,
    whitened,
)
from baselines.logprobs import response_counts
from harness.models.examples import TokenizedExample


@dataclass(frozen=True)
class Rollout:
    """Sampled replies with what an update needs of them: B = P k replies, prompt after prompt, of R sampled tokens in all."""

    examples: list[TokenizedExample]
    prompts: int
    reward_B: torch.Tensor
    reference_R: torch.Tensor

    @property
    def counts(self) -> list[int]:
        """Sampled tokens of each reply."""
        return response_counts(self.examples)


@dataclass(frozen=True)
class Targets:
    """What the tokens of a batch are trained towards, fixed in the first epoch; all (R,).

    Attributes:
        old_R: log-probabilities before the first update.
        kl_R: sampled KL to the reference before the first update.
        return_R: value targets, None without a value head.
    """

    advantage_R: torch.Tensor
    old_R: torch.Tensor
    reference_R: torch.Tensor
    kl_R: torch.Tensor
    return_R: torch.Tensor | None = None

    def of(self, tokens: slice) -> Targets:
        """The same for some of the tokens."""
        return_R = self.return_R[tokens] if self.return_R is not None else None
        return Targets(self.advantage_R[tokens], self.old_R[tokens], self.reference_R[tokens], self.kl_R[tokens], return_R)


def make_targets(config: OptimiseConfig, rollout: Rollout, logprob_R: torch.Tensor, value_R: torch.Tensor) -> Targets:
    """Advantages and value targets from rewards, from log-probabilities before any update, and (PPO only) from values."""
    counts, reward_B = rollout.counts, rollout.reward_B.to(logprob_R)
    kl_R = sampled_kl(logprob_R, rollout.reference_R)
    return_R = None
    if config.algorithm == "ppo":
        reward_R = -config.kl_coefficient * kl_R
        last_B = torch.tensor(counts, device=reward_R.device).cumsum(0) - 1
        reward_R[last_B] += reward_B
        advantage_R, return_R = generalised_advantages(reward_R, value_R, counts, decay=config.ppo.advantage_decay)
        advantage_R = whitened(advantage_R)
    else:
        if config.algorithm == "rloo":
            penalised_B = reward_B - config.kl_coefficient * reply_sums(kl_R, counts)
            advantage_P_k = leave_one_out(penalised_B.view(rollout.prompts, -1))
        else:
            advantage_P_k = group_normalised(reward_B.view(rollout.prompts, -1))
        advantage_R = advantage_P_k.flatten().repeat_interleave(torch.tensor(counts, device=logprob_R.device))
    return Targets(advantage_R, logprob_R, rollout.reference_R, kl_R, return_R)


def token_losses(config: OptimiseConfig, logprob_R: torch.Tensor, value_R: torch.Tensor | None, targets: Targets) -> torch.Tensor:
    """The loss of each token (R,); a step minimises their mean."""
    if config.algorithm == "rloo":
        return -targets.advantage_R * logprob_R
    if config.algorithm == "grpo":
        surrogate_R = clipped_loss(logprob_R, targets.old_R, targets.advantage_R, config.grpo.clip)
        return surrogate_R + config.kl_coefficient * positive_kl(logprob_R, targets.reference_R)
    assert value_R is not None, "PPO needs values"
    assert targets.return_R is not None, "PPO needs value targets"
    surrogate_R = clipped_loss(logprob_R, targets.old_R, targets.advantage_R, config.ppo.clip)
    return surrogate_R + config.ppo.value_coefficient * 0.5 * (value_R - targets.return_R).square()
