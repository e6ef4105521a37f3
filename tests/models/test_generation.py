"""Sharing what prompts have in common changes what generation costs, and nothing else."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from harness.core.budget import Ledger
from harness.models.generation import generate_tokens
from harness.models.meter import meter

EOS, PAD = 1, 0
PREFIX = [5, 9, 33, 7, 12, 40, 41, 8, 22, 17]
PREFIXES = [PREFIX, PREFIX[:4], [], PREFIX]
PROMPTS = [[11, 12, 13], [14], [20, 21, 22, 23, 24, 25, 26], [30, 31]]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        eos_token_id=EOS, pad_token_id=PAD, bos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def _generate(model: LlamaForCausalLM, prompts: list[list[int]], **options: object) -> list[list[list[int]]]:
    prefixes = options.pop("prefixes", [[]] * len(prompts))
    defaults = {"prefixes": prefixes, "n": 1, "max_new_tokens": 9, "temperature": 0.0, "seed": 3, "eos_ids": [EOS], "pad_id": PAD}
    with torch.inference_mode():
        return generate_tokens(model, prompts, **{**defaults, **options})  # type: ignore[arg-type]


def test_greedy_replies_equal_those_of_each_prompt_alone(model: LlamaForCausalLM) -> None:
    together = _generate(model, PROMPTS)
    assert together == [_generate(model, [prompt])[0] for prompt in PROMPTS]
    assert len({tuple(reply) for (reply,) in together}) > 1


def test_a_shared_prefix_is_the_same_as_a_longer_prompt(model: LlamaForCausalLM) -> None:
    joined = [[*prefix, *prompt] for prefix, prompt in zip(PREFIXES, PROMPTS, strict=True)]
    assert _generate(model, PROMPTS, prefixes=PREFIXES) == _generate(model, joined)


def test_a_remembered_prefix_gives_the_same_replies_for_less(model: LlamaForCausalLM) -> None:
    ledger, caches = Ledger(), {}
    handle = meter(model, "tiny", ledger)
    first = _generate(model, PROMPTS, prefixes=PREFIXES, prefix_caches=caches)
    cost = ledger.spent()
    assert set(caches) == {tuple(prefix) for prefix in PREFIXES if prefix}
    assert _generate(model, PROMPTS, prefixes=PREFIXES, prefix_caches=caches) == first
    handle.detach()
    assert ledger.spent() - cost < cost


@pytest.mark.parametrize("window", [8, 30])
def test_a_sliding_window_model_replies_as_to_whole_prompts_and_shares_what_fits_the_window(window: int) -> None:
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        sliding_window=window, eos_token_id=EOS, pad_token_id=PAD, bos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    gemma = Gemma3ForCausalLM(config).eval()
    caches: dict[tuple[int, ...], object] = {}
    found = _generate(gemma, PROMPTS, prefixes=PREFIXES, prefix_caches=caches)
    assert found == _generate(gemma, [[*prefix, *prompt] for prefix, prompt in zip(PREFIXES, PROMPTS, strict=True)])
    assert bool(caches) == (window == 30)


@pytest.mark.parametrize("prefixes", [[[]] * 4, PREFIXES])
def test_samples_follow_the_model_whether_or_not_the_prompt_is_shared(model: LlamaForCausalLM, prefixes: list[list[int]]) -> None:
    """At a temperature near 0 every one of the n samples is the greedy reply, padded prompts included."""
    greedy = _generate(model, PROMPTS, prefixes=prefixes)
    sampled = _generate(model, PROMPTS, prefixes=prefixes, n=3, temperature=1e-4)
    assert sampled == [reply * 3 for reply in greedy]


def test_replies_repeat_with_the_seed_and_change_with_another(model: LlamaForCausalLM) -> None:
    first = _generate(model, PROMPTS, n=4, temperature=1.0)
    assert first == _generate(model, PROMPTS, n=4, temperature=1.0)
    assert first != _generate(model, PROMPTS, n=4, temperature=1.0, seed=4)


def test_n_replies_share_the_cost_of_their_prompt(model: LlamaForCausalLM) -> None:
    ledger = Ledger()
    handle = meter(model, "tiny", ledger)
    long_prompt = [[3 + i % 60 for i in range(40)]]
    _generate(model, long_prompt, n=1, temperature=1.0, max_new_tokens=1)
    one = ledger.spent()
    _generate(model, long_prompt, n=8, temperature=1.0, max_new_tokens=1)
    handle.detach()
    assert ledger.spent() - one < 2 * one


def test_a_reply_ends_with_its_first_end_token(model: LlamaForCausalLM) -> None:
    (replies,) = _generate(model, [PROMPTS[0]], n=16, temperature=3.0, max_new_tokens=60)
    ended = [reply for reply in replies if EOS in reply]
    assert ended
    assert all(reply.index(EOS) == len(reply) - 1 for reply in ended)
    assert all(len(reply) <= 60 for reply in replies)


def test_rows_that_ended_cost_nothing_more(model: LlamaForCausalLM) -> None:
    """Replies that end at once: the price is that of a few tokens, not of the limit."""

    def price(eos_ids: list[int]) -> float:
        ledger = Ledger()
        handle = meter(model, "tiny", ledger)
        _generate(model, [PROMPTS[0]] * 4, max_new_tokens=60, eos_ids=eos_ids)
        handle.detach()
        return ledger.spent()

    assert price(list(range(64))) < 0.15 * price([63])


def test_leaving_rows_do_not_disturb_those_that_stay(model: LlamaForCausalLM) -> None:
    """Prompts whose replies end at different lengths are answered as each alone."""
    prompts = [[3 + (7 * i) % 60, 5 + i] for i in range(12)]
    ends = [_generate(model, [prompt], max_new_tokens=40, eos_ids=[11, 44])[0][0] for prompt in prompts]
    assert len({len(reply) for reply in ends}) > 3
    assert [reply for (reply,) in _generate(model, prompts, max_new_tokens=40, eos_ids=[11, 44])] == ends
