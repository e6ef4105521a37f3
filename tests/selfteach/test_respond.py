from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_ins import HashingEncoder, LetterPool, make_instruction, make_seeds

from harness.core.budget import Ledger
from harness.core.records import Completion, Constraint, Demonstration
from harness.instructions.shots import demonstration_turns
from harness.models.student import Student
from selfteach.respond.config import ResponderConfig
from selfteach.respond.responder import Responder
from selfteach.roles import Answer

ENCODER = HashingEncoder(size=16)


class Scripted:
    """A student that replies from a script and remembers what it was asked."""

    meter = None

    def __init__(self, *replies: Completion) -> None:
        self.replies, self.calls = list(replies), []

    def as_loaded(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def generate(self, conversations: Sequence[Any], **options: Any) -> list[list[Completion]]:
        self.calls.append((conversations, options))
        return [self.replies[: options["n"]] for _ in conversations]


def done(text: str) -> Completion:
    return Completion(text, len(text), True)


def responder(student: Any, seeds: list[Demonstration] | None = None, **config: Any) -> Responder:
    ledger = Ledger(1e12)
    return Responder(student, LetterPool(ledger), ledger, seeds or make_seeds(), config=ResponderConfig(**config))


def answer_one(student: Scripted, **config: Any) -> Answer:
    (answer,) = responder(student, **config).answer([make_instruction("Say a.")], max_flops=1.0, rng=np.random.default_rng(0))
    assert answer is not None
    return answer


def test_the_shortest_verified_response_is_kept_and_the_pass_rate_counts_all() -> None:
    answer = answer_one(Scripted(done("  long a  "), done("xyz"), done(" ae "), done("")))
    assert answer == Answer(samples=4, passed=2, response="ae", rejected={"empty": 1, "not verified": 1})
    assert (answer.pass_rate, answer.learnability) == (0.5, 1.0)


def test_a_reply_cut_off_fails_though_it_would_verify() -> None:
    answer = answer_one(Scripted(Completion("a", 1, False), done("x"), done("x"), done("x")))
    assert answer == Answer(4, 0, None, rejected={"cut off": 1, "not verified": 3})
    assert answer.learnability == 0


@pytest.mark.parametrize(("passed", "learnability"), [(0, 0), (1, 0.75), (2, 1), (3, 0.75), (4, 0)])
def test_learnability_peaks_at_half(passed: int, learnability: float) -> None:
    assert Answer(4, passed, None).learnability == learnability


def test_empty_replies_are_not_verified() -> None:
    student = Scripted(done(" "), done(""))
    one = responder(student, samples=2)
    one.answer([make_instruction("Say a.")], max_flops=1.0, rng=np.random.default_rng(0))
    assert one.ledger.counters["verifications"] == 0


def shot(name: str, *kinds: str, family: str = "", length: int = 0) -> Demonstration:
    payload = {"generator": family} if family else {}
    constraints = tuple(Constraint(kind) for kind in kinds)
    instruction = make_instruction(name + "." * length, name=name, family=family or "topic", constraints=constraints, payload=payload)
    return Demonstration(instruction, f"answer {name}")


SHOTS = [
    shot("gcd-long", family="gcd", length=40),
    shot("gcd", family="gcd"),
    shot("gcd-2", family="gcd", length=5),
    shot("commas", "no_commas"),
    shot("commas and title", "no_commas", "title"),
    shot("title", "title", length=9),
    shot("other", "bullets"),
]


def test_instructions_with_one_length_limit_share_one_call_each_after_its_own_shots() -> None:
    student = Scripted(*[done("a")] * 4)
    one = responder(student, SHOTS)
    asked = [shot("a", family="gcd"), shot("b", "bullets"), shot("c", family="gcd")]
    answers = one.answer([item.instruction for item in asked], max_flops=1.0, rng=np.random.default_rng(0))
    assert all(answers)
    assert [len(conversations) for conversations, _ in student.calls] == [2, 1]
    assert [options["max_new_tokens"] for _, options in student.calls] == [24, 64]
    gcd_turns = [*demonstration_turns(SHOTS[1]), *demonstration_turns(SHOTS[2])]
    assert student.calls[0][1]["prefixes"] == [gcd_turns, gcd_turns]
    assert student.calls[1][1]["prefixes"] == [demonstration_turns(SHOTS[6])]
    assert student.calls[0][1]["seed"] != student.calls[1][1]["seed"]


def metered(folder: Path, ledger: Ledger, **config: Any) -> Responder:
    student = Student.load(f"file:{folder}", adaptation=None, seed=0)
    student.attach(ledger)
    options = {"seed_embeddings_N_D": ENCODER.encode([one.instruction.text for one in SHOTS]), "rng": np.random.default_rng(0)}
    return Responder(student, LetterPool(ledger), ledger, SHOTS, config=ResponderConfig(**config), **options)


@pytest.mark.parametrize("context", ["matching", "nearest", "fixed", "none"])
@pytest.mark.parametrize("kept_tokens", [1, 8_192])
def test_the_bound_covers_what_generation_is_charged(
    tiny_model: Path, context: str, kept_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the cache keeps no prefix, where every prompt is a batch of its own, and as the corpus grows."""
    monkeypatch.setattr("selfteach.respond.responder.PREFIX_TOKENS", kept_tokens)
    monkeypatch.setattr("harness.models.generation.BATCH_TOKENS", 1 if kept_tokens == 1 else 6_144)
    ledger = Ledger(1e12)
    one = metered(tiny_model, ledger, instruction_tokens=12, context=context)
    asked = [shot("a" * length, "bullets", family=family).instruction for length in (3, 40) for family in ("", "gcd")]
    rows = ENCODER.encode([instruction.text for instruction in asked])
    for turn in range(3):
        before, bound = ledger.spent(), one.bound_flops(asked, rows)
        assert None not in one.answer(asked, embeddings_N_D=rows, max_flops=bound, rng=np.random.default_rng(turn))
        assert 0.2 * bound < ledger.spent() - before <= bound
        one.remember(make_instruction(f"new {turn}"), "done", ENCODER.encode([f"{asked[turn].text} new"])[0])


def test_a_shared_prefix_is_paid_once_and_one_of_its_own_by_each(tiny_model: Path) -> None:
    asked = [shot(f"ask {n}", "bullets").instruction for n in range(6)]
    rows = ENCODER.encode([f"{SHOTS[n].instruction.text} {n}" for n in range(6)])
    prices = {}
    for context in ("fixed", "nearest", "none"):
        one = metered(tiny_model, ledger := Ledger(1e12), context=context, shots=1, instruction_tokens=4)
        one.answer(asked, embeddings_N_D=rows, max_flops=1e12, rng=np.random.default_rng(0))
        (prices[context],) = [row["flops"] for row in ledger.rows() if row["model"] and row["phase"] == "generate"]
        assert ledger.spent() == prices[context]
    assert prices["none"] < prices["fixed"] < prices["nearest"]


def test_a_template_that_rewrites_earlier_turns_is_bounded_too(tiny_model: Path) -> None:
    ledger = Ledger(1e12)
    one = metered(tiny_model, ledger, instruction_tokens=6)
    one.student.tokenizer.chat_template = (
        "{{ messages|length }}{% for m in messages %}{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    asked = [shot("a" * length, "bullets").instruction for length in (3, 40)]
    bound = one.bound_flops(asked)
    assert None not in one.answer(asked, max_flops=bound, rng=np.random.default_rng(0))
    assert 0.3 * bound < ledger.spent() <= bound


def test_a_window_that_forbids_sharing_is_bounded_too(tiny_model: Path) -> None:
    ledger = Ledger(1e12)
    one = metered(tiny_model, ledger, instruction_tokens=6)
    asked = [shot("a" * length, "bullets").instruction for length in (3, 40)]
    shared = one.bound_flops(asked)
    one.student.model.config.sliding_window = 16
    bound = one.bound_flops(asked)
    assert None not in one.answer(asked, max_flops=bound, rng=np.random.default_rng(0))
    assert shared < ledger.spent() <= bound


def test_answers_repeat_with_the_rng_and_change_with_another(tiny_model: Path) -> None:
    def replies(seed: int) -> list[Answer | None]:
        one = metered(tiny_model, Ledger(1e12), temperature=1.5)
        return one.answer([shot("b", "bullets").instruction] * 3, max_flops=1e12, rng=np.random.default_rng(seed))

    assert replies(0) == replies(0)
    assert replies(0) != replies(1)


def test_what_is_not_afforded_is_not_answered(tiny_model: Path) -> None:
    ledger = Ledger(1e12)
    student = Student.load(f"file:{tiny_model}", adaptation=None, seed=0)
    student.attach(ledger)
    one = Responder(student, LetterPool(ledger), ledger, SHOTS, config=ResponderConfig())
    asked = [shot("a", family="gcd").instruction, shot("b", "bullets").instruction]
    afforded = one.bound_flops(asked[:1])
    answers = one.answer(asked, max_flops=afforded, rng=np.random.default_rng(0))
    assert [answer is None for answer in answers] == [False, True]
    assert ledger.spent() <= afforded


def test_expected_cost_follows_what_batches_came_to(tiny_model: Path) -> None:
    ledger = Ledger(1e12)
    student = Student.load(f"file:{tiny_model}", adaptation=None, seed=0)
    student.attach(ledger)
    one = Responder(student, LetterPool(ledger), ledger, SHOTS, config=ResponderConfig())
    asked, rng = [shot("a", "bullets").instruction], np.random.default_rng(0)
    bound = one.bound_flops(asked)
    assert one.answer(asked, max_flops=0.99 * bound, rng=rng) == [None]
    for _ in range(6):
        assert None not in one.answer(asked, max_flops=bound, rng=rng)
    typical = ledger.spent() / 6
    assert typical < 0.8 * bound  # replies end before the limit
    assert None not in one.answer(asked, max_flops=1.2 * typical, rng=rng)


def test_a_refused_charge_leaves_the_rest_unanswered(tiny_model: Path) -> None:
    ledger = Ledger(1e5)
    student = Student.load(f"file:{tiny_model}", adaptation=None, seed=0)
    student.attach(ledger)
    one = Responder(student, LetterPool(ledger), ledger, SHOTS, config=ResponderConfig())
    assert one.answer([SHOTS[0].instruction], max_flops=1e12, rng=np.random.default_rng(0)) == [None]
