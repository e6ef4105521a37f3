"""The engine against lm-eval's own Hugging Face backend, on tiny random models."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness.core.records import Completion
from harness.scoring.engine import StudentEngine

LETTERS = "abcdefghijklmnopqrstuvwxyz .:?\n"


def letter_tokenizer(*, merges: bool = True) -> PreTrainedTokenizerFast:
    """One token per letter, and a few merged pairs so that where a string is cut changes its tokens."""
    vocabulary = {letter: index for index, letter in enumerate(LETTERS)}
    pairs = [(" ", "a"), ("t", "h"), ("a", "b"), ("e", "r")] if merges else []
    for left, right in pairs:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary | {"<e>": len(vocabulary)}, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>", pad_token="<e>", bos_token="<e>")


def tiny_llama(max_length: int = 64) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=max_length, initializer_range=0.4,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def tiny_gemma() -> Gemma3ForCausalLM:
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=1, head_dim=8,
        max_position_embeddings=96, sliding_window=8, layer_types=["sliding_attention", "full_attention"] * 2, initializer_range=0.4,
        pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    return Gemma3ForCausalLM(config).eval()


@dataclass
class FakeStudent:
    model: Any
    tokenizer: Any
    name: str = "fake"
    calls: list[dict[str, Any]] = field(default_factory=list)

    def generate_text(self, prompts: Any, **options: Any) -> list[list[Completion]]:
        self.calls.append({"prompts": list(prompts), **options})
        return [[Completion(f"{prompt[:3]}{index}", len(prompt), True) for index in range(options["n"])] for prompt in prompts]


def requests(texts: list[tuple[Any, ...]], kind: str = "loglikelihood") -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=text, idx=0, metadata=("t", 0, 1)) for text in texts]


def ragged_texts(seed: int, longest: int = 40) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    word = lambda n: "".join(rng.choice(LETTERS[:27]) for _ in range(n))  # noqa: E731
    texts = []
    for _ in range(12):
        context = word(rng.randint(1, longest))
        texts += [(context, " " + word(rng.randint(1, 9)).strip() + "x") for _ in range(rng.randint(1, 4))]
    texts += [("", "abc"), ("", " the"), ("the end", "e"), ("the end ", "er"), ("the en", "de"), ("the e", "nde")]
    texts += [texts[3], texts[3]]
    rng.shuffle(texts)
    return texts


@pytest.mark.parametrize("build", [tiny_llama, tiny_gemma])
@pytest.mark.parametrize("token_budget", [1, 60, 4096])
def test_agrees_with_lm_eval(build: Any, token_budget: int) -> None:
    model, tokenizer = build(), letter_tokenizer()
    texts = ragged_texts(1)
    reference = HFLM(pretrained=model, tokenizer=tokenizer, logits_cache=False, batch_size=1, add_bos_token=False)
    engine = StudentEngine(FakeStudent(model, tokenizer), dtype="float32", token_budget=token_budget)
    expected = reference.loglikelihood(requests(texts), disable_tqdm=True)
    found = engine.loglikelihood(requests(texts))
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=2e-4)
    assert any(greedy for _, greedy in found) or build is tiny_gemma
