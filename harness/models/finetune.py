"""Supervised fine-tuning: the one implementation that every method uses.

Completion-only token-mean cross-entropy over the whole batch, AdamW, batches of similar length. Differs from TRL's SFTTrainer where the
comparison needs it: the output head is evaluated at completion tokens only on every device (TRL evaluates all positions without Triton:
about a quarter more compute for a 135M model with short answers), the learning rate follows the *spend* (linear warm-up, then linear to
zero), and the last update is made of the examples whose prices come closest to what is left, so that the budget is met and not overrun.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from harness.core.budget import Ledger
from harness.core.records import Message
from harness.errors import SpecError, TrainingError
from harness.models.closing import fullest
from harness.models.examples import (
    TokenizedExample,
    arrange,
    check_packable,
    padded,
    response_logits,
    row_tensors,
    tokenize,
    update_flops,
)
from harness.models.finetune_config import FinetuneConfig, Layout
from harness.models.memory import is_out_of_memory
from harness.models.meter import known_forward
from harness.models.stream import Stream
from harness.models.student import Student

__all__ = ["FinetuneConfig", "FinetuneResult", "TokenizedExample", "finetune", "padded", "response_logits", "tokenize", "update_flops"]

ONE_BY_ONE = Layout(micro_batch_size=1)
"""Of the last update: without padding, the prices of its examples add up."""


@dataclass(frozen=True)
class FinetuneResult:
    """What a fine-tuning run did. `too_long` and `empty` examples were left out; `micro_batch_size` is what memory held."""

    steps: int
    examples: int
    too_long: int
    first_loss: float
    last_loss: float
    empty: int = 0
    micro_batch_size: int | None = None


def finetune(
    student: Student,
    examples: Iterable[tuple[Sequence[Message], str]],
    ledger: Ledger,
    *,
    config: FinetuneConfig,
    rng: np.random.Generator,
    max_flops: float | None = None,
    curve: str = "loss",
    must_step: bool = False,
) -> FinetuneResult:
    """Trains the student in place until `max_flops` are spent. What it left out or had to change is noted in the ledger.

    Args:
        examples: (conversation, response) pairs. A sequence is repeated, shuffled anew each epoch; an iterator is drawn once, not a
            batch further than the budget lasts (each draw may buy a label), and ends training when it does.
        max_flops: defaults to what the ledger has left.
        must_step: a budget that does not pay for one example is an error, and not a stage of no steps.
    Returns:
        Steps, examples seen, examples left out as too long or empty, first and last batch loss (nats per response token).
    Raises:
        SpecError: `must_step`, and no example can be paid for.
        TrainingError: there is nothing to train on, loss or gradient are not finite, or memory does not hold one example.
    """
    target_flops = ledger.remaining() if max_flops is None else min(max_flops, ledger.remaining())
    assert math.isfinite(target_flops), "fine-tuning needs a budget"
    if config.packing:
        check_packable(student)
    started_at = ledger.spent(ledger.account)
    trainer = Trainer(student, config, curve)
    losses: list[float] = []
    seen, cheapest = 0, math.inf

    def left_flops() -> float:
        return target_flops - (ledger.spent(ledger.account) - started_at)

    stream = Stream(student, examples, config.batch_size, config.max_tokens, rng, left_flops, by_length=not config.packing)
    repeats = isinstance(examples, Sequence)
    student.model.train()
    with ledger.use_phase("update"):
        for window in stream:
            fitting: list[TokenizedExample] = []
            rest: list[TokenizedExample] = []
            for place, batch in enumerate(window):
                fitting, layout, loss = batch, None, None
                while fitting and loss is None:
                    left = left_flops()
                    if update_flops(student, fitting, layout or trainer.layout) > left:
                        # Of a sequence, which is repeated anyway, those that the window has used already may stand there again.
                        rest = [example for later in window[0 if repeats else place :] for example in later]
                        layout = ONE_BY_ONE
                        prices = [update_flops(student, [example], layout) for example in rest]
                        cheapest = min(cheapest, *prices)
                        fitting = [rest[index] for index in fullest(prices, left)]
                    if fitting:
                        loss = trainer.step(fitting, spent_share=1 - left / target_flops, layout=layout)
                if loss is not None:
                    losses.append(loss)
                    seen += len(fitting)
                    student.trained_on.update((example.text, None) for example in fitting if example.text is not None)
                    ledger.observe(curve, loss)
                if rest:
                    break
            if len(fitting) < len(rest):
                break
    student.model.eval()
    _report(stream, trainer, ledger, config, curve)
    if not losses:
        _why_no_step(stream, config, ledger, must_step, target_flops, cheapest)
    first, last = (losses[0], losses[-1]) if losses else (math.nan, math.nan)
    guessing = math.log(student.model.config.get_text_config().vocab_size)
    if last > max(first, guessing):
        ledger.note(
            f"{curve}: rose from {first:.3g} to {last:.3g} nats a token, worse than guessing ({guessing:.3g}): the student is spoilt; "
            f"lower learning_rate (now {config.learning_rate:g})"
        )
    return FinetuneResult(len(losses), seen, stream.too_long, first, last, stream.empty, trainer.layout.micro_batch_size)


class Trainer:
    """Optimiser and layout of one fine-tuning run; `step` makes one update.

    Attributes:
        layout: how batches are computed; memory may have made its micro-batches smaller than the configured ones.
    """

    def __init__(self, student: Student, config: FinetuneConfig, curve: str = "loss") -> None:
        self.student, self.config, self.curve, self.layout = student, config, curve, config.layout
        self.optimizer = torch.optim.AdamW(student.trainable, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.steps = 0
        self._last_loss = math.nan

    def step(self, batch: Sequence[TokenizedExample], *, spent_share: float, layout: Layout | None = None) -> float | None:
        """One update at the rate for this share of the spend; returns the loss (nats per response token).

        None: memory did not hold the batch. Nothing has changed but the layout, which now computes fewer rows at once, and the ledger,
        which has charged the attempt.

        Args:
            layout: how the batch is computed, if not as the others are.
        """
        self._set_rate(spent_share)
        try:
            value = self._gradients(batch, layout or self.layout)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._make_smaller(batch, error)
            value = None
        if value is None:
            # Here and not above: the error's traceback holds the activations.
            self.optimizer.zero_grad()
            if self.student.device.type == "cuda":
                torch.cuda.empty_cache()
            return None
        norm = float(torch.nn.utils.clip_grad_norm_(self.student.trainable, self.config.max_grad_norm))
        self._check_finite("gradient's norm", norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps, self._last_loss = self.steps + 1, value
        return value

    def _gradients(self, batch: Sequence[TokenizedExample], layout: Layout) -> float:
        """Adds the gradient of the batch's loss, the mean over all its response tokens; returns the loss."""
        student = self.student
        assert student.meter is not None, "attach the student to a ledger first"
        total = sum(len(example.ids) - example.prompt_tokens for example in batch)
        value = 0.0
        for rows in arrange(student, batch, layout):
            tensors = row_tensors(rows, student.pad_id, student.device)
            labels_R = tensors.ids_B_T.roll(-1, dims=1)[tensors.target_B_T]
            with student.autocast(), known_forward(padding=tensors.padding):
                logits_R_V = response_logits(
                    student, tensors.ids_B_T, tensors.mask_B_T, tensors.target_B_T, position_B_T=tensors.position_B_T
                )
                loss = cross_entropy(logits_R_V, labels_R, reduction="sum") / total
            value += float(loss.detach())
            self._check_finite("loss", value)
            loss.backward()  # type: ignore[no-untyped-call]
        return value

    def _set_rate(self, spent_share: float) -> None:
        """Linear warm-up, then linear decay to zero, over the share of the target spend that is used."""
        warmup = self.config.warmup_share
        factor = max(spent_share / warmup, 0.1) if spent_share < warmup else (1 - spent_share) / (1 - warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor

    def _check_finite(self, what: str, value: float) -> None:
        if math.isfinite(value):
            return
        rate = self.optimizer.param_groups[0]["lr"]
        before = f", after a loss of {self._last_loss:.3g}" if self.steps else ""
        raise TrainingError(
            f"fine-tuning ({self.curve}) diverged: its {what} became {value} at step {self.steps + 1}{before}, at learning rate {rate:.2g} "
            f"(learning_rate: {self.config.learning_rate:g}): lower it, to {self.config.learning_rate / 3:.1g} for a start"
        )

    def _make_smaller(self, batch: Sequence[TokenizedExample], error: BaseException) -> None:
        rows = max(map(len, arrange(self.student, batch, self.layout)))
        if rows > 1:
            self.layout = replace(self.layout, micro_batch_size=(rows + 1) // 2)
        elif self.layout.packing_tokens is not None:
            self.layout = Layout(micro_batch_size=1)
        else:
            longest = max(len(example.ids) for example in batch)
            raise TrainingError(
                f"out of memory with one example of {longest} tokens at a time: lower max_tokens (now {self.config.max_tokens}), or train "
                f"adapters (student.adaptation.kind: lora)"
            ) from error


def _report(stream: Stream, trainer: Trainer, ledger: Ledger, config: FinetuneConfig, curve: str) -> None:
    """Notes what was left out and what memory forced."""
    drawn = stream.usable + stream.too_long + stream.empty
    if stream.too_long:
        ledger.note(f"{curve}: {stream.too_long} of {drawn} examples are longer than max_tokens={config.max_tokens} and were left out")
    if stream.empty:
        ledger.note(f"{curve}: {stream.empty} of {drawn} examples have an empty response and were left out")
    if trainer.layout != config.layout:
        ledger.note(f"{curve}: memory held {trainer.layout.micro_batch_size} rows at a time; batches were split, results are the same")


def _why_no_step(stream: Stream, config: FinetuneConfig, ledger: Ledger, must_step: bool, target_flops: float, cheapest: float) -> None:
    if stream.usable:
        if must_step:
            told = f"it has {target_flops:.3g} FLOPs, and the cheapest example drawn costs {cheapest:.3g} FLOPs"
            raise SpecError(f"too small for one step of fine-tuning: {told}", key="budget.train_flops", value=ledger.train_flops)
        return
    if stream.too_long:
        raise TrainingError(f"all {stream.too_long + stream.empty} examples are longer than max_tokens={config.max_tokens} (or empty)")
    if stream.empty:
        raise TrainingError(f"all {stream.empty} examples have an empty response: nothing to train on")
    raise TrainingError("no examples to train on")
