"""Packed rows, micro-batches and logits: the layout of a batch changes neither loss nor gradients, for whatever architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    Qwen3Config,
    RecurrentGemmaConfig,
)

from harness.core.budget import Ledger
from harness.errors import SpecError
from harness.models.examples import TokenizedExample, arrange, check_packable, response_logits, row_tensors, update_flops
from harness.models.finetune_config import Layout
from harness.models.student import Student

SMALL = {"vocab_size": 101, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = SMALL | {"num_key_value_heads": 2}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**GROUPED),
    "qwen3": Qwen3Config(**GROUPED, head_dim=16),
    "gemma2": Gemma2Config(**GROUPED, head_dim=16, sliding_window=4, final_logit_softcapping=2.0),
    "gemma3": Gemma3TextConfig(**GROUPED, head_dim=16, sliding_window=4),
    "gpt2": GPT2Config(vocab_size=101, n_embd=32, n_layer=2, n_head=4, attn_pdrop=0, embd_pdrop=0, resid_pdrop=0),
    "granite": GraniteConfig(**GROUPED, logits_scaling=7.0),
    "cohere": CohereConfig(**GROUPED, logit_scale=0.2),
}


@pytest.fixture(params=CONFIGS)
def student(request: pytest.FixtureRequest, tiny_model: Path) -> Student:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[request.param])
    student = Student("test", model, AutoTokenizer.from_pretrained(tiny_model), None)
    student.dtype = torch.float32
    student.attach(Ledger())
    return student


@pytest.fixture
def examples() -> list[TokenizedExample]:
    ids = torch.randint(3, 100, (60,), generator=torch.Generator().manual_seed(0)).tolist()
    cuts = [(0, 9, 4), (9, 16, 2), (16, 29, 8), (29, 34, 1), (34, 40, 3)]
    return [TokenizedExample(tuple(ids[start:end]), prompt) for start, end, prompt in cuts]


def gradients(student: Student, examples: list[TokenizedExample], layout: Layout) -> tuple[float, list[torch.Tensor]]:
    student.model.zero_grad()
    total = sum(len(example.ids) - example.prompt_tokens for example in examples)
    value = 0.0
    for rows in arrange(student, examples, layout):
        tensors = row_tensors(rows, student.pad_id, student.device)
        logits_R_V = response_logits(student, tensors.ids_B_T, tensors.mask_B_T, tensors.target_B_T, position_B_T=tensors.position_B_T)
        loss = cross_entropy(logits_R_V, tensors.ids_B_T.roll(-1, 1)[tensors.target_B_T], reduction="sum") / total
        loss.backward()
        value += loss.item()
    return value, [parameter.grad.clone() for parameter in student.trainable]


@pytest.mark.parametrize("layout", [Layout(packing_tokens=40), Layout(micro_batch_size=2), Layout(1, packing_tokens=18)])
def test_loss_and_gradients_do_not_depend_on_the_layout(student: Student, examples: list[TokenizedExample], layout: Layout) -> None:
    loss, plain = gradients(student, examples, Layout())
    other, arranged = gradients(student, examples, layout)
    assert other == pytest.approx(loss, rel=1e-5)
    for gradient, expected in zip(arranged, plain, strict=True):
        assert torch.allclose(gradient, expected, atol=1e-5 * float(expected.abs().max()) + 1e-8)


def test_rows_are_packed(student: Student, examples: list[TokenizedExample]) -> None:
    """Otherwise the test above would compare padded rows with padded rows."""
    (rows,) = arrange(student, examples, Layout(packing_tokens=40))
    assert len(rows) < len(examples)
    assert sorted(example.ids for row in rows for example in row) == sorted(example.ids for example in examples)


def test_logits_are_the_model_s_own(student: Student, examples: list[TokenizedExample]) -> None:
    """Scales and soft caps included, by the student's parts and by another's."""
    tensors = row_tensors([(example,) for example in examples], student.pad_id, student.device)
    head: Any = student.frozen_head()
    with torch.no_grad():
        head.weight *= 1.5
        student.model.eval()
        own = student.model(input_ids=tensors.ids_B_T, attention_mask=tensors.mask_B_T).logits[tensors.target_B_T]
        ours = response_logits(student, tensors.ids_B_T, tensors.mask_B_T, tensors.target_B_T)
        reference = student.frozen_body(), head
        theirs = response_logits(student, tensors.ids_B_T, tensors.mask_B_T, tensors.target_B_T, reference=reference)
        again = response_logits(student, tensors.ids_B_T, tensors.mask_B_T, tensors.target_B_T)
        student.model.get_output_embeddings().weight = head.weight
        expected = student.model(input_ids=tensors.ids_B_T, attention_mask=tensors.mask_B_T)
    assert torch.allclose(ours, own, atol=1e-6)
    assert torch.equal(again, ours)
    assert not torch.allclose(theirs, ours, atol=1e-4)
    assert torch.allclose(theirs, expected.logits[tensors.target_B_T], atol=1e-6)


def test_the_price_of_every_layout_is_what_is_charged(student: Student, examples: list[TokenizedExample]) -> None:
    for layout in (Layout(), Layout(micro_batch_size=2), Layout(packing_tokens=40)):
        ledger = Ledger()
        student.attach(ledger)
        gradients(student, examples, layout)
        assert ledger.spent() == pytest.approx(update_flops(student, examples, layout))


def test_packing_costs_less_than_padding(student: Student, examples: list[TokenizedExample]) -> None:
    assert update_flops(student, examples, Layout(packing_tokens=40)) < update_flops(student, examples)


def test_recurrent_models_are_not_packed(tiny_model: Path) -> None:
    config = RecurrentGemmaConfig(**SMALL, lru_width=32, attention_window_size=8)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(SpecError, match="packing needs attention in every layer"):
        check_packable(Student("test", model, AutoTokenizer.from_pretrained(tiny_model), None))
