"""Token trees in every kind of transformers model, against one row per text; and what happens where they cannot be shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from test_packing import random_pairs

from harness.core.budget import Ledger
from harness.models.meter import meter
from harness.scoring import prefix
from harness.scoring.packing import TokenPair
from harness.scoring.prefix import Score, TokenBudget, score_pairs, unshareable

SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 256, "initializer_range": 0.4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
GROUPED = SIZES | {"num_key_value_heads": 2}

SMALL: dict[str, Any] = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

SHARING: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)),
    "qwen2 with windows": lambda: hf.Qwen2ForCausalLM(
        hf.Qwen2Config(**GROUPED, use_sliding_window=True, sliding_window=6, max_window_layers=1)
    ),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED, head_dim=8)),
    "gemma2 with soft caps": lambda: hf.Gemma2ForCausalLM(
        hf.Gemma2Config(
            **GROUPED, head_dim=8, sliding_window=8, attn_logit_softcapping=5.0, final_logit_softcapping=3.0, attn_implementation="eager"
        )
    ),
    "gemma3": lambda: hf.Gemma3ForCausalLM(
        hf.Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=8, layer_types=["sliding_attention", "full_attention"])
    ),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=64, n_positions=256, n_embd=32, n_layer=2, n_head=4, initializer_range=0.4, bos_token_id=1, eos_token_id=2
        )
    ),
    "neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**SIZES)),
    "granite scales its logits": lambda: hf.GraniteForCausalLM(
        hf.GraniteConfig(**GROUPED, logits_scaling=3.0, attention_multiplier=0.2, residual_multiplier=0.5)
    ),
    "cohere scales its logits": lambda: hf.CohereForCausalLM(hf.CohereConfig(**GROUPED, logit_scale=0.3)),
}  # fmt: skip
NOT_SHARING: dict[str, tuple[Callable[[], Any], str]] = {
    "recurrent": (
        lambda: hf.MambaForCausalLM(hf.MambaConfig(**SMALL, hidden_size=32, num_hidden_layers=2, state_size=4)),
        "linear_attention",
    ),
    "hybrid": (lambda: hf.Lfm2ForCausalLM(hf.Lfm2Config(**GROUPED, layer_types=["conv", "full_attention"])), "conv"),
    "bias by distance": (
        lambda: hf.BloomForCausalLM(hf.BloomConfig(**SMALL, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.4)),
        "not transformers' attention",
    ),
}  # fmt: skip


def built(make: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    return make().eval()


def scored(model: Any, pairs: list[TokenPair], *, budget: int = 120, share: bool = True) -> dict[TokenPair, Score]:
    batches = score_pairs(model, list(dict.fromkeys(pairs)), budget=TokenBudget(budget), autocast=None, share=share)
    return {pair: score for batch in batches for pair, score in batch.items()}


def mixed_pairs() -> list[TokenPair]:
    """Few-shot items, items with nothing in common, single tokens, and texts split twice."""
    shots, alone = random_pairs(1, shots=40, items=8, own=12), random_pairs(2, shots=0, items=4)
    twice = [((*context[:-1],), (context[-1], *tail)) for context, tail in shots[::6]]
    return [*shots, *alone, *twice]


def agree(found: dict[TokenPair, Score], expected: dict[TokenPair, Score]) -> None:
    assert found.keys() == expected.keys()
    assert {pair: score.greedy for pair, score in found.items()} == {pair: score.greedy for pair, score in expected.items()}
    assert max(abs(found[pair].logprob - expected[pair].logprob) for pair in found) < 1e-4


@pytest.mark.parametrize("name", SHARING)
def test_shared_tokens_change_nothing(name: str) -> None:
    model = built(SHARING[name])
    assert unshareable(model) is None
    agree(scored(model, mixed_pairs()), scored(model, mixed_pairs(), budget=1, share=False))


@pytest.mark.parametrize("name", NOT_SHARING)
def test_models_that_cannot_share_are_found_and_scored_row_by_row(name: str) -> None:
    make, reason = NOT_SHARING[name]
    model = built(make)
    assert reason in str(unshareable(model))
    agree(scored(model, mixed_pairs(), share=False), scored(model, mixed_pairs(), budget=1, share=False))


def test_a_model_whose_layers_do_something_else_with_positions_is_found_by_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(SHARING["llama"])
    forward = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda *args, position_ids=None, **options: forward(*args, **options))
    assert "come out differently" in str(unshareable(model))


def test_the_model_is_left_as_it_was() -> None:
    model = built(SHARING["gemma2 with soft caps"])
    ids = torch.tensor([[5, 6, 7]])
    before = model(ids).logits
    scored(model, mixed_pairs())
    assert model.config._attn_implementation == "eager"
    assert torch.equal(model(ids).logits, before)


def test_bfloat16_in_two_parts_stays_near_float32() -> None:
    model = built(SHARING["llama"])
    exact = scored(model, mixed_pairs(), share=False)
    low = scored(model.to(torch.bfloat16), mixed_pairs())
    plain = scored(model, mixed_pairs(), share=False)
    error, plain_error = (max(abs(scores[pair].logprob - exact[pair].logprob) for pair in exact) for scores in (low, plain))
    assert 0 < error < 1.5 * plain_error + 0.05


def test_memory_that_runs_out_halves_the_batches_for_good(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    model, pairs = built(SHARING["llama"]), mixed_pairs()
    expected = scored(model, pairs)
    compute = prefix._score_pack

    def short(model: Any, pack: Any, trunk: Any) -> Any:
        if pack.tokens > 60:
            raise torch.OutOfMemoryError("no memory left")
        return compute(model, pack, trunk)

    monkeypatch.setattr(prefix, "_score_pack", short)
    budget = TokenBudget(200)
    found = {
        pair: score
        for batch in score_pairs(model, list(dict.fromkeys(pairs)), budget=budget, autocast=None, share=True)
        for pair, score in batch.items()
    }
    agree(found, expected)
    assert 30 <= budget.tokens <= 60
    assert all("out of memory" in record.getMessage() for record in caplog.records)
    with pytest.raises(Exception, match="does not fit into memory"):
        scored(model, [((1,) * 100, (2,))])


def test_the_ledger_is_charged_for_what_is_computed() -> None:
    model = built(SHARING["llama"])
    ledger = Ledger(account="eval")
    meter(model, "tiny", ledger)
    pairs = [((1, 2, 3, 4), (5, 6)), ((1, 2, 3, 4), (7,))]
    scored(model, pairs)
    (row,) = [row for row in ledger.rows() if row["tokens"] > 0]
    assert row["tokens"] == 5, "four of the context, one of the first choice"
    matmul = sum(
        module.weight.numel() for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and "head" not in name
    )
    head = model.lm_head.weight.numel()
    attention = 4 * SIZES["num_hidden_layers"] * SIZES["hidden_size"] * 5 * 5
    assert ledger.spent("eval") == 2 * matmul * 5 + attention + 2 * head * 2
