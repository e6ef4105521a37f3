"""What of k samples is accepted: faults never, the rest by rule or by agreement."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stand_ins import LetterPool, make_instruction

from harness.core.budget import Ledger
from harness.core.records import Completion, Instruction, Message, Verification
from harness.instructions.faults import fault
from selfteach.respond.config import ResponderConfig
from selfteach.respond.judge import Judge
from selfteach.roles import Answer

ASKED = make_instruction("Say a.")
UNVERIFIABLE = replace(ASKED, constraints=())
EXAMPLE = "A river runs down from the hills to the sea, and it never asks why."
CONTEXT: list[Message] = [{"role": "user", "content": "Short?"}, {"role": "assistant", "content": EXAMPLE}]


class NoOracle(LetterPool):
    def verify(self, instruction: Instruction, response: str) -> Verification:
        raise AssertionError("a verifier was called")


def done(text: str) -> Completion:
    return Completion(text, len(text), True)


def judged(*texts: str, verification: str, instruction: Instruction = ASKED, oracle: bool = True, **config: float) -> Answer:
    pool = (LetterPool if oracle else NoOracle)(Ledger())
    judge = Judge(pool, ResponderConfig(verification=verification, **config))
    return judge.judge(instruction, [done(text) for text in texts], CONTEXT)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a", None),
        ("Yes", None),
        (" \n\t", "empty"),
        ("I'm sorry, I cannot say.", "refusal"),
        ("sorry " + " ".join(f"word{n}" for n in range(90)), None),
        ("a<|im_end|>", "prompt leak"),
        ("a\nUser: Say b.", "prompt leak"),
        (f"{EXAMPLE.upper()} a", "prompt leak"),
        ("Short? a", None),
        ("We go on and on and on and on and on and on and on and on", "repetition"),
        ("la" * 150, "repetition"),
        ("a\x07", "broken characters"),
        ("ab " * 500, "over length"),
    ],
)
def test_faults(text: str, reason: str | None) -> None:
    assert fault(ASKED, done(text), CONTEXT, max_new_tokens=64) == reason


def test_a_reply_that_was_not_ended_is_cut_off_and_a_failed_call_is_none() -> None:
    assert fault(ASKED, Completion("a", 1, False), CONTEXT, max_new_tokens=64) == "cut off"
    assert fault(ASKED, Completion("", 0, False), CONTEXT, max_new_tokens=64) == "no reply"
    assert fault(ASKED, Completion("", 3, False), CONTEXT, max_new_tokens=64) == "empty"


def test_what_the_instruction_itself_says_may_recur() -> None:
    apology = make_instruction("Write that you are sorry.")
    assert fault(apology, done("I am sorry."), [], max_new_tokens=64) is None
    echo = make_instruction("Tell me in one sentence how a river runs down to the sea.")
    assert fault(echo, done(echo.text + " It flows."), [], max_new_tokens=64) == "prompt leak"
    assert fault(echo, done("A river runs down to the sea."), [], max_new_tokens=64) is None


def test_faults_verify_nowhere_and_are_counted() -> None:
    texts = ["a", "x", "", "sorry a", f"a {EXAMPLE}"]
    ledger = Ledger()
    answer = Judge(LetterPool(ledger), ResponderConfig()).judge(ASKED, [done(text) for text in texts], CONTEXT)
    assert answer == Answer(5, 1, "a", "rule", {"empty": 1, "not verified": 1, "prompt leak": 1, "refusal": 1})
    assert ledger.counters["verifications"] == 2
    assert sum(answer.rejected.values()) == answer.samples - answer.passed


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["4", "4.0", "The answer is 4.", "5"], Answer(4, 3, "4", "consistency", {"disagrees": 1})),
        (["4", "4", "4", "4"], Answer(4, 4, "4", "consistency")),
        (["4", "4", "5", "6"], Answer(4, 2, "4", "consistency", {"disagrees": 2})),
        (["4", "4", "5", "5"], Answer(4, 0, None, "consistency", {"no agreement": 4})),
        (["4", "5", "6", "7"], Answer(4, 0, None, "consistency", {"no agreement": 4})),
        (["4", "4", "", ""], Answer(4, 2, "4", "consistency", {"empty": 2})),
        (["4", "", "", ""], Answer(4, 0, None, "consistency", {"empty": 3, "no agreement": 1})),
        (["", "", "", ""], Answer(4, 0, None, "consistency", {"empty": 4})),
        (["sorry"] * 4, Answer(4, 0, None, "consistency", {"refusal": 4})),
        (["4"], Answer(1, 0, None, "consistency", {"no agreement": 1})),
    ],
)
def test_agreement_decides_and_no_verifier_is_called(texts: list[str], expected: Answer) -> None:
    for order in (texts, texts[::-1]):
        assert judged(*order, verification="consistency", oracle=False) == expected


def test_disagreement_is_nothing_to_learn_and_half_agreement_most() -> None:
    rates = {text: judged(*text, verification="consistency").learnability for text in ("4567", "4456", "4445", "4444")}
    assert rates == {"4567": 0, "4456": 1, "4445": 0.75, "4444": 0}


@pytest.mark.parametrize(("agreement", "accepted"), [(0.5, True), (0.75, True), (0.76, False), (1.0, False)])
def test_the_share_asked_is_of_all_samples(agreement: float, accepted: bool) -> None:
    answer = judged("4", "4", "4", "", verification="consistency", agreement=agreement)
    assert (answer.response is not None) == accepted


def test_two_must_agree_however_little_is_asked() -> None:
    assert judged("1", "2", "3", "4", verification="consistency", agreement=0.01).response is None


def test_either_prefers_the_rule_and_says_who_decided() -> None:
    ruled = judged("a", "x", "x", "x", verification="either")
    agreed = judged("a", "x", "x", "x", verification="either", instruction=UNVERIFIABLE, oracle=False)
    assert (ruled.verified_by, ruled.passed, ruled.response) == ("rule", 1, "a")
    assert (agreed.verified_by, agreed.passed, agreed.response) == ("consistency", 3, "x")


def test_without_a_rule_nothing_passes_by_rule() -> None:
    answer = judged("a", "a", verification="rule", instruction=UNVERIFIABLE, oracle=False)
    assert answer == Answer(2, 0, None, "rule", {"no rule": 2})


def test_judging_is_strict_about_settings() -> None:
    with pytest.raises(ValueError, match="verification"):
        ResponderConfig(verification="oracle")
    with pytest.raises(ValueError, match="agreement"):
        ResponderConfig(agreement=0)
    with pytest.raises(ValueError, match="context"):
        ResponderConfig(context="nearby")


@pytest.mark.parametrize("verification", ["rule", "consistency"])
def test_a_response_that_overlaps_an_evaluation_item_is_never_accepted(verification: str) -> None:
    answer = judged("a leaked item", "a leaked item", "an apple", "an apple", verification=verification)
    assert (answer.passed, answer.response) == (2, "an apple")
    assert answer.rejected == {"contaminated": 2}
