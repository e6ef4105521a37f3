"""Batched sampling with transformers' `generate`: prefixes and prompts computed once for all their samples, batches in a token budget."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

if TYPE_CHECKING:  # a second and more to import
    from transformers import DynamicCache

BATCH_TOKENS = 6_144
"""Most prompt-plus-reply tokens in a batch (prefixes not counted). Fixed, so that equal requests make equal batches."""

FIRST_STRETCH, LAST_STRETCH = 4, 16
"""Tokens between two looks at which replies have ended; doubled from the first to the last."""

PLAIN_SAMPLING = {"top_k": 0, "top_p": 1.0, "min_p": None, "typical_p": 1.0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
"""Undoes what a model's generation_config.json may set (Qwen's has top-k, top-p and a repetition penalty)."""

KeysValues = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Per layer, keys and values (1, heads, T, head_dim) of a prefix."""

PrefixCaches = MutableMapping[tuple[int, ...], KeysValues]
"""Keys and values of prefixes, by their token ids: a plain dict forgets nothing."""


class BoundedPrefixCaches(PrefixCaches):
    """Keeps the prefixes used last, `max_tokens` of them in all; a prefix longer than that is not kept at all."""

    def __init__(self, max_tokens: int) -> None:
        assert max_tokens > 0, max_tokens
        self.max_tokens, self.tokens = max_tokens, 0
        self._known: OrderedDict[tuple[int, ...], KeysValues] = OrderedDict()

    def __getitem__(self, prefix: tuple[int, ...]) -> KeysValues:
        self._known.move_to_end(prefix)
        return self._known[prefix]

    def __setitem__(self, prefix: tuple[int, ...], rows: KeysValues) -> None:
        self.pop(prefix, None)
        if len(prefix) > self.max_tokens:
            return
        self._known[prefix] = rows
        self.tokens += len(prefix)
        while self.tokens > self.max_tokens:
            self.tokens -= len(self._known.popitem(last=False)[0])

    def __delitem__(self, prefix: tuple[int, ...]) -> None:
        del self._known[prefix]
        self.tokens -= len(prefix)

    def __contains__(self, prefix: object) -> bool:
        # Asking is not using: the order stays.
        return prefix in self._known

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def generate_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    prefixes: Sequence[Sequence[int]],
    n: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    eos_ids: Sequence[int],
    pad_id: int,
    prefix_caches: PrefixCaches | None = None,
    stopped: Callable[[Sequence[int]], bool] | None = None,
) -> list[list[list[int]]]:
    """Samples `n` replies to each prompt.

    Args:
        model: a causal language model; its forwards are metered where its meter says.
        prompts: token ids, without their prefixes; none may be empty.
        prefixes: for each prompt the token ids that stand before it (may be empty); equal ones run through the model once.
        temperature: 0 is greedy, under the model's own repetition settings as in lm-eval; above 0 replies come from the model's
            distribution, neither truncated nor penalised.
        seed: of the sampling; equal arguments and seed give equal replies on one machine and thread count.
        prefix_caches: remembers prefixes from call to call; valid only as long as the model's weights do not change. Within a call every
            prefix is computed once at most, however little the caches keep.
        stopped: whether a reply so far needs no more tokens. Asked now and then, so that some tokens may follow its first yes.
    Returns:
        Per prompt, n lists of new token ids, the end token included where one was made, padding removed.
    """
    assert all(len(prompt) > 0 for prompt in prompts), "empty prompt"
    assert len(prefixes) == len(prompts), (len(prefixes), len(prompts))
    caches: PrefixCaches = {} if prefix_caches is None else prefix_caches
    rows = [(tuple(prefix), list(prompt)) for prefix, prompt in zip(prefixes, prompts, strict=True)]
    if outgrows_window(model, rows, max_new_tokens):
        rows = [((), [*prefix, *prompt]) for prefix, prompt in rows]
    uses = Counter(prefix for prefix, _ in rows if prefix)
    held: PrefixCaches = {prefix: caches[prefix] for prefix in uses if prefix in caches}
    order = sorted(range(len(rows)), key=lambda index: (-len(rows[index][1]), index))
    replies: list[list[list[int]]] = [[] for _ in prompts]
    options: dict[str, Any] = {"do_sample": temperature > 0}
    if temperature > 0:
        options |= {"temperature": temperature, **PLAIN_SAMPLING}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while order:
            size = max(1, BATCH_TOKENS // (n * (len(rows[order[0]][1]) + max_new_tokens)))
            batch, order = order[:size], order[size:]
            for prefix in dict.fromkeys(rows[index][0] for index in batch):
                if prefix and prefix not in held:
                    held[prefix] = caches[prefix] = _keys_values(model, prefix)
            ids_U_T, mask_U_T, cache = _prepared(model, [rows[index] for index in batch], n, pad_id, held)
            uses.subtract(rows[index][0] for index in batch)
            held = {prefix: rows_held for prefix, rows_held in held.items() if uses[prefix] > 0}
            ids_B_T, mask_B_T = ids_U_T.repeat_interleave(n, 0), mask_U_T.repeat_interleave(n, 0)
            continued = _continued(model, ids_B_T, mask_B_T, cache, max_new_tokens, list(eos_ids), pad_id, options, stopped)
            for row, new in enumerate(continued):
                replies[batch[row // n]].append(new)
    return replies


def outgrows_window(model: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]], max_new_tokens: int) -> bool:
    """Whether a sliding window could reach the padding between prefix and prompt, which would crowd real tokens out of it.

    Then nothing is shared: every row's prefix is computed with its prompt.
    """
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if window is None or not rows:
        return False
    longest = max(len(prefix) for prefix, _ in rows) + max(len(prompt) for _, prompt in rows) + max_new_tokens
    return longest > int(window)


def _prepared(
    model: Any, rows: list[tuple[tuple[int, ...], list[int]]], n: int, pad_id: int, held: PrefixCaches
) -> tuple[torch.Tensor, torch.Tensor, DynamicCache]:
    """Ids, mask and cache of a batch whose rows are [padding | prefix | padding | prompt], one row a prompt.

    Positions follow the mask, so padding changes nothing. The cache, rows repeated n times, holds all that stands before the last token
    when prompts are sampled more than once, and the prefixes alone when not.
    """
    longest = max(len(prefix) for prefix, _ in rows)
    width = max(len(prompt) for _, prompt in rows)
    gaps = [(longest - len(prefix), width - len(prompt)) for prefix, prompt in rows]
    ids = [[*[pad_id] * a, *prefix, *[pad_id] * b, *prompt] for (a, b), (prefix, prompt) in zip(gaps, rows, strict=True)]
    mask = [[0] * a + [1] * len(prefix) + [0] * b + [1] * len(prompt) for (a, b), (prefix, prompt) in zip(gaps, rows, strict=True)]
    ids_U_T, mask_U_T = torch.tensor(ids, device=model.device), torch.tensor(mask, device=model.device)
    cache = _stacked(model, [prefix for prefix, _ in rows], longest, held)
    if n > 1 and width > 1:
        position_U_T = (mask_U_T.cumsum(1) - 1).clamp(min=0)
        model(
            input_ids=ids_U_T[:, longest:-1],
            attention_mask=mask_U_T[:, :-1],
            position_ids=position_U_T[:, longest:-1],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    if n > 1 and cache.get_seq_length():
        cache.batch_repeat_interleave(n)
    return ids_U_T, mask_U_T, cache


def _stacked(model: Any, prefixes: list[tuple[int, ...]], longest: int, held: PrefixCaches) -> DynamicCache:
    """A cache with one row per prefix, shorter ones padded on the left."""
    from transformers import DynamicCache

    stacked = DynamicCache(config=model.config)
    if longest == 0:
        return stacked
    known = [held[prefix] if prefix else None for prefix in prefixes]
    shape = next(rows for rows in known if rows is not None)
    for layer, (keys, values) in enumerate(shape):
        empty = keys[:, :, :0], values[:, :, :0]
        pairs = [rows[layer] if rows is not None else empty for rows in known]
        keys_U, values_U = (torch.cat([pad(pair[side], (0, 0, longest - pair[side].shape[2], 0)) for pair in pairs]) for side in (0, 1))
        stacked.update(keys_U, values_U, layer)
    return stacked


def _keys_values(model: Any, prefix: tuple[int, ...]) -> KeysValues:
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    model(input_ids=torch.tensor([prefix], device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return tuple((layer.keys, layer.values) for layer in cache.layers)


def _continued(
    model: Any,
    ids_B_T: torch.Tensor,
    mask_B_T: torch.Tensor,
    cache: DynamicCache,
    max_new_tokens: int,
    eos_ids: list[int],
    pad_id: int,
    options: dict[str, Any],
    stopped: Callable[[Sequence[int]], bool] | None,
) -> list[list[int]]:
    """Per row its new tokens. Sampled in stretches; rows that ended or stopped in one leave the batch and cost nothing more."""
    replies: list[list[int]] = [[] for _ in ids_B_T]
    alive = list(range(len(replies)))
    stretch, left = FIRST_STRETCH, max_new_tokens
    while alive and left > 0:
        length = min(stretch, left)
        ids_B_T = model.generate(
            input_ids=ids_B_T,
            attention_mask=mask_B_T,
            past_key_values=cache,
            max_new_tokens=length,
            eos_token_id=eos_ids,
            pad_token_id=pad_id,
            **options,
        )
        new_B_t = ids_B_T[:, mask_B_T.shape[1] :].tolist()
        going = []
        for position, (row, new) in enumerate(zip(alive, new_B_t, strict=True)):
            replies[row] += _cut(new, eos_ids)
            if replies[row][-1] not in eos_ids and not (stopped and stopped(replies[row])):
                going.append(position)
        alive, left, stretch = [alive[position] for position in going], left - length, min(2 * stretch, LAST_STRETCH)
        if alive and left:
            kept = torch.tensor(going, device=ids_B_T.device)
            mask_B_T = torch.cat([mask_B_T, mask_B_T.new_ones(len(mask_B_T), length)], 1)[kept]
            ids_B_T = ids_B_T[kept]
            cache.batch_select_indices(kept)
    return replies


def _cut(ids: list[int], eos_ids: Sequence[int]) -> list[int]:
    for position, token in enumerate(ids):
        if token in eos_ids:
            return ids[: position + 1]
    return ids
