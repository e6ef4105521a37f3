"""Supervised fine-tuning: the one implementation that every method uses.

Completion-only token-mean cross-entropy, AdamW, batches of similar length. Differs from TRL's SFTTrainer where the comparison needs it:
the output head is evaluated at completion tokens only on every device (TRL evaluates all positions without Triton: about a
quarter more compute for a 135M model with short answers), the learning rate follows the *spend* (linear warm-up, then linear to zero), and
the last batch shrinks so that the budget is met instead of overrun.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn.functional import cross_entropy

from harness.core.budget import Ledger
from harness.core.records import Message
from harness.models.student import Student


class FinetuneConfig(BaseModel):
    """Settings of supervised fine-tuning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=8, ge=1)
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_tokens: int = Field(default=512, ge=8)
    """Examples longer than this are left out (counted in the result)."""


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids of prompt and response; the first `prompt_tokens` carry no loss. `text`: the same as (rendered prompt, response)."""

    ids: tuple[int, ...]
    prompt_tokens: int
    text: tuple[str, str] | None = None


@dataclass(frozen=True)
class FinetuneResult:
    """What a fine-tuning run did."""

    steps: int
    examples: int
    too_long: int
    first_loss: float
    last_loss: float


def tokenize(student: Student, conversation: Sequence[Message], response: str) -> TokenizedExample:
    """The example as the student reads it: rendered conversation, then the response and its end token."""
    rendered = student.render(conversation)
    prompt = student.encode(rendered)
    return TokenizedExample((*prompt, *student.encode(student.response_text(response))), len(prompt), (rendered, response))


def padded(examples: Sequence[TokenizedExample], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids_B_T, attention mask_B_T and target_B_T (True where the *next* token is a response token)."""
    width = max(len(example.ids) for example in examples)
    ids_B_T = torch.full((len(examples), width), pad_id)
    mask_B_T = torch.zeros(len(examples), width, dtype=torch.long)
    target_B_T = torch.zeros(len(examples), width, dtype=torch.bool)
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids_B_T[row, :length] = torch.tensor(example.ids)
        mask_B_T[row, :length] = 1
        target_B_T[row, example.prompt_tokens - 1 : length - 1] = True
    return ids_B_T.to(device), mask_B_T.to(device), target_B_T.to(device)


def response_logits(
    student: Student,
    ids_B_T: torch.Tensor,
    mask_B_T: torch.Tensor,
    target_B_T: torch.Tensor,
    *,
    reference: tuple[nn.Module, nn.Module] | None = None,
) -> torch.Tensor:
    """Next-token logits (R, V) in fp32 at the R positions of `target_B_T` only, by the student or by another's (body, head)."""
    body, head = reference or (student.body, student.model.get_output_embeddings())
    hidden_B_T_D = body(input_ids=ids_B_T, attention_mask=mask_B_T, use_cache=False).last_hidden_state
    logits_R_V: torch.Tensor = head(hidden_B_T_D[target_B_T]).float()
    cap = getattr(student.model.config, "final_logit_softcapping", None)
    return logits_R_V if cap is None else cap * torch.tanh(logits_R_V / cap)


def update_flops(student: Student, examples: Sequence[TokenizedExample]) -> float:
    """What a forward and backward on these examples, as one padded batch, will be charged."""
    assert student.meter is not None, "attach the student to a ledger first"
    width = max(len(example.ids) for example in examples)
    targets = sum(len(example.ids) - example.prompt_tokens for example in examples)
    return student.meter.body_flops(len(examples), width, grad=True) + student.meter.head_flops(targets, grad=True)


def finetune(
    student: Student,
    examples: Iterable[tuple[Sequence[Message], str]],
    ledger: Ledger,
    *,
    config: FinetuneConfig,
    rng: np.random.Generator,
    max_flops: float | None = None,
    curve: str = "loss",
) -> FinetuneResult:
    """Trains the student in place until `max_flops` are spent.

    Args:
        examples: (conversation, response) pairs. A sequence is repeated, shuffled anew each epoch; an iterator is drawn once, not a
            batch further than the budget lasts (each draw may buy a label), and ends training when it does.
        max_flops: defaults to what the ledger has left.
    Returns:
        Steps, examples seen, examples left out as too long, first and last batch loss (nats per response token).
    Raises:
        ValueError: no example fits `config.max_tokens`, or the loss is not finite.
    """
    target_flops = ledger.remaining() if max_flops is None else min(max_flops, ledger.remaining())
    assert math.isfinite(target_flops), "fine-tuning needs a budget"
    started_at = ledger.spent(ledger.account)
    optimizer = torch.optim.AdamW(student.trainable, lr=config.learning_rate, weight_decay=config.weight_decay)
    losses: list[float] = []
    seen = 0

    def left_flops() -> float:
        return target_flops - (ledger.spent(ledger.account) - started_at)

    stream = _Stream(student, examples, config, rng, left_flops)
    student.model.train()
    with ledger.use_phase("update"):
        for window in stream:
            full = True
            for batch in window:
                left, fitting = left_flops(), batch
                while fitting and update_flops(student, fitting) > left:
                    fitting = fitting[:-1]
                full = full and len(fitting) == len(batch)
                if fitting:
                    _set_rate(optimizer, config, 1 - left / target_flops)
                    losses.append(_step(student, fitting, optimizer, config))
                    seen += len(fitting)
                    student.trained_on.update((example.text, None) for example in fitting if example.text is not None)
                    ledger.observe(curve, losses[-1])
            if not full:
                break
    student.model.eval()
    if not losses and stream.too_long and not stream.usable:
        raise ValueError(f"all {stream.too_long} examples are longer than max_tokens={config.max_tokens}")
    first, last = (losses[0], losses[-1]) if losses else (math.nan, math.nan)
    return FinetuneResult(len(losses), seen, stream.too_long, first, last)


def _step(student: Student, batch: Sequence[TokenizedExample], optimizer: torch.optim.Optimizer, config: FinetuneConfig) -> float:
    ids_B_T, mask_B_T, target_B_T = padded(batch, student.pad_id, student.device)
    labels_R = ids_B_T.roll(-1, dims=1)[target_B_T]
    with student.autocast():
        loss = cross_entropy(response_logits(student, ids_B_T, mask_B_T, target_B_T), labels_R)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ValueError(f"the fine-tuning loss became {value} at learning rate {config.learning_rate}: lower it")
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(student.trainable, config.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    return value


def _set_rate(optimizer: torch.optim.Optimizer, config: FinetuneConfig, spent_share: float) -> None:
    """Linear warm-up, then linear decay to zero, over the share of the target spend that is used."""
    if spent_share < config.warmup_share:
        factor = max(spent_share / config.warmup_share, 0.1)
    else:
        factor = (1 - spent_share) / (1 - config.warmup_share)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * factor


class _Stream:
    """Windows of up to `WINDOW` batches of similar length: the examples of a window are sorted by length, cut, and the batches shuffled."""

    WINDOW = 8

    def __init__(
        self,
        student: Student,
        examples: Iterable[tuple[Sequence[Message], str]],
        config: FinetuneConfig,
        rng: np.random.Generator,
        left_flops: Callable[[], float],
    ) -> None:
        self.student, self.examples, self.config, self.rng, self.left_flops = student, examples, config, rng, left_flops
        self.too_long = self.usable = 0

    def __iter__(self) -> Iterator[list[list[TokenizedExample]]]:
        if not isinstance(self.examples, Sequence):
            yield from self._epoch(iter(self.examples), self.left_flops)
            return
        while True:
            order = self.rng.permutation(len(self.examples))
            self.too_long = self.usable = 0
            yield from self._epoch((self.examples[i] for i in order), lambda: math.inf)
            if not self.usable:
                return

    def _epoch(
        self, examples: Iterator[tuple[Sequence[Message], str]], left_flops: Callable[[], float]
    ) -> Iterator[list[list[TokenizedExample]]]:
        size = self.config.batch_size
        while (window := self._window(examples, left_flops())) is not None:
            if not self.usable and left_flops() < math.inf:
                return  # nothing fits, and every further draw may cost a label
            window.sort(key=lambda example: len(example.ids))
            batches = [window[start : start + size] for start in range(0, len(window), size)]
            yield [batches[index] for index in self.rng.permutation(len(batches))]

    def _window(self, examples: Iterator[tuple[Sequence[Message], str]], left_flops: float) -> list[TokenizedExample] | None:
        """The usable ones of the next examples, drawn a batch at a time up to `WINDOW` batches or `left_flops`; None at the end."""
        size, price = self.config.batch_size, 0.0
        window: list[TokenizedExample] = []
        for lot in range(self.WINDOW):
            drawn = [tokenize(self.student, conversation, response) for conversation, response in islice(examples, size)]
            if not drawn:
                return window if lot else None
            kept = [example for example in drawn if len(example.ids) <= self.config.max_tokens]
            self.too_long += len(drawn) - len(kept)
            self.usable += len(kept)
            window += kept
            price += update_flops(self.student, kept) if kept else 0.0
            if price >= left_flops:
                break
        return window
