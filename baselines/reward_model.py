"""A Bradley-Terry reward model: the student's body with a scalar head on the last token, trained on preferences.

Ouyang et al. 2022 (arXiv 2203.02155), eq. 1: loss = -log sigmoid(r(chosen) - r(rejected)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn.functional import logsigmoid

from harness.core.budget import Ledger
from harness.core.records import Preference
from harness.models.finetune import TokenizedExample, padded, tokenize
from harness.models.meter import meter
from harness.models.student import Student


class RewardConfig(BaseModel):
    """Settings of reward-model training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(default=5e-4, gt=0)
    batch_size: int = Field(default=8, ge=1)
    """Pairs a step."""
    epochs: int = Field(default=1, ge=1)
    held_out_share: float = Field(default=0.15, gt=0, lt=1)


@dataclass(frozen=True)
class RewardFit:
    """How well the model ranks pairs it was not trained on."""

    train_pairs: int
    held_out_pairs: int
    held_out_accuracy: float


class RewardModel(nn.Module):
    """r(conversation, response): a copy of the student's body (its trained part stays trainable) and a linear head.

    Rewards are standardised by the mean and standard deviation over the training responses, so that the KL coefficient has one scale.
    """

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = [student]  # in a list, so that the student is not a submodule
        self.body = _trainable_like(student)
        self.head = nn.Linear(self.body.config.get_text_config().hidden_size, 1, device=student.device)  # type: ignore[operator, union-attr]
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.mean, self.scale = 0.0, 1.0

    def attach(self, ledger: Ledger) -> None:
        """Charges what the model computes to `ledger`, as "reward model"."""
        meter(self.body, "reward model", ledger)
        meter(self.head, "reward model", ledger)

    def forward(self, examples: Sequence[TokenizedExample]) -> torch.Tensor:
        """Raw rewards (B,) in fp32 of tokenised (conversation, response) examples."""
        (student,) = self.student
        ids_B_T, mask_B_T, _ = padded(examples, student.pad_id, student.device)
        with student.autocast():
            hidden_B_T_D = self.body(input_ids=ids_B_T, attention_mask=mask_B_T, use_cache=False).last_hidden_state
        last_B = mask_B_T.sum(1) - 1
        rewards_B: torch.Tensor = self.head(hidden_B_T_D[torch.arange(len(examples)), last_B].float())[:, 0]
        return rewards_B

    def score(self, examples: Sequence[TokenizedExample]) -> torch.Tensor:
        """Standardised rewards (B,), without gradients."""
        self.eval()
        with torch.no_grad():
            return (self(examples) - self.mean) / self.scale


def _trainable_like(student: Student) -> nn.Module:
    """A copy of the body in which the same parameters are trainable."""
    return student.frozen_body(trainable=True)


def fit(
    model: RewardModel, preferences: Sequence[Preference], ledger: Ledger, *, config: RewardConfig, rng: np.random.Generator
) -> RewardFit:
    """Trains the reward model on all but a held-out share of the preferences; every pass is charged to phase "reward"."""
    (student,) = model.student
    pairs = [_tokenized_pair(student, preference) for preference in preferences]
    order = rng.permutation(len(pairs))
    n_held_out = min(len(pairs) - 1, max(1, round(len(pairs) * config.held_out_share)))
    held_out, train = [pairs[i] for i in order[:n_held_out]], [pairs[i] for i in order[n_held_out:]]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=config.learning_rate, weight_decay=0.0)
    raw: list[torch.Tensor] = []
    with ledger.use_phase("reward"):
        model.train()
        for _ in range(config.epochs):
            shuffled = [train[i] for i in rng.permutation(len(train))]
            for start in range(0, len(shuffled), config.batch_size):
                batch = shuffled[start : start + config.batch_size]
                rewards = model([chosen for chosen, _ in batch] + [rejected for _, rejected in batch])
                loss = -logsigmoid(rewards[: len(batch)] - rewards[len(batch) :]).mean()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                raw.append(rewards.detach())
                ledger.observe("reward_model_loss", float(loss.detach()))
        model.eval()
        with torch.no_grad():
            chosen = model([pair[0] for pair in held_out])
            rejected = model([pair[1] for pair in held_out])
    # The last half of training and the held-out pairs give the scale of a trained model's rewards, without another pass.
    seen = torch.cat([*raw[len(raw) // 2 :], chosen, rejected])
    model.mean, model.scale = float(seen.mean()), max(float(seen.std()), 1e-3)
    accuracy = float((chosen > rejected).float().mean())
    ledger.observe("reward_model_accuracy", accuracy)
    return RewardFit(len(train), len(held_out), accuracy)


def _tokenized_pair(student: Student, preference: Preference) -> tuple[TokenizedExample, TokenizedExample]:
    conversation = [{"role": "user", "content": preference.instruction.text}]
    return tokenize(student, conversation, preference.chosen), tokenize(student, conversation, preference.rejected)
