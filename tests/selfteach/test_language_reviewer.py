from collections.abc import Sequence

import numpy as np
import pytest
from stand_ins import make_instruction

from harness.core.budget import Ledger
from harness.core.records import Completion, Message
from selfteach.language.prompts import REVIEW_PROMPT, pair
from selfteach.language.reviewer import ANSWER_TOKENS, LanguageReviewer, RuleReviewer, says_gain
from selfteach.roles import Review

PARENT, CHILD = make_instruction("Describe a river."), make_instruction("Describe a river at night.")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class Judge:
    """Says the next of `replies` for each pair and charges one FLOP for it."""

    name = "judge"

    def __init__(self, ledger: Ledger, *replies: str) -> None:
        self.ledger, self.replies, self.asked, self.settings = ledger, replies, [], []

    def complete(
        self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[Completion]]:
        self.asked.append(list(conversations))
        self.settings.append((max_new_tokens, temperature, n))
        self.ledger.charge(self.name, 1.0, 1)
        return [[Completion(reply, 2, True)] for reply, _ in zip(self.replies, conversations, strict=False)]


def test_rules_see_any_difference_beyond_case_and_space() -> None:
    shouted = make_instruction("describe  a RIVER.\n")
    reviews = RuleReviewer().review([(PARENT, CHILD), (PARENT, shouted), (PARENT, PARENT)], rng=rng())
    assert reviews == [Review(True, "Not Equal"), Review(False, "Equal"), Review(False, "Equal")]


def test_a_model_judges_all_pairs_in_one_greedy_call_charged_to_review() -> None:
    ledger = Ledger()
    judge = Judge(ledger, "Not Equal", "Equal")
    with ledger.use_phase("execute"):
        reviews = LanguageReviewer(judge, ledger).review([(PARENT, CHILD), (CHILD, PARENT)], rng=rng())
    assert reviews == [Review(True, "Not Equal"), Review(False, "Equal")]
    both = [pair(PARENT.text, CHILD.text), pair(CHILD.text, PARENT.text)]
    assert judge.asked == [[REVIEW_PROMPT.conversation(text) for text in both]]
    assert judge.settings == [(ANSWER_TOKENS, 0.0, 1)]
    assert {row["phase"] for row in ledger.rows() if row["model"]} == {"review"}
    assert ledger.phase == "update"


def test_no_pairs_no_call() -> None:
    ledger = Ledger()
    judge = Judge(ledger)
    assert LanguageReviewer(judge, ledger).review([], rng=rng()) == []
    assert judge.asked == []


@pytest.mark.parametrize("reply", ["Not Equal", "not equal", " Not Equal.\n", '"Not Equal"', "**Not  Equal**", "NOT EQUAL!"])
def test_gain(reply: str) -> None:
    assert says_gain(reply)


@pytest.mark.parametrize(
    "reply", ["Equal", "", "Not Equal because it is at night", "Equal. Not Equal", "NotEqual", "not", "They are Not Equal"]
)
def test_no_gain(reply: str) -> None:
    assert not says_gain(reply)


def test_the_published_systems_exact_string_can_be_told_apart() -> None:
    ledger = Ledger()
    (review,) = LanguageReviewer(Judge(ledger, "Not Equal."), ledger).review([(PARENT, CHILD)], rng=rng())
    assert review.gain
    assert review.reply == "Not Equal."
