"""The attention of packed token trees, as a transformers attention function: it replaces a model's own while a pack is computed.

A model is given one row of tokens without padding, with positions of our own. Everything that works on single tokens (projections,
MLPs, norms, rotary or learned positions) needs nothing more; only attention must know which tokens belong together, and that is decided
here: blocks side by side, each token seeing the trunk and its ancestors, within the layer's window.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from harness.scoring.packing import Layout

NAME = "selfteach_tree"
KeysValues = tuple[torch.Tensor, torch.Tensor]


class NotShareableError(RuntimeError):
    """The model's attention does something that a token tree cannot reproduce."""


class TreeAttention:
    """State of one forward over a pack.

    Args:
        trunk: per layer the trunk's keys and values, each (1, key-value heads, P, head size); empty without a trunk.
        keep: whether to collect this forward's keys and values in `kept` (the pack is a trunk).
    """

    def __init__(self, layout: Layout, trunk: dict[int, KeysValues], *, keep: bool, device: torch.device) -> None:
        self.slot_N_L, self.place_T, self.visible_N_L_K = (
            torch.from_numpy(array).to(device, non_blocking=True) for array in (layout.slot_N_L, layout.place_T, layout.visible_N_L_K)
        )
        position_N_L = torch.from_numpy(layout.position_T[layout.slot_N_L])
        trunk_length = layout.visible_N_L_K.shape[2] - layout.slot_N_L.shape[1]
        self.trunk, self.trunk_length = trunk, trunk_length
        trunk_positions = torch.arange(trunk_length).expand(len(position_N_L), -1)
        self.distance_N_L_K = position_N_L[:, :, None] - torch.cat([trunk_positions, position_N_L], 1)[:, None]
        self.keep, self.kept, self.calls = keep, dict[int, KeysValues](), 0
        self._masks: dict[tuple[int | None, int, torch.dtype], torch.Tensor] = {}

    def mask(self, window: int | None, repeats: int, dtype: torch.dtype) -> torch.Tensor:
        """(N, 1, repeats · L, P + L), to be added to the scores: 0 where a token sees another, else -inf."""
        key = (window, repeats, dtype)
        if key not in self._masks:
            visible = self.visible_N_L_K
            if window is not None:
                visible = visible & (self.distance_N_L_K < window).to(visible.device)
                visible |= torch.zeros_like(visible).index_fill_(2, torch.tensor([0], device=visible.device), True) & ~visible.any(-1, True)
            added = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, float("-inf"))
            self._masks[key] = added[:, None].repeat(1, 1, repeats, 1)
        return self._masks[key]

    def __call__(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scaling: float,
        window: int | None,
        softcap: float | None,
        sinks: torch.Tensor | None,
    ) -> torch.Tensor:
        """Query (1, heads, T, head size), key and value (1, key-value heads, T, head size); returns (1, T, heads, head size)."""
        self.calls += 1
        if self.keep:
            self.kept[layer] = key, value
        (count, width), (_, heads, tokens, size) = self.slot_N_L.shape, query.shape
        groups = heads // key.shape[1]
        query_N, key_N, value_N = (states[0].transpose(0, 1)[self.slot_N_L].transpose(1, 2) for states in (query, key, value))
        if self.trunk_length:
            trunk_key, trunk_value = self.trunk[layer]
            key_N = torch.cat([trunk_key.expand(count, -1, -1, -1), key_N], 2)
            value_N = torch.cat([trunk_value.expand(count, -1, -1, -1), value_N], 2)
        # The query heads of a key-value head go side by side, so that keys and values need not be repeated.
        query_N = query_N.reshape(count, heads // groups, groups * width, size)
        mask = self.mask(window, groups, query.dtype)
        if softcap is None and sinks is None:
            out_N = scaled_dot_product_attention(query_N, key_N, value_N, attn_mask=mask, scale=scaling)
        else:
            scores = torch.matmul(query_N, key_N.transpose(2, 3)) * scaling
            if softcap is not None:
                scores = torch.tanh(scores / softcap) * softcap
            scores = (scores + mask).float()
            if sinks is not None:  # a score per head that takes its share and gives nothing
                sink_N = sinks.float().view(-1, groups, 1).expand(-1, -1, width).reshape(1, -1, groups * width, 1)
                scores = torch.cat([scores, sink_N.expand(count, -1, -1, -1)], -1)
            weights = torch.softmax(scores, -1)[..., : key_N.shape[2]]
            out_N = torch.matmul(weights.to(value_N.dtype), value_N)
        value_size = out_N.shape[-1]
        out_N_L = out_N.reshape(count, heads, width, value_size).transpose(1, 2)
        return out_N_L.reshape(count * width, heads, value_size)[self.place_T].view(1, tokens, heads, value_size)


_current: list[TreeAttention] = []


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' signature. `attention_mask` is None, because no mask function is registered under our name."""
    changes = [name for name in ("position_bias", "cache") if options.get(name) is not None]
    if changes or not getattr(module, "is_causal", True):
        raise NotShareableError(", ".join(changes) or "attention that is not causal")
    tree = _current[-1]
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return tree(module.layer_idx, query, key, value, scaling=scale, window=sliding_window, softcap=softcap, sinks=s_aux), None


AttentionInterface.register(NAME, _attend)


@contextlib.contextmanager
def installed(model: torch.nn.Module) -> Iterator[None]:
    """Every attention of the model is ours while the block lasts."""
    configs: dict[int, Any] = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    before = {
        key: config._attn_implementation_internal for key, config in configs.items() if hasattr(config, "_attn_implementation_internal")
    }
    for key in before:
        configs[key]._attn_implementation_internal = NAME
    try:
        yield
    finally:
        for key, implementation in before.items():
            configs[key]._attn_implementation_internal = implementation


@contextlib.contextmanager
def attending(tree: TreeAttention) -> Iterator[None]:
    """`tree` decides who sees whom while the block lasts."""
    _current.append(tree)
    try:
        yield
    finally:
        _current.pop()
