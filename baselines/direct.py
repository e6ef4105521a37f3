"""Direct preference optimisation (DPO): pairs with the reference's log-probabilities, and the loop over them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from baselines.estimates import dpo_loss, reply_sums
from baselines.logprobs import MicroBatches, response_counts, token_logprobs
from baselines.preferences import Pair
from harness.core.budget import Ledger
from harness.errors import BudgetExceeded, CapReached, TrainingError
from harness.models.examples import TokenizedExample, update_flops
from harness.models.student import Student

if TYPE_CHECKING:
    from baselines.dpo import DPOConfig


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
