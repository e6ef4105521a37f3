"""Batched sampling with transformers' `generate`: shared prefix and prompts computed once, batches that fit a token budget."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

BATCH_TOKENS = 6_144
"""Most prompt-plus-reply tokens in a batch (shared prefix not counted). Fixed, so that equal requests make equal batches."""

PrefixCaches = dict[tuple[int, ...], DynamicCache]
"""Keys and values of prefixes, by their token ids."""


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
    prefix_caches: PrefixCaches | None = None,
) -> list[list[list[int]]]:
    """Samples `n` replies to each prompt.

    Args:
        model: a causal language model; its forwards are metered where its meter says.
        prompts: token ids, without the shared prefix; none may be empty.
        prefix: token ids that stand before every prompt; run through the model once.
        prefix_caches: remembers prefixes from call to call; valid only as long as the model's weights do not change.
        temperature: 0 is greedy. No top-k or top-p truncation.
        seed: of the sampling; equal arguments and seed give equal replies on one machine and thread count.
    Returns:
        Per prompt, n lists of new token ids, the end token included where one was made, padding removed.
    """
    assert all(len(prompt) > 0 for prompt in prompts), "empty prompt"
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    replies: list[list[list[int]]] = [[] for _ in prompts]
    options: dict[str, Any] = {"do_sample": temperature > 0}
    if temperature > 0:
        options |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prefix_cache = _prefix_cache(model, tuple(prefix), {} if prefix_caches is None else prefix_caches)
        while order:
            size = max(1, BATCH_TOKENS // (n * (len(prompts[order[0]]) + max_new_tokens)))
            batch, order = order[:size], order[size:]
            ids_U_T, mask_U_T = _left_padded([prompts[index] for index in batch], prefix, pad_id, model.device)
            cache = _prompt_cache(model, prefix_cache, ids_U_T, mask_U_T, n)
            output_B_T = model.generate(
                input_ids=ids_U_T.repeat_interleave(n, 0),
                attention_mask=mask_U_T.repeat_interleave(n, 0),
                past_key_values=cache,
                max_new_tokens=max_new_tokens,
                eos_token_id=list(eos_ids),
                pad_token_id=pad_id,
                **options,
            )
            new_B_T = output_B_T[:, ids_U_T.shape[1] :].tolist()
            for row, new in enumerate(new_B_T):
                replies[batch[row // n]].append(_cut(new, eos_ids))
    return replies


def _prefix_cache(model: Any, prefix: tuple[int, ...], caches: PrefixCaches) -> DynamicCache | None:
    if not prefix:
        return None
    if prefix not in caches:
        cache = DynamicCache(config=model.config)
        model(input_ids=torch.tensor([prefix], device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
        caches[prefix] = cache
    return caches[prefix]


def _prompt_cache(
    model: Any, prefix_cache: DynamicCache | None, ids_U_T: torch.Tensor, mask_U_T: torch.Tensor, n: int
) -> DynamicCache | None:
    """What stands before the last prompt token, computed once for the n replies of each prompt; None where nothing is shared."""
    cache = copy.deepcopy(prefix_cache)
    if cache is not None:
        cache.batch_repeat_interleave(len(ids_U_T))
    past_tokens = cache.get_seq_length() if cache is not None else 0
    shared = slice(past_tokens, ids_U_T.shape[1] - 1)
    if n > 1 and shared.stop > shared.start:
        cache = cache if cache is not None else DynamicCache(config=model.config)
        position_U_T = (mask_U_T.cumsum(1) - 1).clamp(min=0)
        model(
            input_ids=ids_U_T[:, shared],
            attention_mask=mask_U_T[:, :-1],
            position_ids=position_U_T[:, shared],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    if cache is not None and n > 1:
        cache.batch_repeat_interleave(n)
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
