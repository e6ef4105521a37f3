"""Remembered prefixes stay within their bound, and the bound changes what is computed again, never what comes out."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from harness.core.budget import Ledger
from harness.models.generation import BoundedPrefixCaches, generate_tokens
from harness.models.meter import meter

PROMPTS = [[11, 12, 13], [14, 15], [20, 21, 22, 23], [30, 31]]
PREFIXES = [[5, 9, 33, 7, 12, 40], [41, 8, 22, 17], [5, 9, 33, 7, 12, 40], [50, 51, 52]]


def filled(max_tokens: int, *lengths: int) -> BoundedPrefixCaches:
    caches = BoundedPrefixCaches(max_tokens)
    for place, length in enumerate(lengths):
        caches[(place,) * length] = ()
    return caches


def test_the_longest_unused_go_first() -> None:
    caches = filled(10, 4, 3, 3)
    assert (len(caches), caches.tokens) == (3, 10)
    caches[(0,) * 4]
    caches[(9,)] = ()
    assert list(caches) == [(2,) * 3, (0,) * 4, (9,)]
    assert caches.tokens == 8


def test_asking_whether_a_prefix_is_known_is_no_use_of_it() -> None:
    caches = filled(10, 4, 3, 3)
    assert (0,) * 4 in caches
    caches[(9,)] = ()
    assert (0,) * 4 not in caches


def test_what_cannot_fit_is_not_kept_and_drives_nothing_out() -> None:
    caches = filled(10, 4, 3)
    caches[tuple(range(11))] = ()
    assert list(caches) == [(0,) * 4, (1,) * 3]


def test_setting_again_and_deleting_keep_count() -> None:
    caches = filled(10, 4, 3)
    caches[(0,) * 4] = ()
    assert (list(caches), caches.tokens) == ([(1,) * 3, (0,) * 4], 7)
    del caches[(1,) * 3]
    assert caches.tokens == 4
    with pytest.raises(KeyError):
        caches[(1,) * 3]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        eos_token_id=1, pad_token_id=0, bos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def replies(model: LlamaForCausalLM, caches: BoundedPrefixCaches | None) -> list[list[list[int]]]:
    options = {"n": 2, "max_new_tokens": 6, "temperature": 1.0, "seed": 0, "eos_ids": [1], "pad_id": 0}
    with torch.inference_mode():
        return generate_tokens(model, PROMPTS, prefixes=PREFIXES, prefix_caches=caches, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("max_tokens", [1, 4, 9, 100])
@pytest.mark.parametrize("batch_tokens", [1, 6_144])
def test_a_bound_changes_no_reply_and_each_prefix_is_computed_once_a_call(
    model: LlamaForCausalLM, max_tokens: int, batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where every prompt is a batch of its own and nothing fits the cache."""
    monkeypatch.setattr("harness.models.generation.BATCH_TOKENS", batch_tokens)
    caches, ledger = BoundedPrefixCaches(max_tokens), Ledger()
    expected = replies(model, None)
    handle = meter(model, "tiny", ledger)
    assert replies(model, caches) == expected
    first = ledger.spent()
    assert replies(model, caches) == expected
    handle.detach()
    handle = meter(model, "tiny", unlimited := Ledger())
    assert replies(model, None) == expected
    handle.detach()
    assert first == unlimited.spent()
    assert caches.tokens <= max_tokens
    assert (ledger.spent() - first < first) == (max_tokens >= 4)
