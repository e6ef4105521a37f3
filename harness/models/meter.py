"""Charges every forward (and the backward it will cause) of a model to the ledger, before it is computed.

The hooks sit on the modules themselves, so whoever calls the model - a trainer, `generate`, an evaluation engine - is charged.
A refused charge raises `BudgetExceeded` before any work is done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.core.budget import Ledger
from harness.core.flops import CONVENTION, Shape, backward_flops, forward_flops, linear_flops, repeated_flops
from harness.errors import SpecError
from harness.models.adapters import adapter_layers, base_model

_FIRST_PROJECTION = re.compile(r"(^|\.)0\.(self_attn|attn|attention)\.(q_proj|k_proj|v_proj|qkv_proj|c_attn|query_key_value)\b")
_FIRST_OF_MLP = re.compile(r"(^|\.)0\.mlp\.(gate_proj|up_proj|gate_up_proj|fc1|fc_in|dense_h_to_4h)\b")
"""The projections of the first layer's attention, and of its MLP where that stands beside it: they read the embeddings, whose gradient
nobody needs unless they are trained."""


_EXPERTS, _ROUTER = re.compile(r"\bexperts\."), re.compile(r"\b(gate|router)\.(.*\.)?weight$")
_POOLER = re.compile(r"\bpooler\b")
"""Reads one token of a row (BERT's does), and is charged when it does."""
_LAST_NORM = re.compile(r"post_(feedforward|mlp|ffn|moe)_?(layer)?norm")


@dataclass(frozen=True)
class _Known:
    padding: int
    attention_pairs: float | None


_KNOWN: ContextVar[_Known | None] = ContextVar("known", default=None)


@contextmanager
def known_forward(*, padding: int = 0, attention_pairs: float | None = None) -> Iterator[None]:
    """What the arguments of forwards inside the block do not say: packed rows have no mask, and an attention of one's own its own cost.

    Args:
        padding: tokens that are none.
        attention_pairs: (query, key) pairs that each layer computes, if not the full matrix.
    """
    token = _KNOWN.set(_Known(padding, attention_pairs))
    try:
        yield
    finally:
        _KNOWN.reset(token)


def transformer_body(model: nn.Module) -> nn.Module | None:
    """The part of a transformers model that holds the layers (without output head); None for anything else."""
    inner: Any = base_model(model)
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
    parallel = _attention_beside_mlp(body, config)
    for name, weight, share in _products(body, config, adapters):
        count = round(weight.numel() * share)
        if weight.requires_grad:
            trained += count
        else:
            frozen += count
            if _FIRST_PROJECTION.search(name) or (parallel and _FIRST_OF_MLP.search(name)):
                first += count
    if _embeddings_need_grad(body):
        first = 0
    return Shape(frozen, trained, config.num_hidden_layers, heads, head_dim, first, _not_repeated(body, config.num_hidden_layers, adapters))


def _products(body: nn.Module, config: Any, adapters: bool) -> Iterator[tuple[str, nn.Parameter, float]]:
    """Name and weight of everything a token is multiplied by, with the share of the weight that one token meets (of experts, the chosen).

    Raises:
        SpecError: more than 2 % of the weights are used in a way that the convention does not know.
    """
    if any(type(m).__name__ == "ParamWrapper" for m in body.modules()):
        message = f"adapters on the experts of {type(body).__name__} cannot be charged under {CONVENTION}: train it in full"
        raise SpecError(message, key="student.adaptation")
    known = {id(m.weight) for m in body.modules() if isinstance(m, nn.Embedding)}
    for name, linear in _linears(body):
        known.add(id(linear.weight))
        if _POOLER.search(name):
            continue
        if adapters or "lora_" not in name:
            yield name, linear.weight, 1.0
    unknown = 0
    for name, weight in body.named_parameters():
        if id(weight) in known or weight.dim() < 2:
            continue
        if _EXPERTS.search(name) and weight.dim() == 3:
            yield name, weight, config.num_experts_per_tok / len(weight)
        elif _ROUTER.search(name):
            yield name, weight, 1.0
        elif "lora_embedding" not in name:
            unknown += weight.numel()
    total = sum(weight.numel() for weight in body.parameters())
    if unknown > 0.02 * total:
        raise SpecError(
            f"{type(body).__name__} cannot be charged under {CONVENTION}: {unknown / total:.0%} of its weights are neither plain matrix "
            "products nor experts",
            key="model",
        )


def _embeddings_need_grad(body: Any) -> bool:
    """Whether PEFT, to checkpoint, has asked for the gradient of the embeddings' output (`enable_input_require_grads`)."""
    hooks = body.get_input_embeddings()._forward_hooks.values() if hasattr(body, "get_input_embeddings") else ()
    return any(getattr(hook, "__name__", "") == "make_inputs_require_grads" for hook in hooks)


def _stack(body: nn.Module, layers: int) -> nn.ModuleList | None:
    return next((m for m in body.modules() if isinstance(m, nn.ModuleList) and len(m) == layers), None)


def _attention_beside_mlp(body: nn.Module, config: Any) -> bool:
    """Whether attention and MLP of a layer read the same input (Cohere, GPT-NeoX), so that the first MLP reads the embeddings too."""
    stack = _stack(body, config.num_hidden_layers)
    if stack is None:
        return False
    norms = [name for name, _ in stack[0].named_children() if "norm" in name.lower() or name.startswith("ln_")]
    return len(norms) == 1 or bool(getattr(config, "use_parallel_residual", False))


def _not_repeated(body: nn.Module, layers: int, adapters: bool) -> int:
    """Weights whose product ends a layer, so that torch's checkpointing stops short of computing it again (`early_stop`).

    A norm or dropout after the last projection needs that product, and it is repeated.
    """
    stack = _stack(body, layers)
    if stack is None:
        return 0
    count = 0
    for layer in stack:
        dropped = any(isinstance(m, nn.Dropout) and m.p > 0 for name, m in layer.named_modules() if "lora_" not in name)
        if dropped or any(_LAST_NORM.search(name) for name, _ in layer.named_children()):
            continue
        linears = [linear for name, linear in _linears(layer) if adapters or "lora_" not in name]
        count += linears[-1].weight.numel()
    return count


class Meter:
    """Hooks on one model that charge one ledger under one name. `detach()` removes them."""

    def __init__(self, model: nn.Module, name: str, ledger: Ledger) -> None:
        self.name, self.ledger = name, ledger
        self._model = model
        self._body = transformer_body(model)
        # Walking over all modules takes milliseconds, as long as a decoding step of a small model: once, and not at every forward.
        self._body_weights = list(self._body.parameters()) if self._body is not None else []
        self._checkpointing: list[Any] = [m for m in model.modules() if hasattr(m, "gradient_checkpointing")]
        self._adapter = next(adapter_layers(model), None)
        self._hooks: list[Any] = []
        self._shapes: dict[tuple[bool, int, bool], Shape] = {}
        inside: set[nn.Module] = set()
        if self._body is not None:
            self._hooks.append(self._body.register_forward_pre_hook(self._before_body, with_kwargs=True))
            inside = {linear for name, linear in _linears(self._body) if not _POOLER.search(name)}
        for _, linear in _linears(model):
            if linear not in inside:
                self._hooks.append(linear.register_forward_pre_hook(self._before_linear))

    def detach(self) -> None:
        """Stops charging."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def body_flops(
        self, rows: int, new_tokens: int, *, past_tokens: float = 0, grad: bool = False, attention_pairs: float | None = None
    ) -> float:
        """FLOPs that a call of the body would be charged: `rows` sequences of `new_tokens` after `past_tokens` cached ones."""
        assert self._body is not None, "only transformers have a body"
        shape = self._shape()
        flops = forward_flops(shape, rows, new_tokens, past_tokens, attention_pairs=attention_pairs)
        if grad:
            flops += backward_flops(shape, rows, new_tokens)
            if any(module.gradient_checkpointing for module in self._checkpointing):
                flops += repeated_flops(shape, rows, new_tokens)
        return flops

    def _shape(self) -> Shape:
        assert self._body is not None
        adapters = self._adapter is None or not self._adapter.disable_adapters
        key = (adapters, sum(weight.requires_grad for weight in self._body_weights), _embeddings_need_grad(self._body))
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
        grad = torch.is_grad_enabled() and any(weight.requires_grad for weight in self._body_weights)
        known = _KNOWN.get()
        padding = known.padding if known else _padding(kwargs.get("attention_mask"), rows * new_tokens, new_tokens)
        flops = self.body_flops(
            rows,
            new_tokens,
            past_tokens=_past_tokens(kwargs.get("past_key_values")),
            grad=grad,
            attention_pairs=known.attention_pairs if known else None,
        )
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
    """Padding among the new tokens, by a mask (B, T)."""
    return tokens - int(mask[:, -new_tokens:].sum()) if isinstance(mask, torch.Tensor) and mask.dim() == 2 else 0


def _past_tokens(cache: Any) -> float:
    """Cached tokens that new ones attend to, the mean over layers: those with a sliding window keep fewer."""
    if cache is None:
        return 0.0
    held = [layer.keys.shape[-2] if layer.is_initialized else 0 for layer in cache.layers]
    return sum(held) / max(len(held), 1)


def meter(model: nn.Module, name: str, ledger: Ledger) -> Meter:
    """Starts charging `ledger` for everything `model` computes, under `name`; returns the handle that stops it."""
    return Meter(model, name, ledger)
