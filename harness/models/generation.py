"""Batched sampling with transformers' `generate`, a shared prefix computed once, and batches that fit a token budget."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

BATCH_TOKENS = 6_144
"""Most prompt-plus-reply tokens in a batch (shared prefix not counted). Fixed, so that equal requests make equal batches."""


def generate_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    prefix: Sequence[int],
    n: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    eos_ids: Sequence[int],
    pad_id: int,
) -> list[list[list[int]]]:
    """Samples `n` replies to each prompt.

    Args:
        model: a causal language model; its forwards are metered where its meter says.
        prompts: token ids, without the shared prefix; none may be empty.
        prefix: token ids that stand before every prompt; run through the model once.
        temperature: 0 is greedy. No top-k or top-p truncation.
        seed: of the sampling; equal arguments and seed give equal replies on one machine and thread count.
    Returns:
        Per prompt, n lists of new token ids, the end token included where one was made, padding removed.
    """
    assert all(len(prompt) > 0 for prompt in prompts), "empty prompt"
    rows = [(index, list(prompt)) for index, prompt in enumerate(prompts) for _ in range(n)]
    rows.sort(key=lambda row: (-len(row[1]), row[0]))
    replies: list[list[list[int]]] = [[] for _ in prompts]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        cache = _prefix_cache(model, prefix)
        while rows:
            size = max(1, BATCH_TOKENS // (len(rows[0][1]) + max_new_tokens))
            batch, rows = rows[:size], rows[size:]
            ids_B_T, mask_B_T = _left_padded([prompt for _, prompt in batch], prefix, pad_id, model.device)
            options: dict[str, Any] = {"do_sample": temperature > 0}
            if temperature > 0:
                options |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
            if cache is not None:
                options["past_key_values"] = copy.deepcopy(cache)
                options["past_key_values"].batch_repeat_interleave(len(batch))
            output_B_T = model.generate(
                input_ids=ids_B_T,
                attention_mask=mask_B_T,
                max_new_tokens=max_new_tokens,
                eos_token_id=list(eos_ids),
                pad_token_id=pad_id,
                **options,
            )
            for (index, _), new in zip(batch, output_B_T[:, ids_B_T.shape[1] :].tolist(), strict=True):
                replies[index].append(_cut(new, eos_ids))
    return replies


def _prefix_cache(model: Any, prefix: Sequence[int]) -> DynamicCache | None:
    if not prefix:
        return None
    cache = DynamicCache(config=model.config)
    model(input_ids=torch.tensor([list(prefix)], device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def _left_padded(
    prompts: Sequence[Sequence[int]], prefix: Sequence[int], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [prefix | padding | prompt] and their mask; positions follow the mask, so padding in the middle changes nothing."""
    width = max(len(prompt) for prompt in prompts)
    ids = [[*prefix, *[pad_id] * (width - len(prompt)), *prompt] for prompt in prompts]
    mask = [[1] * len(prefix) + [0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _cut(ids: list[int], eos_ids: Sequence[int]) -> list[int]:
    for position, token in enumerate(ids):
        if token in eos_ids:
            return ids[: position + 1]
    return ids
