"""The meter against torch's FlopCounterMode, by phase, for four architectures built small."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from harness.core.budget import Ledger
from harness.errors import BudgetExceeded, SpecError
from harness.models.meter import Meter

SIZES = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4}


def _llama(**options: Any) -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2, **options))


def _qwen() -> nn.Module:
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=1, tie_word_embeddings=True))


def _gemma() -> nn.Module:
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, num_key_value_heads=1, head_dim=32, sliding_window=512))


def _gpt2() -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=64, n_layer=3, n_head=4))


LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")

ARCHITECTURES = {
    "llama": _llama,
    "llama, tied": lambda: _llama(tie_word_embeddings=True),
    "qwen": _qwen,
    "gemma": _gemma,
    "gpt2": _gpt2,
}


GROUPED_PRODUCT = {torch.ops.aten._grouped_mm: lambda left, right, *_, **__: 2 * left[0] * left[1] * right[-1]}
"""Each row meets one of the stacked experts; the counter does not know."""


def _agree(model: nn.Module, work: Any) -> None:
    ledger = Ledger()
    meter = Meter(model, "m", ledger)
    # The math kernel, because the counter does not know the CPU's fused attention and would count it as nothing.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=GROUPED_PRODUCT) as counter:
        work()
    meter.detach()
    assert ledger.spent() == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES[request.param]().eval()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(3, 320, (3, 24), generator=torch.Generator().manual_seed(0))


def test_prefill(model: nn.Module, ids: torch.Tensor) -> None:
    with torch.no_grad():
        _agree(model, lambda: model(input_ids=ids))


def test_prefill_with_the_head_at_the_last_position_only(model: nn.Module, ids: torch.Tensor) -> None:
    with torch.no_grad():
        _agree(model, lambda: model(input_ids=ids, logits_to_keep=1))


def test_decoding_with_a_cache(model: nn.Module, ids: torch.Tensor) -> None:
    mask = torch.ones_like(ids)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    _agree(model, lambda: model.generate(input_ids=ids, attention_mask=mask, **options))


def test_full_update(model: nn.Module, ids: torch.Tensor) -> None:
    model.train()
    _agree(model, lambda: model(input_ids=ids, labels=ids).loss.backward())


def test_lora_update(model: nn.Module, ids: torch.Tensor) -> None:
    adapted = get_peft_model(model, replace(LORA, fan_in_fan_out=isinstance(model, GPT2LMHeadModel))).train()  # type: ignore[arg-type]
    _agree(adapted, lambda: adapted(input_ids=ids, labels=ids).loss.backward())


def test_lora_disabled_is_not_charged(ids: torch.Tensor) -> None:
    adapted = get_peft_model(_llama(), LORA).eval()  # type: ignore[arg-type]
    with torch.no_grad(), adapted.disable_adapter():
        _agree(adapted, lambda: adapted(input_ids=ids))


def _mixtral() -> nn.Module:
    return MixtralForCausalLM(MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2))


def test_of_experts_the_chosen_are_charged(ids: torch.Tensor) -> None:
    mixtral = _mixtral().train()
    _agree(mixtral, lambda: mixtral(input_ids=ids, labels=ids).loss.backward())
    with torch.no_grad():
        _agree(mixtral, lambda: mixtral(input_ids=ids))


def test_adapters_on_experts_are_refused_and_not_undercharged() -> None:
    with pytest.warns(RuntimeWarning, match="rank_pattern|alpha_pattern"):  # PEFT's, of its own making
        adapted = get_peft_model(_mixtral(), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="adapters on the experts"):
        Meter(adapted, "m", Ledger()).body_flops(1, 1)


def test_weights_used_in_unknown_ways_are_refused() -> None:
    model = _llama()
    model.model.layers[0].mixer = nn.Parameter(torch.zeros(64, 640))
    with pytest.raises(SpecError, match=r"LlamaModel cannot be charged under flops-v1: \d+%"):
        Meter(model, "m", Ledger()).body_flops(1, 1)


def test_a_network_that_is_no_transformer_is_charged_by_its_layers() -> None:
    network = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 6))
    _agree(network, lambda: network(torch.randn(10, 6)).sum().backward())


def test_padding_is_counted_apart(ids: torch.Tensor) -> None:
    model, ledger = _llama().eval(), Ledger()
    Meter(model, "m", ledger)
    mask = torch.ones_like(ids)
    mask[0, :10] = 0
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
    body = next(row for row in ledger.rows() if row["tokens"])
    assert (body["tokens"], body["padding"]) == (62, 10)


def test_a_refused_forward_is_not_computed_and_not_booked(ids: torch.Tensor) -> None:
    model, ledger = _llama().eval(), Ledger(1000.0)
    Meter(model, "m", ledger)
    with pytest.raises(BudgetExceeded), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids)
    assert counter.get_total_flops() == 0
    assert ledger.spent() == 0
