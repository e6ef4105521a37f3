"""The attention of packed token trees, as a transformers attention function: it replaces a model's own while a pack is computed.

A model is given one row of tokens without padding, with positions of our own. Everything that works on single tokens (projections,
MLPs, norms, rotary or learned positions) needs nothing more; only attention must know which tokens belong together, and that is decided
here: blocks side by side, each token seeing the trunk and its ancestors, within the layer's window.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from harness.models.meter import known_forward
from harness.scoring.packing import Bucket, Layout

NAME = "selfteach_tree"
_CACHED_SCORES = 1 << 18
"""Scores computed at once by hand: a megabyte, which second-level caches hold."""

KeysValues = tuple[torch.Tensor, torch.Tensor]


class NotShareableError(RuntimeError):
    """The model's attention does something that a token tree cannot reproduce."""


class _BucketOnDevice:
    """A bucket's arrays where the model is, and its masks, each made once a forward."""

    def __init__(self, bucket: Bucket, trunk_length: int, positions_T: np.ndarray, device: torch.device) -> None:
        self.start, self.end = bucket.start, bucket.end
        self.slot_N_L, self.row_T, self.visible_N_L_K = (
            torch.from_numpy(array).to(device, non_blocking=True) for array in (bucket.slot_N_L, bucket.row_T, bucket.visible_N_L_K)
        )
        self._positions_N_L = positions_T[bucket.slot_N_L]
        self._trunk_length = trunk_length
        self._masks: dict[tuple[int | None, int, int, torch.dtype], torch.Tensor] = {}

    def mask(self, window: int | None, repeats: int, first_key: int, dtype: torch.dtype) -> torch.Tensor:
        """(N, 1, repeats · L, K - first_key), to be added to the scores: 0 where a token sees another, else -inf."""
        kind = (window, repeats, first_key, dtype)
        if kind not in self._masks:
            visible = self.visible_N_L_K
            if window is not None:
                trunk = np.broadcast_to(np.arange(self._trunk_length), (len(self._positions_N_L), self._trunk_length))
                keys = np.concatenate([trunk, self._positions_N_L], 1)
                near = self._positions_N_L[:, :, None] - keys[:, None] < window
                visible = visible & torch.from_numpy(near).to(visible.device)
            added = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, torch.finfo(dtype).min)
            self._masks[kind] = added[:, None, :, first_key:].repeat(1, 1, repeats, 1)
        return self._masks[kind]

    def gathered(self, states: torch.Tensor) -> torch.Tensor:
        """(1, heads, T, size) to (N, heads, L, size)."""
        return states[0].transpose(0, 1)[self.slot_N_L].transpose(1, 2)

    def scattered(self, states: torch.Tensor) -> torch.Tensor:
        """(N, heads, L, size) to (tokens of the bucket, heads, size)."""
        return states.transpose(1, 2).flatten(0, 1)[self.row_T]


class TreeAttention:
    """State of one forward over a pack.

    Args:
        trunk: per layer the trunk's keys and values, each (1, key-value heads, P, head size); empty without a trunk.
        keep: whether to collect this forward's keys and values in `kept` (the pack is a trunk).
    """

    def __init__(self, layout: Layout, trunk: dict[int, KeysValues], *, keep: bool, device: torch.device) -> None:
        self._buckets = [_BucketOnDevice(bucket, layout.trunk_length, layout.position_T, device) for bucket in layout.buckets]
        self._trunk, self._trunk_length = trunk, layout.trunk_length
        self._keep, self.kept, self.calls = keep, dict[int, KeysValues](), 0

    @property
    def attention_pairs(self) -> int:
        """(Query, key) pairs that a layer computes, for the ledger."""
        return sum(bucket.visible_N_L_K.numel() for bucket in self._buckets)

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
        if self._keep:
            self.kept[layer] = key, value
        plain = softcap is None and sinks is None
        if self._trunk_length and plain and window is None and query.dtype == torch.bfloat16 and query.device.type == "cpu":
            return self._in_two_parts(layer, query, key, value, scaling)
        outs = []
        for bucket in self._buckets:
            query_N, key_N, value_N = (bucket.gathered(states) for states in (query, key, value))
            if self._trunk_length:
                trunk_key, trunk_value = (states.expand(len(key_N), -1, -1, -1) for states in self._trunk[layer])
                key_N, value_N = torch.cat([trunk_key, key_N], 2), torch.cat([trunk_value, value_N], 2)
            groups = query.shape[1] // key.shape[1]
            folded_N = _folded(query_N, groups)
            mask = bucket.mask(window, groups, 0, query.dtype)
            if plain:
                out_N = scaled_dot_product_attention(folded_N, key_N, value_N, attn_mask=mask, scale=scaling)
            else:
                out_N = _by_hand(folded_N, key_N, value_N, mask, scaling, softcap, None if sinks is None else sinks.view(-1, groups))
            outs.append(bucket.scattered(out_N.reshape(*query_N.shape[:3], -1)))
        return torch.cat(outs)[None]

    def _in_two_parts(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor:
        """As above: attention to the trunk for all tokens at once, to their own block bucket by bucket, and both put together.

        On a CPU in bfloat16 this takes about half the time of the fused kernel, which knows no bfloat16 arithmetic without AMX.
        """
        groups = query.shape[1] // key.shape[1]
        trunk_out, trunk_log = _partial(_folded(query, groups), *self._trunk[layer], None, scaling)
        heads, tokens = query.shape[1:3]
        outs, logs = [], []
        for bucket in self._buckets:
            query_N, key_N, value_N = (bucket.gathered(states) for states in (query, key, value))
            mask = bucket.mask(None, groups, self._trunk_length, torch.float32)
            out_N, log_N = _partial(_folded(query_N, groups), key_N, value_N, mask, scaling)
            outs.append(bucket.scattered(out_N.reshape(*query_N.shape[:3], -1)))
            logs.append(bucket.scattered(log_N.reshape(*query_N.shape[:3], 1)))
        trunk_out_T = trunk_out.reshape(heads, tokens, -1).transpose(0, 1)
        trunk_log_T = trunk_log.reshape(heads, tokens, 1).transpose(0, 1)
        weight_T = torch.sigmoid(trunk_log_T - torch.cat(logs))
        return torch.lerp(torch.cat(outs), trunk_out_T, weight_T).to(query.dtype)[None]


def _folded(query: torch.Tensor, groups: int) -> torch.Tensor:
    """The query heads of one key-value head put one after another, so that keys and values need not be repeated."""
    count, heads, width, size = query.shape
    return query.reshape(count, heads // groups, groups * width, size)


def _by_hand(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Attention with capped scores (Gemma 2), or with a score per head that takes its share and gives nothing (gpt-oss)."""
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = (scores + mask).float()
    if sinks is not None:
        per_query = sinks.float().repeat_interleave(query.shape[2] // sinks.shape[1], 1)[None, :, :, None]
        scores = torch.cat([scores, per_query.expand(len(scores), -1, -1, -1)], -1)
    weights = torch.softmax(scores, -1)[..., : key.shape[2]]
    return torch.matmul(weights.to(value.dtype), value)


def _partial(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention to some of the keys, and the log of the summed exponentials of its scores: what is needed to put parts together.

    Works on a few query rows at a time, whose scores stay in the processor's cache. Products are of bfloat16 numbers, sums in float32.
    """
    rows = max(16, _CACHED_SCORES // (len(query) * query.shape[1] * key.shape[2]))
    key_t, value = key.float().transpose(2, 3), value.float()
    outs, logs = [], []
    with torch.autocast("cpu", enabled=False):
        for start in range(0, query.shape[2], rows):
            part = slice(start, start + rows)
            with bfloat16_products():
                scores = torch.matmul(query[:, :, part].float(), key_t)
            scores.mul_(scaling)
            if mask is not None:
                scores.add_(mask[:, :, part])
            highest = scores.amax(-1, keepdim=True)
            scores.sub_(highest).exp_()
            total = scores.sum(-1, keepdim=True)
            with bfloat16_products():
                outs.append(torch.matmul(scores, value).div_(total))
            logs.append(total.log_().add_(highest))
    return torch.cat(outs, 2), torch.cat(logs, 2)


@contextlib.contextmanager
def bfloat16_products() -> Iterator[None]:
    """Products of float32 matrices that hold bfloat16 numbers are computed as such (on CPUs that can), results are float32 all the same."""
    backends: Any = torch.backends
    matmul = backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


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
        with known_forward(attention_pairs=tree.attention_pairs):
            yield
    finally:
        _current.pop()
