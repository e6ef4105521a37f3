"""Log-likelihoods of continuations with each distinct context computed once.

Where every layer is plain full attention, an item is one row: the context, then all its continuations side by side under a tree mask
(each sees the context and itself) with positions that all start after the context. Other models (sliding windows, recurrent states)
run the contexts, repeat their own cache per continuation, and run the continuations on top: exact too, and about half as fast.
The LM head is evaluated from the last token of a context on, nowhere before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn


class Score(NamedTuple):
    """Summed log-probability (nats) of a continuation, and whether greedy decoding would produce it."""

    logprob: float
    greedy: bool


TokenPair = tuple[tuple[int, ...], tuple[int, ...]]
"""Context and continuation token ids; neither is empty."""


@dataclass(frozen=True)
class _Group:
    context: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]

    @property
    def longest_tail(self) -> int:
        """Length of the longest continuation as it is fed: without its last token, which predicts nothing."""
        return max(len(continuation) for continuation in self.continuations) - 1

    @property
    def tails(self) -> int:
        """Length of all continuations as they are fed."""
        return sum(len(continuation) - 1 for continuation in self.continuations)


def truncate(context: Sequence[int], continuation: Sequence[int], max_length: int) -> TokenPair:
    """Drops context tokens from the left until the fed tokens (all but the last) fit into `max_length`, as lm-eval does."""
    assert min(len(context), len(continuation)) > 0, (len(context), len(continuation))
    assert len(continuation) <= max_length, (len(continuation), max_length)
    return tuple(context[-(max_length + 1 - len(continuation)) :]), tuple(continuation)


def score_pairs(
    model: Any,
    pairs: Sequence[TokenPair],
    *,
    token_budget: int,
    autocast: torch.dtype | None,
    pad_token_id: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Score]:
    """Scores `pairs` in their order; equal pairs are computed once.

    Args:
        model: a Hugging Face causal language model (or a PEFT one), in eval mode.
        token_budget: most padded tokens in one batch (a single item may exceed it). Batches depend on `pairs` only.
        autocast: type to compute in, or None for the weights' own; the LM head always runs in float32, because logits rounded to
            bfloat16 tie between single-token choices.
        progress: called after each batch with (distinct pairs scored, distinct pairs in all).
    """
    tree = _plain_attention(model)
    scores: dict[TokenPair, Score] = {}
    groups = _group(pairs)
    total = sum(len(group.continuations) for group in groups)
    with torch.inference_mode(), _autocast(model, autocast), _float32_head(model):
        for batch in _batches(groups, token_budget):
            scores.update(_score_tree(model, batch, pad_token_id) if tree else _score_cached(model, batch, pad_token_id))
            if progress:
                progress(len(scores), total)
    return [scores[pair] for pair in pairs]


def _plain_attention(model: Any) -> bool:
    """Whether a 4-d mask and positions of our own are all that attention depends on."""
    config = model.config.get_text_config()
    layers = getattr(config, "layer_types", None) or ["sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"]
    rotary = any(name.endswith("rotary_emb") for name, _ in model.named_modules())
    return set(layers) == {"full_attention"} and rotary and config._attn_implementation == "sdpa"


def _group(pairs: Sequence[TokenPair]) -> list[_Group]:
    by_context: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
    for context, continuation in pairs:
        by_context.setdefault(context, {})[continuation] = None
    groups = [_Group(context, tuple(sorted(continuations))) for context, continuations in by_context.items()]
    return sorted(groups, key=lambda group: (-len(group.context) - group.tails, group.context))


def _batches(groups: Sequence[_Group], token_budget: int) -> Iterator[list[_Group]]:
    """Cuts the sorted groups so that rows times the longest row stay within the budget."""
    batch: list[_Group] = []
    for group in groups:
        longest = max(len(member.context) for member in (*batch, group)) + max(member.tails for member in (*batch, group))
        if batch and longest * (len(batch) + 1) > token_budget:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _score_tree(model: Any, batch: Sequence[_Group], pad: int) -> dict[TokenPair, Score]:
    """One row per context: [padding | context | continuation 1 | continuation 2 ...], each continuation without its last token."""
    device = model.device
    width = max(len(group.context) + group.tails for group in batch)
    kept = max(group.tails for group in batch) + 1
    id_N_T, position_N_T = np.full((len(batch), width), pad), np.zeros((len(batch), width), dtype=np.int64)
    branch_N_T = np.full((len(batch), width), -1)  # 0 is the context, 1, 2 ... its continuations, -1 padding
    # One entry per predicted token; its source is the position that it is predicted from.
    pair_P, row_P, source_P, target_P = list[int](), list[int](), list[int](), list[int]()
    pairs: list[TokenPair] = []
    for row, group in enumerate(batch):
        length = len(group.context)
        at = width - length - group.tails
        id_N_T[row, at : at + length], position_N_T[row, at : at + length] = group.context, np.arange(length)
        branch_N_T[row, at : at + length] = 0
        last, at = at + length - 1, at + length
        for branch, continuation in enumerate(group.continuations, start=1):
            fed = len(continuation) - 1
            id_N_T[row, at : at + fed], position_N_T[row, at : at + fed] = continuation[:-1], length + np.arange(fed)
            branch_N_T[row, at : at + fed] = branch
            pair_P += [len(pairs)] * len(continuation)
            row_P += [row] * len(continuation)
            source_P += [last, *range(at, at + fed)]
            target_P += continuation
            pairs.append((group.context, continuation))
            at += fed
    ids, position, branch_T = (torch.from_numpy(array).to(device) for array in (id_N_T, position_N_T, branch_N_T))
    logits_N_K_V = model(
        input_ids=ids, attention_mask=_tree_mask(branch_T, position), position_ids=position, use_cache=False, logits_to_keep=kept
    ).logits.float()
    pair, row_index, source, target = (torch.tensor(values, device=device) for values in (pair_P, row_P, source_P, target_P))
    source -= width - kept
    normaliser_N_K = torch.stack([logits_K_V.logsumexp(-1) for logits_K_V in logits_N_K_V])  # by rows: less memory to touch
    logprob_P = logits_N_K_V[row_index, source, target] - normaliser_N_K[row_index, source]
    miss_P = logits_N_K_V.argmax(-1)[row_index, source] != target
    sums_2_R = torch.zeros(2, len(pairs), dtype=torch.float64, device=device)
    sums_2_R.index_add_(1, pair, torch.stack([logprob_P.double(), miss_P.double()]))
    logprobs, misses = sums_2_R.tolist()  # the batch's one device synchronisation
    return {key: Score(logprob, not missed) for key, logprob, missed in zip(pairs, logprobs, misses, strict=True)}


def _tree_mask(branch_N_T: torch.Tensor, position_N_T: torch.Tensor) -> torch.Tensor:
    """(N, 1, T, T): a token sees earlier tokens of its context and its own branch; padding sees itself, so that no row is empty."""
    query, key = branch_N_T[:, :, None], branch_N_T[:, None, :]
    visible = ((key == 0) | (key == query)) & (key >= 0) & (position_N_T[:, None, :] <= position_N_T[:, :, None])
    itself = torch.eye(branch_N_T.shape[1], dtype=torch.bool, device=branch_N_T.device)
    return (visible | itself)[:, None]


def _score_cached(model: Any, batch: Sequence[_Group], pad: int) -> dict[TokenPair, Score]:
    """Contexts once, then one row per continuation on their repeated cache."""
    device = model.device
    rows = [(index, continuation) for index, group in enumerate(batch) for continuation in group.continuations]
    tail = max(group.longest_tail for group in batch)
    context_N_T, mask_N_T = _padded([group.context for group in batch], pad, left=True, device=device)
    out = model(
        input_ids=context_N_T,
        attention_mask=mask_N_T,
        position_ids=(mask_N_T.cumsum(-1) - 1).clamp(min=0),
        use_cache=tail > 0,
        logits_to_keep=1,
    )
    item_R = torch.tensor([index for index, _ in rows], device=device)
    first_R = torch.tensor([continuation[0] for _, continuation in rows], device=device)
    logits_N_V = out.logits[:, -1].float()
    logprob_R = (logits_N_V[item_R, first_R] - logits_N_V.logsumexp(-1)[item_R]).double()
    greedy_R = logits_N_V.argmax(-1)[item_R] == first_R
    if tail:
        long = [row for row, (_, continuation) in enumerate(rows) if len(continuation) > 1]
        long_L = torch.tensor(long, device=device)
        tail_logprob_L, tail_greedy_L = _score_tails(
            model, out.past_key_values, mask_N_T, item_R[long_L], [rows[row][1] for row in long], pad
        )
        logprob_R[long_L] += tail_logprob_L
        greedy_R[long_L] &= tail_greedy_L
    values = torch.stack([logprob_R, greedy_R.double()]).tolist()  # the batch's one device synchronisation
    return {
        (batch[index].context, continuation): Score(logprob, bool(greedy))
        for (index, continuation), logprob, greedy in zip(rows, *values, strict=True)
    }


def _score_tails(
    model: Any,
    cache: Any,
    mask_N_T: torch.Tensor,
    item_L: torch.Tensor,
    continuations: Sequence[tuple[int, ...]],
    pad: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and greediness of every token after the first, summed per continuation, on top of the contexts' cache."""
    fed_L_T, fed_mask_L_T = _padded([continuation[:-1] for continuation in continuations], pad, left=False, device=item_L.device)
    target_L_T, _ = _padded([continuation[1:] for continuation in continuations], pad, left=False, device=item_L.device)
    cache.batch_select_indices(item_L)
    context_mask_L_T = mask_N_T[item_L]
    start_L = context_mask_L_T.sum(-1, keepdim=True)
    logits_L_T_V = model(
        input_ids=fed_L_T,
        attention_mask=torch.cat([context_mask_L_T, fed_mask_L_T], dim=-1),
        position_ids=start_L + torch.arange(fed_L_T.shape[1], device=item_L.device),
        past_key_values=cache,
        use_cache=True,
    ).logits.float()
    target_logit_L_T = logits_L_T_V.gather(-1, target_L_T[..., None]).squeeze(-1)
    logprob_L_T = (target_logit_L_T - logits_L_T_V.logsumexp(-1)).double()
    matches_L_T = (logits_L_T_V.argmax(-1) == target_L_T) | (fed_mask_L_T == 0)
    return (logprob_L_T * fed_mask_L_T).sum(-1), matches_L_T.all(-1)


def _padded(rows: Sequence[Sequence[int]], pad: int, *, left: bool, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their 0/1 mask, both (rows, longest)."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        span = slice(width - len(row), width) if left else slice(0, len(row))
        ids[index, span] = torch.tensor(row, dtype=torch.long)
        mask[index, span] = 1
    return ids.to(device), mask.to(device)


def _autocast(model: Any, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast(model.device.type, dtype) if dtype is not None else contextlib.nullcontext()


@contextlib.contextmanager
def _float32_head(model: Any) -> Iterator[None]:
    """Runs the LM head in float32 while the block lasts; hooks on it (the meter's) still run."""
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear), type(head)
    assert "forward" not in vars(head), "the head's forward is replaced already"
    weight, bias = head.weight.float(), None if head.bias is None else head.bias.float()

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.linear(hidden.float(), weight, bias)

    head.forward = forward  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del head.forward
