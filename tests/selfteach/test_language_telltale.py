import time
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.budget import Ledger
from harness.instructions.telltale import broken, normalise, refuses, repeats, visible, words
from selfteach.language.prompts import OPERATION_PROMPTS, prompt_texts
from selfteach.language.telltale import RUN_WORDS, leak
from selfteach.operations import OPERATIONS, RuleExecutor
from tasks.pool import MixedPool, MixedPoolConfig


def test_prompts_are_telltales_of_themselves() -> None:
    for text in prompt_texts():
        if len(words(text)) >= RUN_WORDS:
            assert leak(text, "Describe a river.") is not None, text
            assert leak(f"Please do it. {text}", text) is None, text
    example = OPERATION_PROMPTS["deepen"].shots[0][1]
    assert leak(" ".join(words(example)[2 : 2 + RUN_WORDS]), "") is not None
    assert leak(" ".join(words(example)[2 : 1 + RUN_WORDS]), "") is None


@pytest.mark.parametrize(
    "marker", ["<|im_start|>", "<|endoftext|>", "</s>", "[INST]", "<<SYS>>", "<start_of_turn>", "<think>", "<｜Assistant｜>", "<|eot_id|>"]
)
def test_chat_markers_are_leaks_even_where_the_parent_has_them(marker: str) -> None:
    assert leak(f"Describe a river. {marker}", "Describe a river.") == marker
    assert leak(f"Describe a river. {marker}", f"Describe {marker}") == marker


def test_role_labels_at_a_lines_start_are_leaks_unless_the_parent_has_them() -> None:
    assert leak("Describe this.\n  USER: hello", "Describe this.") == "user:"
    assert leak("Continue: \nUser: hello\nAssistant: hi", "Continue:\nuser: hello") == "assistant:"
    assert leak("Continue: \nUser: hello", "Continue:\nUser: hi") is None
    assert leak("Explain what a system: a whole of parts: is, to a user.", "Explain.") is None


def test_no_leak_in_prose() -> None:
    for text in (
        "Compare 3 < 4 and 5 > 2 | 1.",
        "Write <b>bold</b> HTML.",
        "Use [brackets] and <placeholders>.",
        "Ask for a new prompting style.",
    ):
        assert leak(text, "") in (None, "new prompt"), text


def test_loops_are_seen_and_lists_are_not() -> None:
    assert repeats("very " * 8)
    assert repeats("and so it goes on and " * 4)
    assert repeats("Describe a river. Then " + "use the word lamp, " * 5 + "please")
    assert repeats("a" * 300)
    assert not repeats("very very very very good")
    assert not repeats("go on go on go on")
    assert not repeats(
        "Use this table.\n| item | price |\n|---|---|\n| lamp | 3 |\n| bread | 40 |\n| clock | 15 |\n| map | 9 |\n| kite | 71 |"
    )
    assert not repeats("")


@given(st.lists(st.sampled_from(["river", "lamp", "stone", "apple"]), min_size=1, max_size=6), st.integers(0, 5))
def test_any_block_four_times_in_a_row_is_a_loop(block: list[str], before: int) -> None:
    times = max(4, -(-8 // len(block)))
    assert repeats(" ".join([*(f"w{index}" for index in range(before)), *(block * times), "end"]))


@given(st.integers(0, 10**6))
def test_words_that_do_not_come_back_make_no_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    text = " ".join(f"{value:x}" for value in rng.permutation(5000)[:80])
    assert not repeats(text)
    assert len(text) < 4 * len(zlib.compress(text.encode()))


def test_what_rules_write_gives_nothing_away() -> None:
    """No false alarm on any operation's children, three generations deep."""
    pool = MixedPool(MixedPoolConfig(), ledger=Ledger(), rng=np.random.default_rng(0), ngrams=frozenset())
    seeds = [seed.instruction for seed in pool.seeds()]
    executor, rng = RuleExecutor(seeds), np.random.default_rng(0)
    seen = 0
    for seed in seeds * 4:
        parent = seed
        for operation in rng.permutation(OPERATIONS)[:3]:
            child = executor.apply(parent, str(operation), rng=rng).instruction or parent
            assert leak(child.text, parent.text) is None, child.text
            assert not repeats(child.text), child.text
            assert not broken(child.text)
            assert not refuses(child.text, parent.text)
            seen += child is not parent
            parent = child
    assert seen > 150


@pytest.mark.parametrize("text", ["\x00", "a\x1bb", "\ud800", "x\udfff", "\u202e", "\u2066", "\x85", chr(0xFFFD)])
def test_characters_nobody_types(text: str) -> None:
    assert broken(text)
    assert broken(f"Describe{text} a river.")


@pytest.mark.parametrize("text", ["a\tb\nc\r\n", "naïve — “quoted” €", "תאר נהר", "می‌خواهم", "👩‍🚀", "川", "x² ≤ 3"])
def test_characters_people_type(text: str) -> None:
    assert not broken(text)


def test_invisible_characters_do_not_count() -> None:
    assert visible("a\u200bb\ufeff\u00ad") == "ab"
    assert words("Ri\u200dver — 3 Lämp_e") == ["river", "3", "lämp", "e"]
    assert normalise("A\u200b  b\n") == normalise("a B") == "a b"
    assert normalise("3 - 4") != normalise("3 + 4")


def test_refusals_are_short_and_sorry() -> None:
    assert refuses("I am SORRY, but no.", "Describe a river.")
    assert not refuses("I am sorry, but no.", "Write a sorry note.")
    assert not refuses("sorry " * 80, "Describe a river.")
    assert refuses("sorry " * 79, "Describe a river.")


@pytest.mark.parametrize(
    "text", ["a" * 10**6, "word " * 200_000, "\u200b" * 10**6, "\ud800" * 10**6, "<|" * 500_000, "\n" * 10**6, "* " * 500_000]
)
def test_a_million_characters_take_no_time(text: str) -> None:
    started = time.process_time()
    assert leak(text, "x") is None
    repeats(text)
    broken(text)
    refuses(text, "x")
    normalise(text)
    assert time.process_time() - started < 4
