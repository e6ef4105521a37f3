"""Agreement among samples, without anyone who knows the answer."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.instructions.consistency import SHORT_WORDS, answer_key, largest_group

BIRD = "The small grey bird sat on the old garden wall and sang until the sun went down"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Yes", "yes"),
        ("  YES. ", "yes"),
        ('"yes"', "yes"),
        ("**Yes!**", "yes"),
        ("The answer is yes.", "yes"),
        ("So the final answer is: Yes", "yes"),
        ("Answer: yes", "yes"),
        ("3", Fraction(3)),
        ("3.0", Fraction(3)),
        ("+3.", Fraction(3)),
        ("-3", Fraction(-3)),
        ("1,000", Fraction(1000)),
        ("The answer is 1,000.50.", Fraction(2001, 2)),
        ("３", Fraction(3)),
        ("a,b ,  c", "a, b, c"),
        ("New   York\n", "new york"),
        ("?!", "?!"),
        ("nan", "nan"),
        ("Infinity", "infinity"),
        ("1e400", "1e400"),
        ("1,00", "1, 00"),
        ("²", Fraction(2)),
        ("", ""),
        (BIRD, None),
    ],
)
def test_short_answers_are_compared_by_value_or_folded_text(text: str, key: object) -> None:
    assert answer_key(text) == key


def test_the_largest_group_wins_and_its_shortest_equal_stands_for_it() -> None:
    assert largest_group(["The answer is 4.", "5", "4.0", "4", "7"]) == ["4", "4.0", "The answer is 4."]
    assert largest_group(["no", "Yes.", "yes", "YES"]) == ["YES", "yes", "Yes."]
    assert largest_group(["only one"]) == ["only one"]
    assert largest_group([]) == []


@pytest.mark.parametrize("texts", [["1", "2"], ["a", "a", "b", "b"], ["1", "2", "3", "3.0", "1.0"]])
def test_a_tie_between_answers_that_differ_is_no_agreement(texts: list[str]) -> None:
    assert largest_group(texts) == []


def test_long_texts_agree_when_alike() -> None:
    alike = [BIRD, BIRD + " again", BIRD.replace("small", "little")]
    other = "Rivers carry cold water from the high mountains to the warm sea far away in the south"
    assert sorted(largest_group([*alike, other])) == sorted(alike)
    assert largest_group([*alike, other])[0] == BIRD  # the medoid: nearest to all
    assert largest_group([BIRD, other]) == []


def test_a_longer_copy_does_not_stand_for_the_group() -> None:
    """The medoid is the most alike, not the first or the longest."""
    texts = [BIRD + " and then it flew off", BIRD + " and", BIRD]
    assert largest_group(texts)[0] == BIRD + " and"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("We counted 3 birds on the wall of the garden this morning", "We counted 4 birds on the wall of the garden this morning"),
        ("The two strings that you gave me are in fact isomorphic", "The two strings that you gave me are in fact not isomorphic"),
        ("It follows from both statements that this is the case", "It isn't what follows from both statements that this is the case"),
    ],
)
def test_another_number_or_a_negation_is_disagreement_however_alike(one: str, other: str) -> None:
    assert largest_group([one, other]) == []
    assert len(largest_group([one, one + " indeed"])) == 2


def test_a_short_answer_never_agrees_with_a_long_text() -> None:
    nine = " ".join(["word"] * (SHORT_WORDS + 1))
    assert answer_key(nine) is None
    assert largest_group([nine, " ".join(["word"] * SHORT_WORDS)]) == []


ANSWERS = st.sampled_from(
    ["1", "1.0", "01", "2", "2.", "yes", "Yes.", "no", "", "?", BIRD, BIRD + " again", BIRD + " 3", BIRD.upper(), BIRD[::-1], BIRD[:44]]
)
TEXTS = st.lists(st.one_of(ANSWERS, st.text(max_size=30)), max_size=7)


@settings(max_examples=150, deadline=None)
@given(texts=TEXTS, data=st.data())
def test_grouping_does_not_depend_on_order(texts: list[str], data: st.DataObject) -> None:
    assert largest_group(data.draw(st.permutations(texts))) == largest_group(texts)


@settings(max_examples=150, deadline=None)
@given(texts=TEXTS)
def test_a_group_is_made_of_the_samples_and_repeats_only_enlarge_it(texts: list[str]) -> None:
    group = largest_group(texts)
    assert all(group.count(text) <= texts.count(text) for text in group)
    if group:
        more = largest_group([*texts, group[0]])
        assert len(more) == len(group) + 1
        assert answer_key(more[0]) == answer_key(group[0])


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60), n=st.integers(1, 5))
def test_equal_samples_agree(text: str, n: int) -> None:
    assert largest_group([text] * n) == [text] * n
