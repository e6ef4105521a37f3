"""DPO: SFT warm start, then direct preference optimisation on the same kind of preferences as RLHF, without a reward model.

Rafailov et al. 2023 (arXiv 2305.18290). The warm start is the reference: its log-probabilities are computed once a pair, before training.
The loop is ours because TRL's DPOTrainer cannot stop inside a budget and evaluates the output head at every position without Triton; the
loss is tested against TRL's on the same batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from baselines.estimates import dpo_loss, reply_sums
from baselines.logprobs import MicroBatches, response_counts, token_logprobs
from baselines.preferences import Pair, PreferenceConfig, check_source, collect_preferences, tokenized
from baselines.stages import about_preferences, paid_for, read_first_part, top_up, warm_start, write_first_part, write_json
from harness.core.budget import Ledger
from harness.core.parts import train_in_parts
from harness.core.pool import TaskPool
from harness.errors import BudgetExceeded, CapReached, SpecError, TrainingError
from harness.models.examples import TokenizedExample, update_flops
from harness.models.student import Student

PAIRS = "pairs.jsonl"
"""Tokenised pairs with the reference's log-probabilities."""


class DPOConfig(PreferenceConfig):
    """Settings of DPO. Shares are of the whole budget; optimisation gets what the other parts leave, in as many epochs as that pays for."""

    beta: float = Field(default=0.1, gt=0)
    learning_rate: float = Field(default=1e-4, gt=0)
    batch_size: int = Field(default=8, ge=1)
    """Pairs a batch."""
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _something_left_to_optimise(self) -> DPOConfig:
        if self.warm_share + self.preference_share >= 1:
            raise ValueError("warm_share and preference_share must leave a share of the budget for optimisation")
        return self


@dataclass(frozen=True)
class ReferredPair:
    """A pair with the reference's log-probabilities of its two responses."""

    examples: Pair
    chosen: float
    rejected: float

    @property
    def width(self) -> int:
        """Tokens of the longer one."""
        return max(len(example.ids) for example in self.examples)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> ReferredPair:
        """What `dataclasses.asdict` and JSON made of one, as it was."""
        chosen, rejected = (
            TokenizedExample(tuple(one["ids"]), one["prompt_tokens"], one["text"] and tuple(one["text"])) for one in row["examples"]
        )
        return cls((chosen, rejected), row["chosen"], row["rejected"])


class DPO:
    """What preferences are worth without a reward model and without sampling during training."""

    name = "dpo"
    summary = "SFT warm start, then direct preference optimisation on annotators' preferences"
    Config = DPOConfig
    grid: ClassVar[dict[str, list[float]]] = {"finetune.learning_rate": [3e-4, 1e-3], "learning_rate": [3e-5, 1e-4]}

    later: ClassVar[tuple[str, ...]] = ("beta", "learning_rate", "batch_size", "warmup_share", "max_grad_norm")

    @staticmethod
    def first_share(config: DPOConfig) -> float:
        """Share of the budget up to direct optimisation."""
        return config.warm_share + config.preference_share

    def train(self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: DPOConfig, out: Path) -> Student:
        """Trains in place; writes preferences.json (pairs, agreement of the labels) to `out`.

        Raises:
            SpecError: the budget does not pay for a step of the warm start, for two pairs, or for a step on one of them.
            TrainingError: the preferences cannot be learnt from, or training diverged.
        """
        trained: Student = train_in_parts(self, student, pool, ledger, rng=rng, config=config, out=out)
        return trained

    def begin(self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: DPOConfig, out: Path) -> None:
        """Warm start, preferences and the reference's log-probabilities of them."""
        budget = ledger.remaining()
        data_rng, sample_rng, _ = rng.spawn(3)
        check_source(pool, rng=sample_rng)
        bought = warm_start(student, pool, ledger, config=config, budget=budget, rng=data_rng)
        found = collect_preferences(
            student,
            pool,
            ledger,
            max_flops=config.preference_share * budget,
            price=lambda pair: reference_flops(student, pair),
            config=config,
            rng=sample_rng,
        )
        write_json(out / "preferences.json", about_preferences(found, pool))
        with paid_for(f"the reference's log-probabilities of {len(found.pairs)} pairs", budget):
            pairs = referred(student, [tokenized(student, preference) for preference in found.pairs], ledger)
        (out / PAIRS).write_text("".join(json.dumps(asdict(pair)) + "\n" for pair in pairs), encoding="utf-8")
        write_first_part(out, bought, data=data_rng)

    def finish(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: DPOConfig, out: Path
    ) -> Student:
        """Optimisation on the pairs in `out`."""
        _, _, order_rng = rng.spawn(3)
        bought, streams = read_first_part(out)
        pairs = [ReferredPair.from_row(json.loads(line)) for line in (out / PAIRS).read_text(encoding="utf-8").splitlines()]
        if optimise_directly(student, pairs, ledger, config=config, rng=order_rng) == 0:
            message = f"too small: what is left after {len(pairs)} pairs does not pay for a step on one of them"
            raise SpecError(message, key="budget.train_flops", value=ledger.train_flops)
        top_up(student, bought, ledger, config=config, rng=streams["data"])
        return student


def reference_flops(student: Student, pair: Pair) -> float:
    """What the reference's log-probabilities of a pair will be charged."""
    assert student.meter is not None, "attach the student to a ledger first"
    width = max(len(example.ids) for example in pair)
    return student.meter.body_flops(len(pair), width) + student.meter.head_flops(sum(response_counts(pair)))


def referred(student: Student, pairs: Sequence[Pair], ledger: Ledger, *, batch_size: int = 8) -> list[ReferredPair]:
    """The pairs with the log-probabilities that the student, as it is now, gives their responses; charged to phase "reference"."""
    ordered = sorted(pairs, key=lambda pair: max(len(example.ids) for example in pair))
    batches = MicroBatches(ledger, batch_size)
    student.model.eval()

    def compute() -> list[ReferredPair]:
        found: list[ReferredPair] = []
        for part in batches.split(ordered):
            sums = sequence_logprobs(student, list(chain.from_iterable(part))).tolist()
            found += [ReferredPair(pair, sums[2 * row], sums[2 * row + 1]) for row, pair in enumerate(part)]
        return found

    with ledger.use_phase("reference"), torch.no_grad():
        return batches.attempt(compute, len(ordered))


def sequence_logprobs(student: Student, examples: Sequence[TokenizedExample]) -> torch.Tensor:
    """Log-probabilities (B,) of whole responses."""
    logprob_R, _ = token_logprobs(student, examples)
    return reply_sums(logprob_R, response_counts(examples))


def pair_losses(student: Student, pairs: Sequence[ReferredPair], beta: float) -> torch.Tensor:
    """The DPO loss of each pair (B,)."""
    logprob_B_2 = sequence_logprobs(student, [example for pair in pairs for example in pair.examples]).view(-1, 2)
    reference_B_2 = logprob_B_2.new_tensor([[pair.chosen, pair.rejected] for pair in pairs])
    return dpo_loss(logprob_B_2[:, 0], logprob_B_2[:, 1], reference_B_2[:, 0], reference_B_2[:, 1], beta)


def optimise_directly(
    student: Student, pairs: Sequence[ReferredPair], ledger: Ledger, *, config: DPOConfig, rng: np.random.Generator
) -> int:
    """Epochs over the pairs until the next batch, made smaller, no longer fits the budget. Returns the steps done.

    The learning rate follows the spend: linear warm-up, then linear decay to zero.
    """
    target_flops = ledger.remaining()
    optimizer = torch.optim.AdamW(student.trainable, lr=config.learning_rate, weight_decay=0.0)
    batches = MicroBatches(ledger)
    steps = 0
    student.model.train()
    with ledger.use_phase("update"):
        for batch in _epochs(pairs, config.batch_size, rng):
            fitting = batch
            while fitting and update_flops(student, [example for pair in fitting for example in pair.examples]) > ledger.remaining():
                fitting = fitting[:-1]
            if not fitting:
                break
            _set_rate(optimizer, config, 1 - ledger.remaining() / target_flops)
            try:
                losses = batches.attempt(lambda: _gradients(student, fitting, optimizer, batches, config), len(fitting))  # noqa: B023
            except CapReached:
                raise
            except BudgetExceeded:  # memory was short, and what was left did not pay for the batch again
                break
            norm = float(nn.utils.clip_grad_norm_(student.trainable, config.max_grad_norm))
            _check_finite("gradient's norm", norm, config)
            optimizer.step()
            steps += 1
            student.trained_on.update((pair.examples[0].text, None) for pair in fitting if pair.examples[0].text is not None)
            ledger.observe("dpo_loss", float(losses.mean()))
            ledger.observe("dpo_accuracy", float((losses < math.log(2)).float().mean()))
    optimizer.zero_grad()
    student.model.eval()
    return steps


def _gradients(
    student: Student, pairs: Sequence[ReferredPair], optimizer: torch.optim.Optimizer, batches: MicroBatches, config: DPOConfig
) -> torch.Tensor:
    """Adds the gradient of the batch's mean loss; returns the losses (B,)."""
    optimizer.zero_grad()
    found = []
    for part in batches.split(pairs):
        loss_B = pair_losses(student, part, config.beta)
        _check_finite("loss", float(loss_B.detach().sum()), config)
        (loss_B.sum() / len(pairs)).backward()  # type: ignore[no-untyped-call]
        found.append(loss_B.detach())
    return torch.cat(found)


def _epochs(pairs: Sequence[ReferredPair], size: int, rng: np.random.Generator) -> Iterator[list[ReferredPair]]:
    """Batches of similar length, endlessly; pairs of equal length meet in new company each epoch."""
    while True:
        order = sorted(rng.permutation(len(pairs)), key=lambda index: pairs[index].width)
        batches = [[pairs[index] for index in order[start : start + size]] for start in range(0, len(order), size)]
        yield from (batches[index] for index in rng.permutation(len(batches)))


def _set_rate(optimizer: torch.optim.Optimizer, config: DPOConfig, spent_share: float) -> None:
    warmup = config.warmup_share
    factor = max(spent_share / warmup, 0.1) if spent_share < warmup else (1 - spent_share) / (1 - warmup)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * factor


def _check_finite(what: str, value: float, config: DPOConfig) -> None:
    if not math.isfinite(value):
        rate = config.learning_rate
        raise TrainingError(f"dpo diverged: its {what} became {value} at learning_rate {rate:g}: lower it, to {rate / 3:.1g} for a start")
