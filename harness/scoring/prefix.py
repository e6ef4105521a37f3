"""Log-likelihoods of continuations with each distinct context computed once.

A batch of distinct contexts is run through the model once, its key-value cache is repeated per continuation, and only the
continuations are run on top. The LM head is evaluated at the last token of a context and at the tokens of its continuations, nowhere else.
The cache is the model's own, so sliding-window and other attention layouts stay exact.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
    def tail(self) -> int:
        """Length of the longest continuation as it is fed: without its last token, which predicts nothing."""
        return max(len(continuation) for continuation in self.continuations) - 1


def truncate(context: Sequence[int], continuation: Sequence[int], max_length: int) -> TokenPair:
    """Drops context tokens from the left until the fed tokens (all but the last) fit into `max_length`, as lm-eval does."""
    assert context and continuation and len(continuation) <= max_length, (len(context), len(continuation), max_length)
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
    scores: dict[TokenPair, Score] = {}
    groups = _group(pairs)
    total = sum(len(group.continuations) for group in groups)
    with torch.inference_mode(), _autocast(model, autocast), _float32_head(model):
        for batch in _batches(groups, token_budget):
            scores.update(_score_batch(model, batch, pad_token_id))
            if progress:
                progress(len(scores), total)
    return [scores[pair] for pair in pairs]


def _group(pairs: Sequence[TokenPair]) -> list[_Group]:
    by_context: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
    for context, continuation in pairs:
        by_context.setdefault(context, {})[continuation] = None
    groups = [_Group(context, tuple(continuations)) for context, continuations in by_context.items()]
    return sorted(groups, key=lambda group: (-len(group.context), -group.tail, group.context))


def _batches(groups: Sequence[_Group], token_budget: int) -> Iterator[list[_Group]]:
    batch: list[_Group] = []
    for group in groups:
        grown = [*batch, group]
        tail = max(member.tail for member in grown)
        rows = sum(len(member.continuations) for member in grown)
        if batch and len(grown[0].context) * len(grown) + rows * tail > token_budget:
            yield batch
            grown = [group]
        batch = grown
    if batch:
        yield batch


def _score_batch(model: Any, batch: Sequence[_Group], pad: int) -> dict[TokenPair, Score]:
    device = model.device
    rows = [(index, continuation) for index, group in enumerate(batch) for continuation in group.continuations]
    tail = max(group.tail for group in batch)
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


def _padded(
    rows: Sequence[Sequence[int]], pad: int, *, left: bool, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
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
    assert isinstance(head, nn.Linear) and "forward" not in vars(head), type(head)
    weight, bias = head.weight.float(), None if head.bias is None else head.bias.float()

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.linear(hidden.float(), weight, bias)

    head.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del head.forward
