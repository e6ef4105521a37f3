"""A Bradley-Terry reward model: the student's body with a scalar head on the last token, trained on preferences.

Ouyang et al. 2022 (arXiv 2203.02155), eq. 1: loss = -log sigmoid(r(chosen) - r(rejected)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

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

    train_body: bool = False
    """False fits only the head, on the frozen warm start's features: a quarter of the compute per pair, so at small budgets several times
    as many pairs, each used to convergence. True trains the body's adapters (or weights) too."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """With `train_body`."""
    batch_size: int = Field(default=8, ge=1)
    """Pairs a batch."""
    epochs: int = Field(default=1, ge=1)
    """With `train_body`."""
    ridge: float = Field(default=0.05, gt=0)
    """L2 penalty of a head fitted on frozen features (standardised, and scaled to norm about 1)."""
    held_out_share: float = Field(default=0.15, gt=0, lt=1)


Pair = tuple[TokenizedExample, TokenizedExample]
T = TypeVar("T")


@dataclass(frozen=True)
class RewardFit:
    """How well the model ranks pairs it was not trained on."""

    train_pairs: int
    held_out_pairs: int
    held_out_accuracy: float


class RewardModel(nn.Module):
    """r(conversation, response): a copy of the student's body and a linear head on the last token's features.

    Rewards are standardised over the responses it was fitted on, so that the KL coefficient has one scale.
    """

    def __init__(self, student: Student, *, train_body: bool) -> None:
        super().__init__()
        self.student = [student]  # in a list, so that the student is not a submodule
        self.body = student.frozen_body(trainable=train_body)
        size = student.model.config.get_text_config().hidden_size
        self.head = nn.Linear(size, 1, device=student.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("center", torch.zeros(size, device=student.device))
        self.register_buffer("spread", torch.ones(size, device=student.device))
        self.mean, self.scale = 0.0, 1.0

    center: torch.Tensor
    spread: torch.Tensor

    def attach(self, ledger: Ledger) -> None:
        """Charges what the model computes to `ledger`, as "reward model"."""
        meter(self.body, "reward model", ledger)
        meter(self.head, "reward model", ledger)

    def features(self, examples: Sequence[TokenizedExample]) -> torch.Tensor:
        """Last-token features (B, D) in fp32 of tokenised (conversation, response) examples."""
        (student,) = self.student
        ids_B_T, mask_B_T, _ = padded(examples, student.pad_id, student.device)
        with student.autocast():
            hidden_B_T_D = self.body(input_ids=ids_B_T, attention_mask=mask_B_T, use_cache=False).last_hidden_state
        last_B = mask_B_T.sum(1) - 1
        features_B_D: torch.Tensor = hidden_B_T_D[torch.arange(len(examples)), last_B].float()
        return features_B_D

    def from_features(self, features_B_D: torch.Tensor) -> torch.Tensor:
        """Raw rewards (B,) of features."""
        rewards_B: torch.Tensor = self.head((features_B_D - self.center) / self.spread)[:, 0]
        return rewards_B

    def forward(self, examples: Sequence[TokenizedExample]) -> torch.Tensor:
        """Raw rewards (B,)."""
        return self.from_features(self.features(examples))

    def score(self, examples: Sequence[TokenizedExample]) -> torch.Tensor:
        """Standardised rewards (B,), without gradients."""
        self.eval()
        with torch.no_grad():
            rewards_B: torch.Tensor = (self(examples) - self.mean) / self.scale
            return rewards_B


def pair_flops(student: Student, pair: Sequence[TokenizedExample], config: RewardConfig) -> float:
    """What one preference pair will cost in reward-model training (heads, thousands of times smaller, left out)."""
    assert student.meter is not None, "attach the student to a ledger first"
    width = max(len(example.ids) for example in pair)
    passes = config.epochs if config.train_body else 1
    return passes * student.meter.body_flops(len(pair), width, grad=config.train_body)


def fit(
    model: RewardModel, preferences: Sequence[Preference], ledger: Ledger, *, config: RewardConfig, rng: np.random.Generator
) -> RewardFit:
    """Fits the reward model to all but a held-out share of the preferences; every pass is charged to phase "reward"."""
    assert len(preferences) >= 2, len(preferences)
    (student,) = model.student
    pairs = [_tokenized_pair(student, preference) for preference in preferences]
    order = rng.permutation(len(pairs))
    n_held_out = min(len(pairs) - 1, max(1, round(len(pairs) * config.held_out_share)))
    # By length, so that little of the charge is padding; training of the body shuffles anew.
    held_out, train = (sorted((pairs[i] for i in part), key=_width) for part in (order[:n_held_out], order[n_held_out:]))
    with ledger.use_phase("reward"):
        seen = _train_all(model, train, ledger, config, rng) if config.train_body else _fit_head(model, train, ledger, config)
        model.eval()
        with torch.no_grad():
            chosen, rejected = (torch.cat([model(batch) for batch in _batches(side, config)]) for side in zip(*held_out, strict=True))
    model.mean, model.scale = float(seen.mean()), max(float(seen.std()), 1e-3)
    accuracy = float((chosen > rejected).float().mean())
    ledger.observe("reward_model_accuracy", accuracy)
    return RewardFit(len(train), len(held_out), accuracy)


def _fit_head(model: RewardModel, train: list[Pair], ledger: Ledger, config: RewardConfig) -> torch.Tensor:
    """Ridge logistic regression on the features' differences, by L-BFGS; returns the training rewards."""
    model.eval()
    with torch.no_grad():
        chosen, rejected = (torch.cat([model.features(batch) for batch in _batches(side, config)]) for side in zip(*train, strict=True))
    both = torch.cat([chosen, rejected])
    model.center = both.mean(0)
    model.spread = (both.std(0) + 1e-6) * both.shape[1] ** 0.5
    optimizer = torch.optim.LBFGS(model.head.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        margin = model.from_features(chosen) - model.from_features(rejected)
        loss = -logsigmoid(margin).mean() + config.ridge * model.head.weight.square().sum() / len(train)
        loss.backward()  # type: ignore[no-untyped-call]
        ledger.observe("reward_model_loss", float(-logsigmoid(margin.detach()).mean()))
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return model.from_features(both)


def _train_all(model: RewardModel, train: list[Pair], ledger: Ledger, config: RewardConfig, rng: np.random.Generator) -> torch.Tensor:
    """AdamW on head and body; returns the rewards of the last half of training, as an estimate of the trained model's."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.0)
    seen: list[torch.Tensor] = []
    model.train()
    for _ in range(config.epochs):
        for batch in _batches([train[i] for i in rng.permutation(len(train))], config):
            rewards = model([chosen for chosen, _ in batch] + [rejected for _, rejected in batch])
            loss = -logsigmoid(rewards[: len(batch)] - rewards[len(batch) :]).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            seen.append(rewards.detach())
            ledger.observe("reward_model_loss", float(loss.detach()))
    return torch.cat(seen[len(seen) // 2 :])


def _batches(items: Sequence[T], config: RewardConfig) -> list[Sequence[T]]:
    return [items[start : start + config.batch_size] for start in range(0, len(items), config.batch_size)]


def _width(pair: Pair) -> int:
    return max(len(example.ids) for example in pair)


def _tokenized_pair(student: Student, preference: Preference) -> Pair:
    conversation = [{"role": "user", "content": preference.instruction.text}]
    return tokenize(student, conversation, preference.chosen), tokenize(student, conversation, preference.rejected)
