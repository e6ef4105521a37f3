"""A Bradley-Terry reward model: the student's body with a scalar head on its last hidden states, trained on preferences.

Ouyang et al. 2022 (arXiv 2203.02155), eq. 1: loss = -log sigmoid(r(chosen) - r(rejected)). Differs: the head sees the last token's state
and the mean over the response's tokens, and is by default fitted alone, by ridge logistic regression, on the frozen warm start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import logsigmoid

from baselines.config import RewardConfig
from baselines.logprobs import MicroBatches
from baselines.preferences import Pair, tokenized
from harness.core.budget import Ledger
from harness.core.records import Preference
from harness.errors import TrainingError
from harness.models.examples import TokenizedExample, padded
from harness.models.meter import Meter, meter
from harness.models.student import Student


@dataclass(frozen=True)
class RewardFit:
    """How well the model ranks pairs it was not trained on: the held-out preferences, and by how much the chosen one leads in each."""

    train_pairs: int
    held_out: list[Preference] = field(repr=False)
    margins: list[float] = field(repr=False)

    @property
    def held_out_accuracy(self) -> float:
        """Share of held-out pairs in which the chosen response is rated higher; a tie is no hit."""
        return float(np.mean([margin > 0 for margin in self.margins]))

    def summary(self) -> dict[str, Any]:
        """What reward_model.json tells of it."""
        return {"train_pairs": self.train_pairs, "held_out_pairs": len(self.held_out), "held_out_accuracy": self.held_out_accuracy}


class RewardModel(nn.Module):
    """r(conversation, response): a copy of the student's body and a linear head on its features of the response.

    Rewards are standardised over the responses it was fitted on, so that the KL coefficient has one scale.
    """

    def __init__(self, student: Student, config: RewardConfig) -> None:
        super().__init__()
        self.student = [student]  # in a list, so that the student is not a submodule
        self.body = student.frozen_body(trainable=config.train_body)
        size = 2 * student.model.config.get_text_config().hidden_size
        self.head = nn.Linear(size, 1, device=student.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("center", torch.zeros(size, device=student.device))
        self.register_buffer("spread", torch.ones(size, device=student.device))
        self.mean, self.scale = 0.0, 1.0
        self.meters: list[Meter] = []

    center: torch.Tensor
    spread: torch.Tensor

    def attach(self, ledger: Ledger) -> None:
        """Charges what the model computes to `ledger`, as "reward model" (and to no other)."""
        for old in self.meters:
            old.detach()
        self.meters = [meter(part, "reward model", ledger) for part in (self.body, self.head)]

    def features(self, examples: Sequence[TokenizedExample]) -> torch.Tensor:
        """Features (B, 2 D) in fp32 of tokenised (conversation, response) examples: the last state, and the response's mean state."""
        (student,) = self.student
        ids_B_T, mask_B_T, target_B_T = padded(examples, student.pad_id, student.device)
        with student.autocast():
            hidden_B_T_D = self.body(input_ids=ids_B_T, attention_mask=mask_B_T, use_cache=False).last_hidden_state.float()
        last_B = mask_B_T.sum(1) - 1
        response_B_T_1 = target_B_T.roll(1, dims=1)[..., None].float()
        mean_B_D = (hidden_B_T_D * response_B_T_1).sum(1) / response_B_T_1.sum(1)
        return torch.cat([hidden_B_T_D[torch.arange(len(examples)), last_B], mean_B_D], 1)

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


def save_reward_model(model: RewardModel, path: Path) -> None:
    """Writes what fitting has changed of the model, as safetensors: the head, its scales and (`train_body`) the body's trained weights."""
    save_file(
        {
            **{name: weight.detach().cpu().contiguous() for name, weight in model.named_parameters() if weight.requires_grad},
            **{name: buffer.cpu() for name, buffer in (("center", model.center), ("spread", model.spread))},
            "standard": torch.tensor([model.mean, model.scale], dtype=torch.float64),
        },
        path,
    )


def restore_reward_model(student: Student, config: RewardConfig, path: Path) -> RewardModel:
    """The model that `save_reward_model` wrote, on the student that it was fitted on, whose weights must be what they were then."""
    with torch.random.fork_rng():  # the head's initialisation, which is overwritten, must not shift what is drawn later
        model, saved = RewardModel(student, config), load_file(path)
    model.mean, model.scale = saved.pop("standard").tolist()
    with torch.no_grad():
        model.center, model.spread = (saved.pop(name).to(student.device) for name in ("center", "spread"))
        weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        assert weights.keys() == saved.keys(), weights.keys() ^ saved.keys()
        for name, weight in weights.items():
            weight.copy_(saved[name])
    return model


def pair_flops(student: Student, pair: Pair, config: RewardConfig) -> float:
    """What one preference pair will cost in reward-model training (heads, thousands of times smaller, left out)."""
    assert student.meter is not None, "attach the student to a ledger first"
    width = max(len(example.ids) for example in pair)
    passes = config.epochs if config.train_body else 1
    return passes * student.meter.body_flops(len(pair), width, grad=config.train_body)


def fit(
    model: RewardModel, preferences: Sequence[Preference], ledger: Ledger, *, config: RewardConfig, rng: np.random.Generator
) -> RewardFit:
    """Fits the reward model to all but a held-out share of the preferences; every pass is charged to phase "reward".

    All pairs of a prompt are on one side, so that held-out ones are of prompts that it never saw (but where all are of one prompt).

    Raises:
        TrainingError: the loss is not finite, or memory does not hold one pair.
    """
    assert len(preferences) >= 2, len(preferences)
    (student,) = model.student
    pairs = [tokenized(student, preference) for preference in preferences]
    parts = split_by_prompt([preference.instruction.text for preference in preferences], config.held_out_share, rng=rng)
    # By length, so that little of the charge is padding; training of the body shuffles anew.
    held_out, train = (sorted(part, key=lambda index: _width(pairs[index])) for part in parts)
    fitting = _Fitting(model, ledger, config)
    with ledger.use_phase("reward"):
        chosen = [pairs[index] for index in train]
        seen = fitting.train_all(chosen, rng) if config.train_body else fitting.fit_head(chosen)
        margins = fitting.margins([pairs[index] for index in held_out])
    model.mean, model.scale = float(seen.mean()), max(float(seen.std()), 1e-3)
    found = RewardFit(len(train), [preferences[index] for index in held_out], margins)
    ledger.observe("reward_model_accuracy", found.held_out_accuracy)
    return found


def split_by_prompt(prompts: Sequence[str], held_out_share: float, *, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Places of the held-out pairs and of the others, neither empty; all pairs of a prompt on one side, unless there is but one prompt.

    Prompts are held out in random order as long as their pairs do not come to more than the share; if none fits, the rarest one is.
    """
    assert len(prompts) >= 2, len(prompts)
    single = len(set(prompts)) == 1
    by_prompt: dict[object, list[int]] = {}
    for place, prompt in enumerate(prompts):
        by_prompt.setdefault(place if single else prompt, []).append(place)
    groups = [places for _, places in sorted(zip(rng.permutation(len(by_prompt)), by_prompt.values(), strict=True))]
    wanted = max(1, round(len(prompts) * held_out_share))
    held_out: list[int] = []
    train: list[int] = []
    for places in groups[:-1]:  # one is left to train on
        (held_out if len(held_out) + len(places) <= wanted else train).extend(places)
    train += groups[-1]
    if not held_out:
        held_out = min(groups, key=len)
        train = [place for place in train if place not in held_out]
    return held_out, train


def fit_head(model: RewardModel, chosen_B_D: torch.Tensor, rejected_B_D: torch.Tensor, *, ridge: float) -> list[float]:
    """Ridge logistic regression on the differences of features, by L-BFGS; returns the mean loss (nats a pair) at each evaluation."""
    both = torch.cat([chosen_B_D, rejected_B_D])
    model.center = both.mean(0)
    model.spread = (both.std(0) + 1e-6) * both.shape[1] ** 0.5
    optimizer = torch.optim.LBFGS(model.head.parameters(), max_iter=60, line_search_fn="strong_wolfe")
    losses: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = -logsigmoid(model.from_features(chosen_B_D) - model.from_features(rejected_B_D)).mean()
        losses.append(float(loss.detach()))
        penalty: torch.Tensor = ridge * model.head.weight.square().sum() / len(chosen_B_D)
        (loss + penalty).backward()  # type: ignore[no-untyped-call]
        return loss + penalty

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return losses


class _Fitting:
    """One fit: batches of pairs, as many at once as memory holds."""

    def __init__(self, model: RewardModel, ledger: Ledger, config: RewardConfig) -> None:
        self.model, self.ledger, self.config = model, ledger, config
        self.batches = MicroBatches(ledger, config.batch_size)

    def _sides(self, pairs: Sequence[Pair], compute: nn.Module | Any) -> tuple[torch.Tensor, torch.Tensor]:
        """What `compute` makes of the chosen and of the rejected responses, without gradients."""
        self.model.eval()

        def both() -> tuple[torch.Tensor, torch.Tensor]:
            with torch.no_grad():
                chosen, rejected = (torch.cat([compute(part) for part in self.batches.split(side)]) for side in zip(*pairs, strict=True))
            return chosen, rejected

        return self.batches.attempt(both, len(pairs))

    def margins(self, pairs: Sequence[Pair]) -> list[float]:
        """By how much each chosen response leads."""
        chosen, rejected = self._sides(pairs, self.model)
        margins: list[float] = (chosen - rejected).tolist()
        return margins

    def fit_head(self, train: Sequence[Pair]) -> torch.Tensor:
        """The head alone, on frozen features; returns the training rewards."""
        chosen_B_D, rejected_B_D = self._sides(train, self.model.features)
        for loss in fit_head(self.model, chosen_B_D, rejected_B_D, ridge=self.config.ridge):
            self._observe(loss)
        with torch.no_grad():
            return self.model.from_features(torch.cat([chosen_B_D, rejected_B_D]))

    def train_all(self, train: Sequence[Pair], rng: np.random.Generator) -> torch.Tensor:
        """AdamW on head and body; returns the rewards of the last half of training, as an estimate of the trained model's."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.config.learning_rate, weight_decay=0.0)
        seen: list[torch.Tensor] = []
        size = self.config.batch_size
        self.model.train()
        for _ in range(self.config.epochs):
            order = rng.permutation(len(train))
            for start in range(0, len(order), size):
                batch = [train[index] for index in order[start : start + size]]
                seen.append(self.batches.attempt(lambda: self._gradients(batch, optimizer), len(batch)))  # noqa: B023
                nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                optimizer.zero_grad()
        return torch.cat(seen[len(seen) // 2 :])

    def _gradients(self, batch: Sequence[Pair], optimizer: torch.optim.Optimizer) -> torch.Tensor:
        """Adds the gradient of the batch's mean loss; returns its rewards."""
        optimizer.zero_grad()
        rewards, total = [], 0.0
        for part in self.batches.split(batch):
            reward_B = self.model([chosen for chosen, _ in part] + [rejected for _, rejected in part])
            loss = -logsigmoid(reward_B[: len(part)] - reward_B[len(part) :]).sum() / len(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            rewards.append(reward_B.detach())
            total += float(loss.detach())
        self._observe(total)
        return torch.cat(rewards)

    def _observe(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(f"the reward model diverged: its loss became {loss} (reward.learning_rate {self.config.learning_rate:g})")
        self.ledger.observe("reward_model_loss", loss)


def _width(pair: Pair) -> int:
    return max(len(example.ids) for example in pair)
