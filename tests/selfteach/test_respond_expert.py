"""An expert in the responder's place: few-shot turns, its price learnt from the ledger, refusals of the ledger survived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from stand_ins import HashingEncoder, LetterPool, make_instruction, make_seeds

from harness.core.budget import Ledger
from harness.core.records import Completion, Message
from harness.instructions.shots import demonstration_turns
from selfteach.respond.config import ResponderConfig
from selfteach.respond.expert import ExpertResponder
from selfteach.roles import Answerer


class Expert:
    """Replies "a", charges `price` per conversation, and remembers how it was asked."""

    name = "expert"

    def __init__(self, ledger: Ledger, price: float = 0.0, reply: Completion | None = None) -> None:
        self.ledger, self.price, self.reply = ledger, price, reply or Completion("a", 1, True)
        self.calls: list[tuple[list[Any], dict[str, Any]]] = []

    def complete(
        self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[Completion]]:
        self.calls.append((list(conversations), {"max_new_tokens": max_new_tokens, "n": n, "seed": seed, "phase": self.ledger.phase}))
        self.ledger.count("queries", n * len(conversations))
        self.ledger.charge(self.name, self.price * len(conversations), len(conversations))
        return [[self.reply] * n for _ in conversations]


def expert(price: float = 0.0, budget: float = 1e6, reply: Completion | None = None, **config: Any) -> tuple[ExpertResponder, Expert]:
    ledger = Ledger(budget)
    model = Expert(ledger, price, reply)
    seeds = make_seeds()
    rows = HashingEncoder().encode([seed.instruction.text for seed in seeds])
    settings = {"config": ResponderConfig(**config), "seed_embeddings_N_D": rows, "rng": np.random.default_rng(0)}
    return ExpertResponder(model, LetterPool(ledger), ledger, seeds, **settings), model


ASKED = [make_instruction(f"Say a, number {n}.") for n in range(8)]
ROWS = HashingEncoder().encode([instruction.text for instruction in ASKED])


def ask(one: Answerer, max_flops: float = 1e9, n: int = len(ASKED), seed: int = 0) -> list[bool]:
    answers = one.answer(ASKED[:n], embeddings_N_D=ROWS[:n], max_flops=max_flops, rng=np.random.default_rng(seed))
    return [answer is not None for answer in answers]


@pytest.mark.parametrize("context", ["matching", "nearest", "fixed", "none"])
def test_examples_stand_before_the_instruction_as_chat_turns(context: str) -> None:
    one, model = expert(context=context)
    assert all(ask(one))
    conversations = [turns for asked, _ in model.calls for turns in asked]
    for turns, instruction, shots in zip(conversations, ASKED, one.examples.choose(ASKED, ROWS), strict=True):
        assert turns == [*(turn for shot in shots for turn in demonstration_turns(shot)), {"role": "user", "content": instruction.text}]
    assert len(conversations[0]) == (1 if context == "none" else 5)


def test_an_expert_that_charges_nothing_is_asked_for_all_the_rest_at_once() -> None:
    one, model = expert()
    assert all(ask(one))
    assert [len(asked) for asked, _ in model.calls] == [1, 7]
    assert all(ask(one, seed=1))
    assert [len(asked) for asked, _ in model.calls[2:]] == [8]
    assert {call["phase"] for _, call in model.calls} == {"generate"}
    assert len({call["seed"] for _, call in model.calls}) == 3


@pytest.mark.parametrize("max_flops", [0.0, 50.0, 100.0, 250.0, 799.0, 800.0])
def test_a_metered_expert_keeps_to_what_it_may_cost_once_its_price_is_known(max_flops: float) -> None:
    one, model = expert(price=100.0)
    ask(one, max_flops=100.0)
    before = model.ledger.spent()
    assert sum(ask(one, max_flops=max_flops)) == max_flops // 100
    assert model.ledger.spent() - before <= max_flops


def test_the_first_of_all_is_asked_to_learn_its_price() -> None:
    one, model = expert(price=100.0)
    assert ask(one, max_flops=50.0) == [True] + [False] * 7
    assert model.ledger.spent() == 100
    assert ask(one, max_flops=0.0) == [False] * 8


def test_a_refused_charge_leaves_the_rest_unanswered_and_the_budget_whole() -> None:
    one, model = expert(price=100.0, budget=350.0)
    assert ask(one) == [True] + [False] * 7
    assert model.ledger.spent() == 100


def test_failed_calls_are_failed_samples() -> None:
    one, _ = expert(reply=Completion("", 0, False))
    answers = one.answer(ASKED[:2], embeddings_N_D=ROWS[:2], max_flops=1.0, rng=np.random.default_rng(0))
    assert [(answer.passed, answer.response, answer.rejected) for answer in answers if answer] == [(0, None, {"no reply": 4})] * 2


def test_what_was_answered_is_shown_later() -> None:
    one, model = expert(context="nearest", shots=1)
    one.remember(make_instruction("Say a, number 0 ."), "remembered", ROWS[0])
    ask(one, n=1)
    assert model.calls[0][0][0][1]["content"] == "remembered"
