import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.records import Constraint
from harness.instructions import constraints as rules
from harness.instructions.constraints import EVAL_KINDS, KINDS, TRAIN_KINDS, WRAPPING_KINDS

REFERENCE = (
    "Bread rises because yeast eats sugar and gives off gas. The gas stays in the dough, and 2 hours of baking set the holes. "
    "Warm flour helps, but hot water kills it."
)
SAMPLED = [name for name, kind in KINDS.items() if kind.sample is not None]


def sampled(kind: str, seed: int) -> Constraint:
    sampler = KINDS[kind].sample
    assert sampler is not None
    return Constraint(kind, sampler(np.random.default_rng(seed)))


def test_there_are_enough_kinds_and_the_split_is_a_partition() -> None:
    assert len(TRAIN_KINDS) >= 12
    assert len(EVAL_KINDS) >= 8
    assert set(TRAIN_KINDS) | set(EVAL_KINDS) == set(KINDS)
    assert not set(TRAIN_KINDS) & set(EVAL_KINDS)


@pytest.mark.parametrize("kind", SAMPLED)
def test_edits_satisfy_sampled_parameters_and_an_unedited_text_rarely_does(kind: str) -> None:
    for seed in range(20):
        constraint = sampled(kind, seed)
        edited = rules.satisfy(REFERENCE, [constraint])
        assert edited is not None
        assert rules.check(constraint, edited)
        assert rules.check(constraint, edited, loose=True)
        assert rules.describe(constraint).endswith((".", '"', "?"))
        assert json.loads(json.dumps(constraint.params)) == constraint.params


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_empty_response_satisfies_nothing(kind: str) -> None:
    constraint = (
        sampled(kind, 0) if KINDS[kind].sample else Constraint(kind, {"phrase": "x", "items": ["a"], "values": [1], "extreme": "largest"})
    )
    assert not rules.check(constraint, "")
    assert not rules.check(constraint, " \n ", loose=True)


CASES = [
    ("max_words", {"n": 3}, "one two three", "one two three four"),
    ("min_words", {"n": 3}, "one two three", "one two"),
    ("sentence_count", {"n": 2}, "One here. Two there!", "One here. Two there! Three?"),
    ("word_range", {"low": 2, "high": 3}, "one two", "one"),
    ("max_characters", {"n": 10}, "123456789", "1234567890"),
    ("paragraph_count", {"n": 2}, "a\n\nb", "a\nb"),
    ("include_word", {"word": "window"}, "A Window.", "Windows."),
    ("forbid_word", {"word": "can"}, "A candle.", "You CAN."),
    ("mention", {"phrase": "lentil soup"}, "Hot Lentil Soup!", "Soup of lentil"),
    ("give_reason", {}, "Because.", "Why?"),
    ("word_order", {"first": "today", "second": "simple"}, "Today is simple.", "Simple today."),
    ("name_extreme", {"items": ["rent", "petrol"], "values": [5, 9], "extreme": "largest"}, "Petrol.", "Petrol beats rent."),
    ("name_extreme", {"items": ["rent", "petrol"], "values": [5, 9], "extreme": "smallest"}, "rent", "petrol"),
    ("no_commas", {}, "a b", "a, b"),
    ("exclamation_count", {"n": 1}, "Oh!", "Oh!!"),
    ("include_words", {"words": ["thread", "pocket"]}, "pocket thread", "pocket"),
    ("repeat_word", {"word": "gentle", "n": 2}, "gentle, Gentle", "gentle gently"),
    ("forbid_letter", {"letter": "q"}, "fine", "Quite"),
    ("letter_frequency", {"letter": "z", "n": 2}, "Zigzag", "zero"),
    ("no_digits", {}, "seven", "7 items"),
    ("question_count", {"n": 1}, "So?", "So? No?"),
    ("placeholders", {"n": 1}, "Dear [name]", "Dear [] you"),
    ("bullet_count", {"n": 2}, "Here:\n- a\n- b", "- a\n- b\n- c"),
    ("step_labels", {"n": 2}, "Step 1: a\nstep 2: b", "Step 2: a\nStep 1: b"),
    ("json_object", {"key": "text"}, '{"text": "a"}', '{"text": "a", "b": 1}'),
    ("quoted", {}, '"a b"', '"a" b'),
    ("title_line", {}, "<<T>>\nb", "b <<T>>"),
    ("highlight", {"n": 2}, "**a** **b**", "**a** *b*"),
    ("all_lowercase", {}, "only small 1", "Only"),
    ("all_uppercase", {}, "ONLY BIG 1", "ONLy"),
    ("start_phrase", {"phrase": "In short"}, "in short, yes", "Yes, in short"),
    ("start_phrase", {"phrase": "In short"}, "In short yes", "In short"),
    ("end_phrase", {"phrase": "That is all."}, "Yes. That is all.", "That is all. Yes."),
    ("numbered_list", {"n": 2}, "1. a\n2. b", "1. a\n3. b"),
    ("bullets_sorted", {"n": 2}, "- Apple\n- bear", "- bear\n- Apple"),
    ("title_case", {}, "All Of It's 3 Words", "All of It"),
    ("capital_words", {"n": 1}, "So BIG", "I am A b"),
    ("postscript", {}, "Dear you\nP.S. bye", "P.S. bye"),
    ("same_start_end", {}, "Rain is only rain.", "Rain"),
]


@pytest.mark.parametrize(("kind", "params", "passing", "failing"), CASES)
def test_checkers_on_cases_written_by_hand(kind: str, params: dict[str, object], passing: str, failing: str) -> None:
    assert rules.check(Constraint(kind, params), passing)
    assert not rules.check(Constraint(kind, params), failing)


def test_every_kind_has_a_case_written_by_hand() -> None:
    assert {case[0] for case in CASES} == set(KINDS)


def test_loose_reading_forgives_a_preamble_line_and_asterisks_only() -> None:
    lower = Constraint("all_lowercase")
    assert not rules.check(lower, "Sure, here:\nall small")
    assert rules.check(lower, "Sure, here:\nall small", loose=True)
    assert not rules.check(lower, "Sure\nNot\nsmall Either\nEnd", loose=True)
    assert rules.check(Constraint("start_phrase", {"phrase": "In short"}), "**In short** yes", loose=True)


@pytest.mark.parametrize("kinds", [TRAIN_KINDS, EVAL_KINDS])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_stacks_are_full_conflict_free_and_almost_always_satisfied_by_edits(kinds: tuple[str, ...], k: int) -> None:
    rng = np.random.default_rng(k)
    satisfied = 0
    for _ in range(100):
        stack = rules.sample_stack(k, kinds, rng=rng)
        assert len(stack) == k
        assert not any(rules.conflict(one, other) for index, one in enumerate(stack) for other in stack[:index])
        satisfied += rules.satisfy(REFERENCE, stack) is not None
    assert satisfied >= 75


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Constraint("all_lowercase"), Constraint("all_uppercase")),
        (Constraint("bullet_count", {"n": 2}), Constraint("sentence_count", {"n": 2})),
        (Constraint("max_words", {"n": 5}), Constraint("min_words", {"n": 9})),
        (Constraint("forbid_word", {"word": "because"}), Constraint("give_reason")),
        (Constraint("forbid_letter", {"letter": "k"}), Constraint("include_words", {"words": ["pocket", "thread"]})),
        (Constraint("forbid_letter", {"letter": "z"}), Constraint("letter_frequency", {"letter": "z", "n": 2})),
        (Constraint("no_digits"), Constraint("numbered_list", {"n": 2})),
        (Constraint("quoted"), Constraint("start_phrase", {"phrase": "In short"})),
        (Constraint("no_commas"), Constraint("no_commas")),
    ],
)
def test_contradictions_are_known_both_ways(first: Constraint, second: Constraint) -> None:
    assert rules.conflict(first, second)
    assert rules.conflict(second, first)


def test_prohibitions_that_touch_nothing_required_are_no_conflict() -> None:
    assert not rules.conflict(Constraint("forbid_letter", {"letter": "k"}), Constraint("include_words", {"words": ["gentle", "thread"]}))
    assert not rules.conflict(Constraint("forbid_word", {"word": "very"}), Constraint("give_reason"))


@pytest.mark.parametrize("kind", [name for name in TRAIN_KINDS if KINDS[name].tighten({"n": 3, "low": 1, "high": 20}) is not None])
def test_what_satisfies_the_tighter_constraint_satisfies_a_limit_before_it(kind: str) -> None:
    constraint = sampled(kind, 1)
    seen = [constraint]
    while (tighter := rules.tighten(seen[-1])) is not None:
        seen.append(tighter)
        assert len(seen) < 30
    edited = rules.satisfy(REFERENCE, [seen[-1]])
    assert edited is not None
    if kind in ("max_words", "min_words", "highlight"):
        assert all(rules.check(step, edited) for step in seen)


@pytest.mark.parametrize("kind", WRAPPING_KINDS)
@pytest.mark.parametrize("answer", ["Yes", "42", "the, NEGLIGENCE, may"])
def test_unwrapping_gives_back_what_was_wrapped(kind: str, answer: str) -> None:
    constraint = sampled(kind, 3)
    wrapped = rules.satisfy(answer, [constraint])
    assert wrapped is not None
    assert rules.unwrap(wrapped, [constraint]).casefold() == answer.casefold()


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=200), kind=st.sampled_from(SAMPLED), seed=st.integers(0, 50))
def test_checking_hostile_text_never_raises(text: str, kind: str, seed: int) -> None:
    constraint = sampled(kind, seed)
    assert rules.check(constraint, text) in (True, False)
    assert rules.check(constraint, text) <= rules.check(constraint, text, loose=True)
    edited = rules.satisfy(text, [constraint])
    assert edited is None or rules.check(constraint, edited)


def test_huge_numbers_in_json_are_no_crash() -> None:
    assert not rules.check(Constraint("json_object", {"key": "text"}), '{"text": ' + "9" * 5000 + "}")
    assert not rules.check(Constraint("json_object", {"key": "text"}), "[" * 100_000)
