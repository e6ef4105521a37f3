"""Log-probabilities of response tokens, by the student or a frozen reference, in as many rows at once as memory holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from harness.core.budget import Ledger
from harness.errors import TrainingError
from harness.models.examples import TokenizedExample, padded, response_logits
from harness.models.memory import is_out_of_memory
from harness.models.meter import meter
from harness.models.student import Student

Parts = tuple[nn.Module, nn.Module]
"""Body and output head of a frozen model."""
T = TypeVar("T")


class MicroBatches:
    """How many rows are computed at once: all, until memory is short; then half as many, for good. Results stay the same."""

    def __init__(self, ledger: Ledger, rows: int | None = None) -> None:
        self.ledger, self.rows = ledger, rows

    def split(self, items: Sequence[T]) -> list[Sequence[T]]:
        """The items in runs of as many as are computed at once."""
        size = self.rows or max(len(items), 1)
        return [items[start : start + size] for start in range(0, len(items), size)]

    def attempt(self, compute: Callable[[], T], rows: int) -> T:
        """What `compute`, which goes over `rows` items by `split`, returns; asked again with smaller runs when memory is short.

        Every attempt is charged.

        Raises:
            TrainingError: memory does not hold a single row.
        """
        while True:
            try:
                return compute()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                size = min(self.rows or rows, rows)
                if size == 1:
                    raise TrainingError("out of memory with one reply at a time: lower max_new_tokens, or train adapters") from error
                self.rows = (size + 1) // 2
            # Here and not above: the error's traceback holds the activations.
            self.ledger.note(f"memory held {self.rows} replies at a time; batches were split, results are the same")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def frozen_parts(student: Student, ledger: Ledger, name: str) -> Parts:
    """The student as it is now, for good: body and head, charged to the ledger under `name`."""
    body, head = student.frozen_body(), student.frozen_head()
    meter(body, name, ledger)
    if head is not student.model.get_output_embeddings():  # that one is metered with the student
        meter(head, name, ledger)
    return body, head


def response_counts(examples: Sequence[TokenizedExample]) -> list[int]:
    """Response tokens of each example."""
    return [len(example.ids) - example.prompt_tokens for example in examples]


def token_logprobs(
    student: Student,
    examples: Sequence[TokenizedExample],
    *,
    temperature: float = 1.0,
    reference: Parts | None = None,
    value_head: nn.Module | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities (R,) of all response tokens, example after example, and (with a value head) the values (R,) of their states.

    Args:
        temperature: what the tokens were sampled at; logits are divided by it.
        reference: by another's (body, head) in place of the student's.
        value_head: maps last hidden states (R, D) to (R, 1).
    """
    ids_B_T, mask_B_T, target_B_T = padded(examples, student.pad_id, student.device)
    labels_R = ids_B_T.roll(-1, dims=1)[target_B_T]
    head = reference[1] if reference else student.model.get_output_embeddings()
    with student.autocast(), _inputs_of(head) as seen:
        logits_R_V = response_logits(student, ids_B_T, mask_B_T, target_B_T, reference=reference)
    logprob_R = torch.log_softmax(logits_R_V / temperature, -1).gather(1, labels_R[:, None])[:, 0]
    values_R = value_head(seen[0].float()).squeeze(-1) if value_head is not None else None
    return logprob_R, values_R


@contextmanager
def _inputs_of(head: nn.Module) -> Iterator[list[torch.Tensor]]:
    """What the output head is shown while the block lasts: features (R, D)."""
    seen: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(0, -2)))
    try:
        yield seen
    finally:
        hook.remove()
