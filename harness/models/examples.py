"""Supervised examples as tensors: tokens, loss targets, padded or packed rows, what they cost, and the logits where they count.

A batch is laid out as micro-batches of rows. A row is one example, or several packed one behind the other: positions start anew with each
example, from which transformers builds a block-diagonal mask, so no example sees another. Loss and gradients do not depend on the layout.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.core.records import Message
from harness.errors import SpecError
from harness.models.adapters import base_model
from harness.models.finetune_config import Layout
from harness.models.student import Student


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids of prompt and response; the first `prompt_tokens` carry no loss. `text`: the same as (rendered prompt, response)."""

    ids: tuple[int, ...]
    prompt_tokens: int
    text: tuple[str, str] | None = None


Row = tuple[TokenizedExample, ...]
MicroBatch = list[Row]


PADDED = Layout()


@dataclass(frozen=True)
class RowTensors:
    """Rows as tensors. Packed rows have `position_B_T` instead of `mask_B_T`; `target_B_T` is True where the *next* token counts."""

    ids_B_T: torch.Tensor
    mask_B_T: torch.Tensor | None
    position_B_T: torch.Tensor | None
    target_B_T: torch.Tensor
    padding: int


def tokenize(student: Student, conversation: Sequence[Message], response: str) -> TokenizedExample:
    """The example as the student reads it: rendered conversation, then the response and its end token."""
    rendered = student.render(conversation)
    prompt = student.encode(rendered)
    return TokenizedExample((*prompt, *student.encode(student.response_text(response))), len(prompt), (rendered, response))


def padded(examples: Sequence[TokenizedExample], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids_B_T, attention mask_B_T and target_B_T (True where the *next* token is a response token)."""
    rows = row_tensors([(example,) for example in examples], pad_id, device)
    assert rows.mask_B_T is not None
    return rows.ids_B_T, rows.mask_B_T, rows.target_B_T


def row_tensors(rows: MicroBatch, pad_id: int, device: torch.device) -> RowTensors:
    """Rows as right-padded tensors, packed if any row holds more than one example."""
    width = _width(rows)
    ids_B_T = torch.full((len(rows), width), pad_id)
    mask_B_T = torch.zeros(len(rows), width, dtype=torch.long)
    position_B_T = torch.zeros(len(rows), width, dtype=torch.long)
    target_B_T = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        at = 0
        for example in row:
            end = at + len(example.ids)
            ids_B_T[index, at:end] = torch.tensor(example.ids)
            mask_B_T[index, at:end] = 1
            position_B_T[index, at:end] = torch.arange(end - at)
            target_B_T[index, at + example.prompt_tokens - 1 : end - 1] = True
            at = end
    padding = mask_B_T.numel() - int(mask_B_T.sum())
    if any(len(row) > 1 for row in rows):
        return RowTensors(ids_B_T.to(device), None, position_B_T.to(device), target_B_T.to(device), padding)
    return RowTensors(ids_B_T.to(device), mask_B_T.to(device), None, target_B_T.to(device), padding)


def arrange(student: Student, examples: Sequence[TokenizedExample], layout: Layout) -> list[MicroBatch]:
    """The micro-batches of a batch: rows by length, packed ones in the width that costs least."""
    rows = _rows(student, examples, layout)
    rows.sort(key=_length)
    size = layout.micro_batch_size or len(rows)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def update_flops(student: Student, examples: Sequence[TokenizedExample], layout: Layout = PADDED) -> float:
    """What a forward and backward on these examples, as one batch of this layout, will be charged."""
    return sum(_flops(student, rows) for rows in arrange(student, examples, layout))


def check_packable(student: Student) -> None:
    """Refuses packing where something besides attention would carry one example into the next.

    Raises:
        SpecError: the model has layers that are not attention (recurrent, convolutional ...).
    """
    config = student.model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    other = layers - {"full_attention", "sliding_attention"}
    if other:
        raise SpecError(f"packing needs attention in every layer; {student.name} has {', '.join(sorted(other))}", key="finetune.packing")


def response_logits(
    student: Student,
    ids_B_T: torch.Tensor,
    mask_B_T: torch.Tensor | None,
    target_B_T: torch.Tensor,
    *,
    reference: tuple[nn.Module, nn.Module] | None = None,
    position_B_T: torch.Tensor | None = None,
) -> torch.Tensor:
    """Next-token logits (R, V) in fp32 at the R positions of `target_B_T` only, by the student or by another's (body, head).

    The model's own forward computes them, so whatever it does to logits (Granite's and Cohere's scale, Gemma's soft cap) is done; its
    output head is shown the R positions alone.
    """
    model = base_model(student.model)
    options = {"position_ids": position_B_T} if position_B_T is not None else {"attention_mask": mask_B_T}

    def select(head: nn.Module, args: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return args[0][target_B_T][None]

    shown = _with_parts(model, reference)
    hook = shown.get_output_embeddings().register_forward_pre_hook(select, prepend=True)
    try:
        logits_1_R_V: torch.Tensor = shown(input_ids=ids_B_T, use_cache=False, **options).logits
    finally:
        hook.remove()
    return logits_1_R_V[0].float()


def _with_parts(model: Any, parts: tuple[nn.Module, nn.Module] | None) -> Any:
    """The causal language model with another body and head, sharing all the rest; `model` itself stays as it is."""
    if parts is None:
        return model
    named = {module: name for name, module in model.named_modules()}
    shown = _shallow(model)
    for module, other in zip((getattr(model, model.base_model_prefix), model.get_output_embeddings()), parts, strict=True):
        *outer, child = named[module].split(".")
        holder = shown
        for name in outer:
            holder._modules[name] = _shallow(holder._modules[name])
            holder = holder._modules[name]
        holder._modules[child] = other
    return shown


def _shallow(module: Any) -> Any:
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    return copied


def _rows(student: Student, examples: Sequence[TokenizedExample], layout: Layout) -> MicroBatch:
    single: MicroBatch = [(example,) for example in examples]
    if layout.packing_tokens is None:
        return single
    longest = max(len(example.ids) for example in examples)
    widths = range(longest, max(longest, layout.packing_tokens) + 1, longest)
    return min([single, *(_packed(examples, width) for width in widths)], key=lambda rows: _flops(student, rows))


def _packed(examples: Sequence[TokenizedExample], width: int) -> MicroBatch:
    """First fit, longest first."""
    rows: list[list[TokenizedExample]] = []
    for example in sorted(examples, key=lambda example: -len(example.ids)):
        room = (row for row in rows if sum(len(other.ids) for other in row) + len(example.ids) <= width)
        row = next(room, None)
        if row is None:
            rows.append([example])
        else:
            row.append(example)
    return [tuple(row) for row in rows]


def _flops(student: Student, rows: MicroBatch) -> float:
    assert student.meter is not None, "attach the student to a ledger first"
    targets = sum(len(example.ids) - example.prompt_tokens for row in rows for example in row)
    return student.meter.body_flops(len(rows), _width(rows), grad=True) + student.meter.head_flops(targets, grad=True)


def _width(rows: MicroBatch) -> int:
    return max(map(_length, rows))


def _length(row: Row) -> int:
    return sum(len(example.ids) for example in row)
