"""The checkpoint that an engine reads is the student as it is now."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from harness.core.spec import Adaptation
from harness.models.engines.weights import fingerprint, write_checkpoint
from harness.models.student import Student


@pytest.fixture
def trained(tiny_model: Path) -> Student:
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in student.trainable:
            weight.add_(0.1 * torch.randn_like(weight))
    return student


def written(model: torch.nn.Module, folder: Path) -> dict[str, torch.Tensor]:
    write_checkpoint(model, folder, dtype=torch.float32, config=True)
    return load_file(folder / "model.safetensors")


def test_adapters_are_merged_as_peft_merges_them(trained: Student, tmp_path: Path) -> None:
    found = written(trained.model, tmp_path)
    merged = copy.deepcopy(trained.model).float().merge_and_unload().state_dict()
    assert found.keys() == merged.keys()
    for name, weight in found.items():
        torch.testing.assert_close(weight, merged[name].float().cpu(), rtol=0, atol=3e-3)  # PEFT rounds the sum to the base's bf16


def test_switched_off_adapters_are_left_out(trained: Student, tiny_model: Path, tmp_path: Path) -> None:
    plain = Student.load(f"file:{tiny_model}", adaptation=None, seed=0)
    with trained.as_loaded():
        found = written(trained.model, tmp_path)
    assert all(torch.equal(weight, plain.model.state_dict()[name].float().cpu()) for name, weight in found.items())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_transformers_reads_the_same_model_back(family: str, tied: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = {"vocab_size": 40, "tie_word_embeddings": tied, "bos_token_id": 1, "eos_token_id": 1}
    model = (
        LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, **small))
        if family == "llama"
        else GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32, **small))
    )
    found = written(model.eval(), tmp_path)
    assert ("lm_head.weight" in found) is not tied
    assert AutoConfig.from_pretrained(tmp_path).architectures == [type(model).__name__]
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_checkpoint_replaces_the_one_before(trained: Student, tmp_path: Path) -> None:
    before = written(trained.model, tmp_path)
    with torch.no_grad():
        trained.trainable[1].add_(0.5)
    after = written(trained.model, tmp_path)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_fingerprint_sees_the_smallest_change_and_its_undoing(tiny_model: Path, kind: str) -> None:
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(kind=kind), seed=0)  # type: ignore[arg-type]
    before = fingerprint(student.model)
    assert fingerprint(student.model) == before
    weight = student.trainable[0].data.view(-1)
    kept = weight[0].clone()
    weight[0] = torch.nextafter(kept, torch.full_like(kept, 9.0))
    assert fingerprint(student.model) != before
    weight[0] = kept
    assert fingerprint(student.model) == before
    with student.as_loaded():
        assert (fingerprint(student.model) == before) == (kind == "full")
