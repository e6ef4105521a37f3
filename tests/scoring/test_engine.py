"""The engine against lm-eval's own Hugging Face backend, on tiny random models."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
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
    tokenizer.decoder = decoders.Fuse()
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


def test_long_contexts_are_cut_like_lm_eval_cuts_them() -> None:
    model, tokenizer = tiny_llama(max_length=16), letter_tokenizer()
    texts = [("abcdefghij klmnop qrs", " tuvwx"), ("abcdefghij klmnop qrs", " q"), ("zyxw", "vutsrqponmlkji")]
    reference = HFLM(pretrained=model, tokenizer=tokenizer, logits_cache=False, batch_size=1, max_length=16, add_bos_token=False)
    engine = StudentEngine(FakeStudent(model, tokenizer), dtype="float32")
    assert engine.max_length == 16
    found, expected = engine.loglikelihood(requests(texts)), reference.loglikelihood(requests(texts), disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=2e-4)


def test_what_cannot_be_scored_is_impossible_and_has_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    engine = StudentEngine(FakeStudent(tiny_llama(), letter_tokenizer()), dtype="float32", max_length=4)
    texts = [("x", "bcdefg"), ("x", "b"), ("x", ""), ("", ""), ("t", "h")]
    scores = engine.loglikelihood(requests(texts))
    assert [value == float("-inf") for value, _ in scores] == [True, False, True, True, True]
    assert not any(greedy for value, greedy in scores if value == float("-inf"))
    assert "6 tokens are more than the model's 4" in str(engine.problem("x", "bcdefg"))
    assert "no token of its own" in str(engine.problem("t", "h")), "merged into one token with its context"
    assert engine.problem("x", "b") is None
    assert [record.getMessage()[:7] for record in caplog.records] == ["4 of 5 "], "one line"


def test_rolling_agrees_with_lm_eval() -> None:
    model, tokenizer = tiny_llama(max_length=12), letter_tokenizer()
    texts = [("the quick brown fox jumps over the lazy dog",), ("short",)]
    reference = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=12, add_bos_token=False)
    engine = StudentEngine(FakeStudent(model, tokenizer), dtype="float32")
    expected = reference.loglikelihood_rolling(requests(texts, "loglikelihood_rolling"), disable_tqdm=True)
    assert engine.loglikelihood_rolling(requests(texts, "loglikelihood_rolling")) == pytest.approx(expected, abs=1e-3)


def test_shared_context_is_computed_once() -> None:
    model, tokenizer = tiny_llama(), letter_tokenizer(merges=False)
    seen: list[int] = []
    engine = StudentEngine(FakeStudent(model, tokenizer), dtype="float32")
    engine.loglikelihood(requests([("ab", "c")]))  # tries out whether the model can share
    model.model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True)
    engine.loglikelihood(requests([("abcdefghij", choice) for choice in ("klm", "n", "opq", "klm")]))
    assert sum(seen) == 10 + 2 + 0 + 2, "context, and each distinct choice without its last token"


def test_both_schemes_agree() -> None:
    engine = StudentEngine(FakeStudent(tiny_llama(), letter_tokenizer()), dtype="float32", token_budget=100)
    texts = ragged_texts(2)
    tree = engine.loglikelihood(requests(texts))
    engine.shares = False
    cached = engine.loglikelihood(requests(texts))
    assert [value for value, _ in tree] == pytest.approx([value for value, _ in cached], abs=2e-4)
    assert [greedy for _, greedy in tree] == [greedy for _, greedy in cached]


def test_bfloat16_keeps_single_token_choices_apart() -> None:
    model, tokenizer = tiny_llama().to(torch.bfloat16), letter_tokenizer(merges=False)
    with torch.no_grad():
        model.lm_head.weight[1:27] = model.lm_head.weight[1:2] + torch.linspace(0, 0.3, 26)[:, None].bfloat16()
    engine = StudentEngine(FakeStudent(model, tokenizer), dtype="bfloat16")
    values = [value for value, _ in engine.loglikelihood(requests([("the end", letter) for letter in LETTERS[1:26]]))]
    assert len(set(values)) >= len({tuple(row) for row in model.lm_head.weight[1:26].tolist()})


def test_equal_requests_are_equal_and_order_does_not_matter() -> None:
    engine = StudentEngine(FakeStudent(tiny_llama(), letter_tokenizer()), dtype="float32", token_budget=64)
    texts = ragged_texts(3)
    forward = engine.loglikelihood(requests(texts))
    backward = engine.loglikelihood(requests(texts[::-1]))[::-1]
    assert forward == backward


def test_the_head_is_restored() -> None:
    model = tiny_llama()
    before = model(torch.tensor([[1, 2, 3]])).logits
    StudentEngine(FakeStudent(model, letter_tokenizer()), dtype="float32").loglikelihood(requests([("ab", "c")]))
    assert "forward" not in vars(model.lm_head)
    assert torch.equal(model(torch.tensor([[1, 2, 3]])).logits, before)


def test_greedy_generation_is_done_once_per_prompt_and_sampling_once_per_repeat() -> None:
    student = FakeStudent(tiny_llama(), letter_tokenizer())
    engine = StudentEngine(student, seed=7)
    greedy = {"until": ["\n"], "max_gen_toks": 5, "do_sample": False}
    sampled = {"until": [], "max_gen_toks": 5, "do_sample": True, "temperature": 0.7}
    texts = engine.generate_until(
        requests([("abc", greedy), ("xyz", greedy), ("abc", greedy), ("abc", sampled), ("abc", sampled)], "generate_until")
    )
    assert texts == ["abc0", "xyz0", "abc0", "abc0", "abc1"]
    first, second = student.calls
    assert first == {"prompts": ["abc", "xyz"], "max_new_tokens": 5, "temperature": 0.0, "n": 1, "seed": 7, "stop": ("\n",)}
    assert (second["n"], second["temperature"]) == (2, 0.7)
    assert engine.completion("abc", greedy).tokens == 3


def test_prompts_too_long_for_an_answer_lose_their_beginning() -> None:
    student = FakeStudent(tiny_llama(max_length=12), letter_tokenizer(merges=False))
    engine = StudentEngine(student)
    engine.generate_until(requests([("abcdefghijklm", {"until": [], "max_gen_toks": 4})], "generate_until"))
    assert student.calls[0]["prompts"] == ["fghijklm"]
