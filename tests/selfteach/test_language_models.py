from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins import make_instruction

from harness.core.budget import Ledger
from harness.core.records import Message
from harness.core.spec import Adaptation
from harness.errors import BudgetExceeded, SourceError, SpecError
from harness.models.student import Student
from selfteach.language.endpoint import Endpoint, EndpointConfig
from selfteach.language.executor import LanguageExecutor
from selfteach.language.models import PREFIX_TOKENS, LocalModel, StudentModel, open_model
from selfteach.language.reviewer import LanguageReviewer
from selfteach.operations import OPERATIONS
from selfteach.roles import TextModel

LORA = Adaptation(kind="lora", rank=4, alpha=8)


def turns(*contents: str) -> list[Message]:
    return [{"role": ("user", "assistant")[index % 2], "content": content} for index, content in enumerate(contents)]


def texts(model: TextModel, *conversations: list[Message], temperature: float = 0.0, n: int = 1) -> list[list[str]]:
    replies = model.complete(conversations, max_new_tokens=8, temperature=temperature, seed=3, n=n)
    return [[reply.text for reply in row] for row in replies]


@pytest.fixture
def student(tiny_model: Path) -> Student:
    return Student.load(f"file:{tiny_model}", adaptation=LORA, seed=0)


def train(student: Student) -> None:
    """Changes the adapters, and with them what the student says."""
    with torch.no_grad():
        for parameter in student.trainable:
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)).to(parameter.device)


CONVERSATIONS = [
    turns("task one", "reply", "go"),
    turns("task one", "reply", "stay a while"),
    turns("another task", "answer", "go"),
    turns("alone"),
]


def test_sharing_prefixes_changes_no_reply(student: Student) -> None:
    model = StudentModel(student, Ledger())
    plain = student.generate(CONVERSATIONS, max_new_tokens=8, temperature=0, seed=3)
    assert texts(model, *CONVERSATIONS) == [[reply.text for reply in row] for row in plain]
    assert texts(model, *CONVERSATIONS) == [[reply.text for reply in row] for row in plain]


def test_equal_leading_turns_are_computed_once_for_all_calls(student: Student) -> None:
    ledger = Ledger()
    model = StudentModel(student, ledger)

    def cost(conversation: list[Message]) -> float:
        before = ledger.spent()
        texts(model, conversation)
        return ledger.spent() - before

    long = "x" * 400
    assert cost(turns(long, "y", "go")) > 3 * cost(turns(long, "y", "go"))
    assert cost(turns(long, "y", "other")) < cost(turns(long + "z", "y", "other")) / 3


def test_the_cache_of_leading_turns_is_bounded_and_drops_the_oldest(student: Student) -> None:
    model = StudentModel(student, Ledger())
    for index in range(9):
        texts(model, turns(f"task {index} " + "x" * (PREFIX_TOKENS // 8), "reply", "go"))
    assert 0 < model._prefixes.caches.tokens <= PREFIX_TOKENS
    first = tuple(student.encode(student.render(turns("task 0 " + "x" * (PREFIX_TOKENS // 8), "reply"), add_generation_prompt=False)))
    last = tuple(student.encode(student.render(turns("task 8 " + "x" * (PREFIX_TOKENS // 8), "reply"), add_generation_prompt=False)))
    assert first not in model._prefixes.caches
    assert last in model._prefixes.caches


def test_a_frozen_student_stays_as_it_was_loaded_and_another_does_not(student: Student) -> None:
    frozen, current = StudentModel(student, Ledger()), None
    before = texts(frozen, *CONVERSATIONS)
    assert student.ledger is not None
    current = StudentModel(student, student.ledger, frozen=False)
    assert texts(current, *CONVERSATIONS) == before
    train(student)
    assert texts(frozen, *CONVERSATIONS) == before
    assert texts(current, *CONVERSATIONS) != before


def test_students_are_charged_to_the_callers_phase_and_count_no_queries(student: Student) -> None:
    ledger = Ledger()
    model = StudentModel(student, ledger)
    with ledger.use_phase("execute"):
        texts(model, *CONVERSATIONS)
    assert {row["phase"] for row in ledger.rows() if row["flops"]} == {"execute"}
    assert ledger.counters["queries"] == 0
    assert (model.name, student.ledger) == (student.name, ledger)


def test_a_students_ledger_may_refuse(student: Student) -> None:
    with pytest.raises(BudgetExceeded):
        texts(StudentModel(student, Ledger(train_flops=1.0)), *CONVERSATIONS)


def test_a_local_expert_is_metered_by_the_same_ledger_under_its_own_name_and_each_reply_is_a_query(tiny_model: Path) -> None:
    ledger = Ledger()
    expert = LocalModel(f"file:{tiny_model}", ledger)
    replies = texts(expert, *CONVERSATIONS, temperature=0.8, n=3)
    assert [len(row) for row in replies] == [3, 3, 3, 3]
    assert ledger.counters["queries"] == 12
    row = next(row for row in ledger.rows() if row["flops"])
    assert row["model"] == expert.name == f"expert {tiny_model.name}"
    same = Student.load(f"file:{tiny_model}", adaptation=None, seed=0).generate(CONVERSATIONS, max_new_tokens=8, temperature=0, seed=0)
    assert texts(expert, *CONVERSATIONS) == [[reply.text for reply in row] for row in same]
    assert texts(expert) == []
    assert ledger.counters["queries"] == 16


def test_equal_seeds_give_equal_replies_and_others_others(student: Student) -> None:
    model = StudentModel(student, Ledger())
    sampled = [
        [[reply.text for reply in row] for row in model.complete(CONVERSATIONS, max_new_tokens=8, temperature=1.0, seed=seed, n=2)]
        for seed in (1, 1, 2)
    ]
    assert sampled[0] == sampled[1] != sampled[2]


def test_models_by_name(student: Student, tiny_model: Path) -> None:
    ledger = Ledger()
    config = EndpointConfig(base_url="http://localhost:1/v1", model="m")
    makers: list[tuple[str | EndpointConfig, type]] = [("student", StudentModel), (f"file:{tiny_model}", LocalModel), (config, Endpoint)]
    for choice, kind in makers:
        assert type(open_model(choice, student, ledger)) is kind
    with pytest.raises(SpecError, match="the source of a model"):
        open_model(" ", student, ledger)
    with pytest.raises((SpecError, SourceError)):
        open_model("file:/nowhere/at/all", student, ledger)


@pytest.mark.parametrize(
    "make", [lambda student, ledger: StudentModel(student, ledger), lambda student, ledger: StudentModel(student, ledger, frozen=False)]
)
def test_students_serve_the_executor_and_the_reviewer(student: Student, make: Callable[[Student, Ledger], TextModel]) -> None:
    ledger = Ledger()
    model = make(student, ledger)
    parents = [make_instruction(f"Describe river {index}.") for index in range(6)]
    with ledger.use_phase("execute"):
        outcomes = LanguageExecutor(model, max_new_tokens=6).apply_batch(parents, OPERATIONS, rng=np.random.default_rng(0))
    assert len(outcomes) == 6
    assert all((outcome.instruction is None) != (outcome.reason is None) for outcome in outcomes)
    reviews = LanguageReviewer(model, ledger).review([(parents[0], parents[1])], rng=np.random.default_rng(0))
    assert len(reviews) == 1
    assert {row["phase"] for row in ledger.rows() if row["flops"]} == {"execute", "review"}
