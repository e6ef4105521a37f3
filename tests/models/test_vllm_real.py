"""The engine with vLLM itself (make vllm): it computes what transformers computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from harness.core.budget import Ledger
from harness.core.spec import Adaptation
from harness.models.student import Student

pytestmark = pytest.mark.vllm
PROMPTS = [[11, 12, 13] * 12, [14], [20, 21, 22, 23, 24, 25, 26], [30, 31]]


END = {"eos_token_id": 100, "bos_token_id": 100, "pad_token_id": 100}
SHAPE = {
    "vocab_size": 101, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512, "initializer_range": 0.3,
    "tie_word_embeddings": False, **END,
}  # fmt: skip
"""Heads as wide as vLLM's kernels take them."""
FAMILIES: dict[str, tuple[type[PreTrainedModel], PreTrainedConfig]] = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SHAPE)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SHAPE)),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**SHAPE, sliding_window=16)),
    "gpt2": (
        GPT2LMHeadModel,
        GPT2Config(
            vocab_size=101, n_embd=64, n_layer=2, n_head=2, n_positions=512, initializer_range=0.3, tie_word_embeddings=False, **END
        ),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def wide_model(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of a family, with the tokenizer and end tokens of `tiny_model`."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    kind, config = FAMILIES[request.param]
    kind(config).save_pretrained(folder)
    for path in tiny_model.iterdir():
        if path.suffix == ".json" and path.name != "config.json":
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def both(wide_model: Path) -> Iterator[tuple[Student, Student]]:
    """One student on each engine, in fp32 so that rounding decides nothing."""
    students = []
    adaptation = Adaptation(kind="full" if wide_model.name.startswith("gpt2") else "lora")  # PEFT warns of GPT-2's transposed weights
    for engine in ("transformers", "vllm"):
        student = Student.load(f"file:{wide_model}", adaptation=adaptation, seed=0, engine=engine)  # type: ignore[arg-type]
        student.model.float()
        student.dtype = torch.float32
        students.append(student)
    yield students[0], students[1]
    students[1].engine.close()


def greedy(student: Student) -> list[list[list[int]]]:
    return student.engine.generate_tokens(PROMPTS, prefixes=[()] * 4, n=1, max_new_tokens=24, temperature=0.0, seed=0)


def test_greedy_replies_and_scores_are_equal_before_and_after_training(both: tuple[Student, Student]) -> None:
    pairs = [(prompt, [3 + at, 5, 7][: 1 + at % 3]) for at, prompt in enumerate(PROMPTS)]
    seen = []
    for _ in range(2):
        plain, fast = (greedy(student) for student in both)
        assert plain == fast
        seen.append(plain)
        expected, found = (student.engine.score_pairs(pairs) for student in both)
        assert [score.logprob for score in found] == pytest.approx([score.logprob for score in expected], abs=1e-4)
        assert [score.greedy for score in found] == [score.greedy for score in expected]
        for student in both:
            torch.manual_seed(1)
            with torch.no_grad():
                for weight in student.trainable:
                    weight.add_(0.2 * torch.randn_like(weight))
    assert seen[0] != seen[1]


def test_samples_repeat_with_the_seed_and_differ_between_equal_prompts(both: tuple[Student, Student]) -> None:
    def sample(seed: int) -> list[list[list[int]]]:
        return both[1].engine.generate_tokens(
            [PROMPTS[1], PROMPTS[1]], prefixes=[(), ()], n=2, max_new_tokens=16, temperature=2.0, seed=seed
        )

    first = sample(3)
    assert first == sample(3) != sample(4)
    assert len({tuple(reply) for replies in first for reply in replies}) > 2  # a reply may end at once


def test_shared_blocks_are_found_in_the_cache_and_not_charged(both: tuple[Student, Student]) -> None:
    ledger = Ledger()
    both[1].attach(ledger)
    ((first, second),) = both[1].engine.generate_tokens([PROMPTS[0]], prefixes=[()], n=2, max_new_tokens=4, temperature=1.0, seed=0)
    assert ledger.tokens() == 36 + 4 + (len(first) - 1) + (len(second) - 1)  # the second computes 4 of the prompt's 36 tokens
