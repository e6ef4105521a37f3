"""Adapters are told from plain models, and nobody who trains nothing waits for PEFT."""

from __future__ import annotations

import subprocess
import sys

from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from harness.models.adapters import adapter_layers, adapters_off, base_model, is_adapted


def test_a_wrapped_model_and_a_plain_one() -> None:
    plain = LlamaForCausalLM(LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1))
    assert not is_adapted(plain)
    assert base_model(plain) is plain
    assert not adapters_off(plain), "there are none to be off"
    wrapped = get_peft_model(plain, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert is_adapted(wrapped)
    assert base_model(wrapped) is plain
    assert len(list(adapter_layers(wrapped))) == 7, "four projections of attention, three of the feed-forward layer"
    assert not adapters_off(wrapped)
    with wrapped.disable_adapter():
        assert adapters_off(wrapped)


def test_reading_the_settings_of_methods_imports_no_model_library() -> None:
    slow = ["transformers", "peft", "trl", "scipy", "pandas", "lm_eval"]
    code = f"""
import sys
from harness.core import plugins
for kind in ("methods", "pools"):
    for name in ("base", "sft", "dpo", "rlhf", "selfteach") if kind == "methods" else ("mixed",):
        plugins.load(kind, name).Config
import harness.cli.plan, harness.study.run
print([name for name in {slow} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
