"""Log-likelihoods of continuations with every shared token computed once (harness.scoring.packing plans, tree_attention attends).

Models whose layers are all transformers' own attention share: full or sliding windows, rotary or learned positions, soft caps. What a
model cannot share is found by trying: a probe of a few tokens is computed both ways before the first request. Others (recurrent,
hybrid, biases by distance) run one row per distinct text, as lm-eval does, with the output head only where it is needed.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from harness.errors import SelfteachError
from harness.models.meter import known_forward, transformer_body
from harness.scoring.packing import Block, Layout, Pack, Prediction, TokenPair, lay_out, plan
from harness.scoring.tree_attention import KeysValues, NotShareableError, TreeAttention, attending, bfloat16_products, installed

log = logging.getLogger(__name__)

HEAD_ELEMENTS = 1 << 26
"""Most logits held at once (256 MB in float32); a single text may exceed it."""
_HEAD_ROWS = 64
_PROBE_TOKENS = 14
_PROBE_TOLERANCE = {torch.float32: 1e-3}
_PROBE_TOLERANCE_LOW = 0.5
"""Nats between both ways of computing a token's log-probability that rounding explains; sharing that does not fit is off by more."""


class Score(NamedTuple):
    """Summed log-probability (nats) of a continuation, and whether greedy decoding would produce it."""

    logprob: float
    greedy: bool


@dataclass
class TokenBudget:
    """Most tokens computed at once; what did not fit into memory halves it for good."""

    tokens: int


def score_pairs(
    model: Any, pairs: Sequence[TokenPair], *, budget: TokenBudget, autocast: torch.dtype | None, share: bool
) -> Iterator[dict[TokenPair, Score]]:
    """Scores of distinct pairs, batch by batch; every pair is in one batch.

    Args:
        model: a Hugging Face causal language model (or a PEFT one), in eval mode.
        budget: most tokens in one batch (a single text may exceed it). Batches depend on it and on `pairs` only.
        autocast: type to compute in, or None for the weights' own; the LM head always runs in float32, because logits rounded to
            bfloat16 tie between single-token choices.
        share: whether shared tokens are computed once (`unshareable` tells if they can be).
    """
    with torch.inference_mode(), _autocast(model, autocast), float32_head(model):
        yield from (_shared if share else _rowwise)(model, pairs, budget)


def unshareable(model: Any) -> str | None:
    """Why shared tokens cannot be computed once in this model, in a few words; None if they can.

    Computes two texts with a common beginning both ways, about 60 tokens in all.
    """
    body = transformer_body(model)
    if body is None:
        return "it is not a transformers model"
    config: Any = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"it has layers of another kind ({', '.join(sorted(kinds))})"
    rng = np.random.default_rng(0)
    tokens = [int(token) for token in rng.integers(0, config.vocab_size, _PROBE_TOKENS)]
    start = tuple(tokens[:6])
    pairs = [((*start, *tokens[6:9]), tuple(tokens[9:12])), ((*start, *tokens[6:9]), tuple(tokens[10:12])), (start, tuple(tokens[12:]))]
    packs = [Pack(start[:5], tuple(block for pack in plan(pairs, token_budget=64, prediction_budget=64) for block in pack.blocks))]
    with torch.inference_mode(), float32_head(model):
        try:
            with installed(model):
                trunk, calls = _trunk(model, packs[0].trunk)
                found = _score_pack(model, packs[0], trunk)
        except NotShareableError as error:
            return f"its attention has {error}"
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return f"its code does not take packed tokens ({type(error).__name__})"
        if calls != config.num_hidden_layers:
            return f"{config.num_hidden_layers - calls} of its {config.num_hidden_layers} layers are not transformers' attention"
        expected = {pair: score for batch in _rowwise(model, pairs, TokenBudget(64)) for pair, score in batch.items()}
    tolerance = _PROBE_TOLERANCE.get(next(body.parameters()).dtype, _PROBE_TOLERANCE_LOW)
    worst = max(abs(found[pair].logprob - expected[pair].logprob) / len(pair[1]) for pair in pairs)
    return None if worst <= tolerance else f"packed tokens come out differently (by {worst:.2g} nats)"


def _shared(model: Any, pairs: Sequence[TokenPair], budget: TokenBudget) -> Iterator[dict[TokenPair, Score]]:
    vocabulary = model.config.get_text_config().vocab_size
    packs = plan(pairs, token_budget=budget.tokens, prediction_budget=max(1, HEAD_ELEMENTS // vocabulary))[::-1]
    trunk: dict[int, KeysValues] = {}
    trunk_ids: tuple[int, ...] = ()
    with installed(model):
        while packs:
            pack = packs.pop()
            if len(pack.blocks) > 1 and pack.tokens > 2 * budget.tokens:
                packs += reversed(pack.halves())
                continue
            try:
                if pack.trunk != trunk_ids:
                    trunk, _ = _trunk(model, pack.trunk)
                    trunk_ids = pack.trunk
                scores = _score_pack(model, pack, trunk)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                scores = None
            if scores is None:
                _shrink(budget, pack.tokens, len(pack.blocks))
                packs += reversed(pack.halves())
            else:
                yield scores


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _shrink(budget: TokenBudget, tokens: int, members: int) -> None:
    if members == 1:
        raise SelfteachError(f"one text of {tokens} tokens does not fit into memory: use a smaller max_length, or dtype=bfloat16")
    budget.tokens = max(1, tokens // 2)
    log.warning("out of memory with %d tokens at once: going on with %d", tokens, budget.tokens)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _trunk(model: Any, ids: tuple[int, ...]) -> tuple[dict[int, KeysValues], int]:
    """Keys and values of a common beginning, per layer, and the number of attention calls that made them."""
    if not ids:
        return {}, 0
    chain = Block(ids, (), (), (Prediction(len(ids) - 1, ids[-1], (ids, ids[-1:])),))
    layout = lay_out(Pack((), (chain,)))
    tree = TreeAttention(layout, {}, keep=True, device=model.device)
    with attending(tree):
        model(**_inputs(model, layout), use_cache=False, logits_to_keep=1)
    return tree.kept, tree.calls


def _inputs(model: Any, layout: Layout) -> dict[str, torch.Tensor]:
    ids, positions = (torch.from_numpy(array)[None].to(model.device, non_blocking=True) for array in (layout.ids_T, layout.position_T))
    return {"input_ids": ids, "position_ids": positions}


def _score_pack(model: Any, pack: Pack, trunk: dict[int, KeysValues]) -> dict[TokenPair, Score]:
    layout = lay_out(pack)
    source_K, row_R, target_R, pair_R = (
        torch.from_numpy(array).to(model.device, non_blocking=True)
        for array in (layout.source_K, layout.row_R, layout.target_R, layout.pair_R)
    )
    tree = TreeAttention(layout, trunk, keep=False, device=model.device)
    with attending(tree):
        logits_K_V = model(**_inputs(model, layout), use_cache=False, logits_to_keep=source_K).logits[0]
    return _summed(logits_K_V, row_R, target_R, pair_R, layout.pairs)


def _summed(
    logits_K_V: torch.Tensor, row_R: torch.Tensor, target_R: torch.Tensor, pair_R: torch.Tensor, pairs: Sequence[TokenPair]
) -> dict[TokenPair, Score]:
    """Scores from the logits at K positions; prediction r is `target_R[r]` at `row_R[r]`, and counts for `pairs[pair_R[r]]`."""
    best, top, rest = list[torch.Tensor](), list[torch.Tensor](), list[torch.Tensor]()
    for logits in torch.split(logits_K_V, _HEAD_ROWS):  # a few rows at a time stay in the cache, and need no second copy of all logits
        logits = logits.float()
        best.append(logits.argmax(-1, keepdim=True))
        top.append(logits.gather(-1, best[-1]))
        # torch's log_softmax, which lm-eval uses, rounds its sum by up to 1e-5 always in one direction: 2e-4 over 30 tokens. Taking the sum
        # from it keeps that, and so agrees.
        rest.append(logits.log_softmax(-1).gather(-1, best[-1]))
    best_K, top_K, rest_K = (torch.cat(parts)[:, 0] for parts in (best, top, rest))
    logprob_R = (logits_K_V[row_R, target_R].float() - top_K[row_R]) + rest_K[row_R]
    miss_R = best_K[row_R] != target_R
    sums = torch.zeros(2, len(pairs), dtype=torch.float64, device=logits_K_V.device)
    sums.index_add_(1, pair_R, torch.stack([logprob_R.double(), miss_R.double()]))
    logprobs, misses = sums.tolist()  # the batch's one device synchronisation
    return {pair: Score(logprob, not missed) for pair, logprob, missed in zip(pairs, logprobs, misses, strict=True)}


def _rowwise(model: Any, pairs: Sequence[TokenPair], budget: TokenBudget) -> Iterator[dict[TokenPair, Score]]:
    """One row per distinct text that is fed, padded on the right, which no causal model sees."""
    members: dict[tuple[int, ...], dict[TokenPair, None]] = {}
    for pair in pairs:
        members.setdefault((*pair[0], *pair[1][:-1]), {})[pair] = None
    texts = sorted(members, key=lambda text: (len(text), text))
    while texts:
        count = min(len(texts), max(1, budget.tokens // len(texts[-1])))
        batch = texts[-count:]
        try:
            scores = _score_rows(model, [(text, list(members[text])) for text in batch])
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            scores = None
        if scores is None:
            _shrink(budget, count * len(texts[-1]), count)
        else:
            del texts[-count:]
            yield scores


def _score_rows(model: Any, rows: Sequence[tuple[tuple[int, ...], list[TokenPair]]]) -> dict[TokenPair, Score]:
    width = max(len(text) for text, _ in rows)
    ids_N_T = np.zeros((len(rows), width), dtype=np.int64)
    first = min(len(context) - 1 for _, pairs in rows for context, _ in pairs)
    head_positions = _positions_argument(model, width - first)
    skipped = first if head_positions else 0
    row_R, target_R, pair_R, scored = list[int](), list[int](), list[int](), list[TokenPair]()
    for row, (text, pairs) in enumerate(rows):
        ids_N_T[row, : len(text)] = text
        for context, continuation in pairs:
            start = row * (width - skipped) + len(context) - 1 - skipped
            row_R += range(start, start + len(continuation))
            target_R += continuation
            pair_R += [len(scored)] * len(continuation)
            scored.append((context, continuation))
    with known_forward(padding=ids_N_T.size - sum(len(text) for text, _ in rows)):
        logits_N_T_V = model(input_ids=torch.from_numpy(ids_N_T).to(model.device), use_cache=False, **head_positions).logits
    rows_R, targets_R, pairs_R = (torch.tensor(values, device=model.device) for values in (row_R, target_R, pair_R))
    return _summed(logits_N_T_V.flatten(0, 1), rows_R, targets_R, pairs_R, scored)


def _positions_argument(model: Any, last: int) -> dict[str, int]:
    """What makes the model evaluate its head at the last positions alone, where it can."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return {"logits_to_keep": last} if "logits_to_keep" in inspect.signature(base.forward).parameters else {}


def _autocast(model: Any, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast(model.device.type, dtype) if dtype is not None else contextlib.nullcontext()


@contextlib.contextmanager
def float32_head(model: Any) -> Iterator[None]:
    """Runs the LM head in float32 while the block lasts; hooks on it (the meter's) still run."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        yield
        return
    assert "forward" not in vars(head), "the head's forward is replaced already"
    on_gpu, half = head.weight.is_cuda and head.weight.dtype != torch.float32, head.weight.dtype == torch.bfloat16
    weight = head.weight if on_gpu else head.weight.float()
    bias = None if head.bias is None else head.bias.float()

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False), bfloat16_products() if half else contextlib.nullcontext():
            if not on_gpu:
                return nn.functional.linear(hidden.float(), weight, bias)
            # Products of half-precision numbers, summed and returned in float32: no copy of the weight, and tensor cores are used.
            logits: torch.Tensor = torch.mm(hidden.flatten(0, -2).to(weight.dtype), weight.t(), out_dtype=torch.float32)
            return (logits if bias is None else logits + bias).view(*hidden.shape[:-1], -1)

    head.forward = forward  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del head.forward
