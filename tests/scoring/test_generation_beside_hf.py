"""Generated text against lm-eval's own Hugging Face backend, greedy, on tiny random models with random prompts."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from test_engine import LETTERS, letter_tokenizer, requests, tiny_gemma, tiny_llama
from transformers import Gemma3ForCausalLM, GenerationConfig

from harness.core.budget import Ledger
from harness.models.student import Student
from harness.scoring.engine import StudentEngine

TEMPLATE = (
    "{% for message in messages %}<{{ message['role'][0] }}> {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<a> {% endif %}"
)


def student(model: Any, *, template: str | None = None) -> Student:
    tokenizer = letter_tokenizer()
    tokenizer.chat_template = template
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    made = Student("file:tiny", model, tokenizer, None)
    made.dtype = torch.float32
    return made


def rival(of: Student, *, batch_size: int) -> Any:
    return HFLM(pretrained=of.model, tokenizer=of.tokenizer, batch_size=batch_size)


def prompts(count: int, longest: int = 30) -> list[str]:
    rng = random.Random(4)
    return ["".join(rng.choice(LETTERS[:27]) for _ in range(rng.randint(2, longest))).strip() + "x" for _ in range(count)]


def untied_gemma() -> Gemma3ForCausalLM:
    """With an output head of its own: random weights that also read tokens would only repeat the last one."""
    config = tiny_gemma().config
    config.tie_word_embeddings = False
    torch.manual_seed(1)
    return Gemma3ForCausalLM(config).eval()


@pytest.mark.parametrize("model", [tiny_llama(), untied_gemma()], ids=["llama", "gemma"])
@pytest.mark.parametrize(
    "settings",
    [
        {"until": [], "max_gen_toks": 20},
        {"until": ["\n"], "max_gen_toks": 20},
        {"until": ["th", "e", ". "], "max_gen_toks": 20},
        {"until": "a", "max_gen_toks": 1},
        {"until": ["er", "r"], "max_gen_toks": 20, "do_sample": False},
    ],
    ids=["no stop", "newline", "several", "one token", "one inside the other"],
)
def test_plain_prompts_get_the_same_text(model: Any, settings: dict[str, Any]) -> None:
    ours = student(model)
    asked = requests([(prompt, settings) for prompt in prompts(16)], "generate_until")
    # One row at a time: in a batch lm-eval goes on until every row has stopped, and of two stop strings may cut at the later one.
    expected = rival(ours, batch_size=1).generate_until(asked, disable_tqdm=True)
    assert StudentEngine(ours, dtype="float32").generate_until(asked) == expected
    assert len(set(expected)) > 1


def test_chats_get_the_same_text() -> None:
    ours = student(tiny_llama(max_length=128), template=TEMPLATE)
    engine, hf = StudentEngine(ours, dtype="float32"), rival(ours, batch_size=4)
    chats = [[{"role": "system", "content": "be brief"}, {"role": "user", "content": prompt}] for prompt in prompts(12)]
    rendered = [engine.apply_chat_template(chat) for chat in chats]
    assert rendered == [hf.apply_chat_template(chat) for chat in chats]
    asked = requests([(text, {"until": ["\n"], "max_gen_toks": 24}) for text in rendered], "generate_until")
    assert engine.generate_until(asked) == hf.generate_until(asked, disable_tqdm=True)


def test_prompts_that_leave_no_room_are_cut_alike() -> None:
    ours = student(tiny_llama(max_length=32))
    asked = requests([(prompt, {"until": [], "max_gen_toks": 12}) for prompt in prompts(10, longest=60)], "generate_until")
    assert StudentEngine(ours, dtype="float32").generate_until(asked) == rival(ours, batch_size=1).generate_until(asked, disable_tqdm=True)


def test_nothing_is_computed_long_after_a_stop_string() -> None:
    """And the tokens behind it do not count, however many there were."""
    ours, ledger = student(tiny_llama(max_length=256)), Ledger()
    ours.attach(ledger)
    engine, texts = StudentEngine(ours, dtype="float32"), prompts(8)

    def cost(until: list[str], tokens: int) -> tuple[list[str], float]:
        before = ledger.spent()
        replies = engine.generate_until(requests([(text, {"until": until, "max_gen_toks": tokens}) for text in texts], "generate_until"))
        return replies, ledger.spent() - before

    whole, full = cost([], 200)
    stop = ["e", "a", "t", "o", "i", "n", " "]
    cut, short = cost(stop, 200)
    assert short < full / 4
    for text, reply, uncut in zip(texts, cut, whole, strict=True):
        first = min(uncut.index(mark) for mark in stop if mark in uncut)
        assert reply == uncut[:first]
        completion = engine.completion(text, {"until": stop, "max_gen_toks": 200})
        assert completion.finished
        assert completion.tokens == len(completion.ids)
        behind = ours.tokenizer.decode(completion.ids[:-1])
        assert not any(mark in behind for mark in stop)
