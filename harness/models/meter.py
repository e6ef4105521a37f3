"""Charges every forward (and the backward it will cause) of a model to the ledger, before it is computed.

The hooks sit on the modules themselves, so whoever calls the model - a trainer, `generate`, an evaluation engine - is charged.
A refused charge raises `BudgetExceeded` before any work is done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from harness.core.budget import Ledger
from harness.core.flops import Shape, backward_flops, forward_flops, linear_flops

_FIRST_PROJECTION = re.compile(r"(^|\.)0\.(self_attn|attn|attention)\.(q_proj|k_proj|v_proj|qkv_proj|c_attn|query_key_value)\b")
"""The projections of the first layer's attention: they read the embeddings, whose gradient nobody needs unless they are trained."""


def transformer_body(model: nn.Module) -> nn.Module | None:
    """The part of a transformers model that holds the layers (without output head); None for anything else."""
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    config = getattr(inner, "config", None)
    if config is None or not hasattr(config, "num_hidden_layers"):
        return None
    body = getattr(inner, "base_model", inner)
    assert isinstance(body, nn.Module), type(body)
    return body


def _linears(module: nn.Module) -> list[tuple[str, Any]]:
    """Every matmul weight of the module: nn.Linear, and GPT-2's transposed Conv1D."""
    return [(name, m) for name, m in module.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"]


def body_shape(body: nn.Module, *, adapters: bool = True) -> Shape:
    """Reads a body's `Shape` off its modules. `adapters=False` leaves LoRA's matrices out (adapter disabled)."""
    whole: Any = body.config
    config = whole.get_text_config() if hasattr(whole, "get_text_config") else whole
    heads: int = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    frozen = trained = first = 0
    for name, linear in _linears(body):
        if "lora_" in name and not adapters:
            continue
        count = linear.weight.numel()
        if linear.weight.requires_grad:
            trained += count
        else:
            frozen += count
            if _FIRST_PROJECTION.search(name):
                first += count
    return Shape(frozen, trained, config.num_hidden_layers, heads, head_dim, first)


class Meter:
    """Hooks on one model that charge one ledger under one name. `detach()` removes them."""

    def __init__(self, model: nn.Module, name: str, ledger: Ledger) -> None:
        self.name, self.ledger = name, ledger
        self._model = model
        self._body = transformer_body(model)
        self._hooks: list[Any] = []
        self._shapes: dict[tuple[bool, int], Shape] = {}
        self._padding: int | None = None
        inside: set[nn.Module] = set()
        if self._body is not None:
            self._hooks.append(self._body.register_forward_pre_hook(self._before_body, with_kwargs=True))
            inside = {linear for _, linear in _linears(self._body)}
        for _, linear in _linears(model):
            if linear not in inside:
                self._hooks.append(linear.register_forward_pre_hook(self._before_linear))

    def detach(self) -> None:
        """Stops charging."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @contextmanager
    def with_padding(self, tokens: int) -> Iterator[None]:
        """Forwards inside the block hold this much padding: for packed rows, whose mask does not say."""
        self._padding = tokens
        try:
            yield
        finally:
            self._padding = None

    def body_flops(self, rows: int, new_tokens: int, *, past_tokens: int = 0, grad: bool = False) -> float:
        """FLOPs that a call of the body would be charged: `rows` sequences of `new_tokens` after `past_tokens` cached ones."""
        assert self._body is not None, "only transformers have a body"
        shape = self._shape()
        flops = forward_flops(shape, rows, new_tokens, past_tokens)
        if grad:
            flops += backward_flops(shape, rows, new_tokens)
            if getattr(self._body, "is_activation_checkpointing", False):
                flops += forward_flops(shape, rows, new_tokens)
        return flops

    def _shape(self) -> Shape:
        assert self._body is not None
        key = (not _adapters_disabled(self._model), sum(p.requires_grad for p in self._body.parameters()))
        if key not in self._shapes:
            self._shapes[key] = body_shape(self._body, adapters=key[0])
        return self._shapes[key]

    def head_flops(self, positions: int, *, grad: bool = False) -> float:
        """FLOPs that evaluating the language-model head at `positions` would be charged."""
        weight = self._model.get_output_embeddings().weight  # type: ignore[operator]
        return linear_flops(weight.numel(), positions, input_grad=grad, weight_grad=grad and bool(weight.requires_grad))

    def _before_body(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = kwargs.get("input_ids", args[0] if args else None)
        if tokens is None:
            tokens = kwargs["inputs_embeds"]
        rows, new_tokens = int(tokens.shape[0]), int(tokens.shape[1])
        cache = kwargs.get("past_key_values")
        past_tokens = int(cache.get_seq_length()) if cache is not None else 0
        grad = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in body.parameters())
        padding = _padding(kwargs.get("attention_mask"), rows * new_tokens, new_tokens) if self._padding is None else self._padding
        flops = self.body_flops(rows, new_tokens, past_tokens=past_tokens, grad=grad)
        self.ledger.charge(self.name, flops, rows * new_tokens - padding, padding)

    def _before_linear(self, linear: nn.Module, args: tuple[Any, ...]) -> None:
        weight = linear.weight
        assert isinstance(weight, torch.Tensor)
        grad = torch.is_grad_enabled()
        positions = args[0].numel() // args[0].shape[-1]
        flops = linear_flops(
            weight.numel(), positions, input_grad=grad and args[0].requires_grad, weight_grad=grad and weight.requires_grad
        )
        self.ledger.charge(self.name, flops, 0)


def _padding(mask: Any, tokens: int, new_tokens: int) -> int:
    """Padding among the new tokens, by a (B, T) mask, or a boolean (B, 1, T, T) one in which padding sees and is seen by itself alone."""
    if not isinstance(mask, torch.Tensor):
        return 0
    if mask.dim() == 2:
        return tokens - int(mask[:, -new_tokens:].sum())
    if mask.dtype != torch.bool or mask.shape[-1] != mask.shape[-2]:
        return 0
    seen_B_T, seeing_B_T = mask[:, 0].sum(-1), mask[:, 0].sum(-2)
    return int(((seen_B_T == 1) & (seeing_B_T == 1)).sum())


def _adapters_disabled(model: nn.Module) -> bool:
    layer = next((m for m in model.modules() if isinstance(m, BaseTunerLayer)), None)
    return layer is not None and bool(layer.disable_adapters)


def meter(model: nn.Module, name: str, ledger: Ledger) -> Meter:
    """Starts charging `ledger` for everything `model` computes, under `name`; returns the handle that stops it."""
    return Meter(model, name, ledger)
