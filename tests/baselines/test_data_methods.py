"""Replay, rejection sampling, Self-Instruct: what they spend, count, keep, write and refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness.models.finetune
from baselines.answers import Answerer
from baselines.config import AnswersConfig
from baselines.rejection_sampling import RejectionSampling, RejectionSamplingConfig
from baselines.replay import Replay, ReplayConfig
from baselines.self_instruct import ASK, SelfInstruct, SelfInstructConfig, Writer, unusable
from harness.core.budget import Ledger
from harness.core.corpus import COLUMNS, read_rows, summarise
from harness.core.records import Completion, Instruction
from harness.core.spec import Adaptation
from harness.errors import SpecError
from harness.models.student import Student
from harness.seeds import generator
from tasks.pool import MixedPool, MixedPoolConfig

BUDGET = 1e10
REPLY_FLOPS = 6e7


class Scripted:
    """A student's `generate` that writes what a script says, at a price for each reply."""

    def __init__(self, student: Student, write: Callable[[str, int], str]) -> None:
        self.student, self.write, self.seen = student, write, list[list[str]]()

    def __call__(self, conversations: Any, *, n: int = 1, prefixes: Any, max_new_tokens: int, **_: Any) -> list[list[Completion]]:
        asked = [conversation[-1]["content"] for conversation in conversations]
        self.seen += [[turn["content"] for turn in prefix] for prefix in prefixes]
        replies = [[self.write(text, place) for place in range(n)] for text in asked]
        assert self.student.ledger is not None
        self.student.ledger.charge("scripted", REPLY_FLOPS * n * len(asked), n * len(asked))
        return [[Completion(reply, min(len(reply), max_new_tokens), True) for reply in row] for row in replies]


@pytest.fixture
def place(tiny_model: Path) -> Callable[..., tuple[Student, Ledger, MixedPool]]:
    def make(flops: float = BUDGET, **config: Any) -> tuple[Student, Ledger, MixedPool]:
        ledger = Ledger(flops)
        student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=0)
        student.attach(ledger)
        settings = {"families": ["letter_counting"], "constraint_share": 0.2, "seed_demonstrations": 8} | config
        pool = MixedPool(MixedPoolConfig.model_validate(settings), ledger=ledger, rng=generator("test"), ngrams=frozenset())
        return student, ledger, pool

    return make


def script(student: Student, monkeypatch: pytest.MonkeyPatch, write: Callable[[str, int], str]) -> Scripted:
    scripted = Scripted(student, write)
    monkeypatch.setattr(student, "generate", scripted)
    return scripted


def count_of(text: str) -> str:
    """The right answer to a letter-counting question, a wrong one to anything else."""
    if 'letter "' not in text:
        return "I do not know, sorry"
    letter, quoted = text.split('"')[1], text.split('"')[3]
    return str(quoted.count(letter))


def names(path: Path) -> set[str]:
    return {item.name for item in path.iterdir()}


def test_replay_spends_the_budget_on_the_seeds_alone(place: Any, tmp_path: Path) -> None:
    student, ledger, pool = place()
    Replay().train(student, pool, ledger, rng=np.random.default_rng(0), config=ReplayConfig(), out=tmp_path)
    assert 0.98 * BUDGET < ledger.spent() <= BUDGET
    assert ledger.counters == {"demonstrations": 8, "comparisons": 0, "queries": 0, "verifications": 0}
    assert {row["phase"] for row in ledger.rows() if row["flops"]} == {"update"}
    assert student.trained_on
    student, ledger, pool = place(1e4)
    with pytest.raises(SpecError, match=r"budget.train_flops: too small for one step"):
        Replay().train(student, pool, ledger, rng=np.random.default_rng(0), config=ReplayConfig(), out=tmp_path)


@pytest.mark.parametrize("rounds", [1, 2])
def test_rejection_sampling_trains_on_what_was_verified(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    student, ledger, pool = place()
    scripted = script(student, monkeypatch, lambda text, number: count_of(text) if number % 2 else "many")
    trained: list[list[Any]] = []
    tune = harness.models.finetune.finetune

    def noted(student: Student, examples: Any, *rest: Any, **more: Any) -> Any:
        trained.append(list(examples))
        return tune(student, examples, *rest, **more)

    monkeypatch.setattr(harness.models.finetune, "finetune", noted)
    config = RejectionSamplingConfig(rounds=rounds, prompts_per_batch=4)
    RejectionSampling().train(student, pool, ledger, rng=np.random.default_rng(0), config=config, out=tmp_path)
    assert 0.98 * BUDGET < ledger.spent() <= BUDGET
    generated = sum(row["flops"] for row in ledger.rows() if row["phase"] == "generate")
    assert 0.3 * BUDGET < generated <= 0.51 * BUDGET
    rows = read_rows(tmp_path / "corpus.jsonl")
    kept = [row for row in rows if row["kept"]]
    assert kept
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(row["response"] == count_of(row["instruction"]) and row["verified_by"] == "rule" and row["pass_rate"] == 0.5 for row in kept)
    assert all(row["reject_reason"] for row in rows if not row["kept"])
    assert {row["step"] for row in rows} == set(range(rounds))
    assert summarise(rows)["verified"] == len(kept)
    assert ledger.counters["verifications"] > len(kept)
    assert ledger.counters["demonstrations"] == 8
    assert len(trained) == rounds
    assert len(trained[-1]) == 8 + len(kept)
    questions = [shown for shown in scripted.seen if shown and 'letter "' in shown[0]]
    assert questions
    assert all(len(shown) == 4 for shown in questions)  # two seeds of the same form, a turn and its reply each


def test_rejection_sampling_says_what_it_lacks(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(flops: float, write: Callable[[str, int], str]) -> None:
        student, ledger, pool = place(flops)
        script(student, monkeypatch, write)
        RejectionSampling().train(student, pool, ledger, rng=np.random.default_rng(0), config=RejectionSamplingConfig(), out=tmp_path)

    with pytest.raises(SpecError, match=r"nothing to train on: no sample of \d+ prompts was verified \(not verified"):
        run(BUDGET, lambda text, number: "Well, nobody, not even, I, knows")
    with pytest.raises(SpecError, match=r"budget.train_flops: too small: it does not pay for one batch of samples"):
        run(1e5, lambda text, number: count_of(text))
    student, ledger, pool = place()
    free = [Instruction("a", "p", "f", "Say hello.", "Say hello.")]
    monkeypatch.setattr(pool, "prompts", lambda n, *, rng: free)
    with pytest.raises(SpecError, match="pool: rejection_sampling needs prompts that a rule can check"):
        RejectionSampling().train(student, pool, ledger, rng=np.random.default_rng(0), config=RejectionSamplingConfig(), out=tmp_path)


def test_a_small_pool_of_prompts_ends_sampling(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, ledger, pool = place()
    few = pool.prompts(3, rng=np.random.default_rng(5))
    monkeypatch.setattr(pool, "prompts", lambda n, *, rng: few)
    script(student, monkeypatch, lambda text, number: count_of(text))
    RejectionSampling().train(student, pool, ledger, rng=np.random.default_rng(0), config=RejectionSamplingConfig(), out=tmp_path)
    assert len(read_rows(tmp_path / "corpus.jsonl")) == 3
    assert 0.98 * BUDGET < ledger.spent() <= BUDGET


NEW = [
    "What makes the wind blow at night?",
    "Describe how a clock can be late",
    "What makes the wind blow at night so hard?",
    "The wind was blowing. It blew.",
    "Two words?",
    "- list three kinds of cheese?",
    "Draw a picture of three ships?",
    "I am sorry, but why do you ask?",
]


def writes(text: str, number: int) -> str:
    """New instructions when asked for one, else answers of which two in three agree."""
    return NEW[number % len(NEW)] if text == ASK else ["warm air rises", "Warm air rises.", "cheese"][number % 3]


@pytest.mark.parametrize("accept", ["consistent", "any"])
def test_self_instruct_keeps_what_is_new_asks_and_holds(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accept: str) -> None:
    student, ledger, pool = place()
    script(student, monkeypatch, writes)
    config = SelfInstructConfig.model_validate({"accept": accept, "answers": {"samples": 1 if accept == "any" else 3}})
    SelfInstruct().train(student, pool, ledger, rng=np.random.default_rng(0), config=config, out=tmp_path)
    assert 0.98 * BUDGET < ledger.spent() <= BUDGET
    rows = read_rows(tmp_path / "corpus.jsonl")
    written = [json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text().splitlines()]
    assert all(set(row) == set(COLUMNS) for row in written)  # the report reads rows as they are
    first = {row["instruction"]: row for row in rows[: len(NEW)]}
    reasons = [(first[text]["reject_reason"] or "").split(":")[0] for text in NEW]
    assert reasons == [
        "", "asks for nothing", "near duplicate", "asks for nothing", "length", "begins with a punctuation mark", "not a matter of text",
        "refusal",
    ]  # fmt: skip
    kept = [row for row in rows if row["kept"]]
    assert [row["instruction"] for row in kept] == [NEW[0]]  # written again, it is a duplicate of itself
    assert kept[0]["response"] == "warm air rises"
    assert kept[0]["verified_by"] == ("consistency" if accept == "consistent" else None)
    assert kept[0]["seed_id"] in {seed.instruction.id for seed in pool.seeds()}
    phases = {row["phase"] for row in ledger.rows() if row["flops"]}
    assert phases == {"execute", "generate", "update"}
    assert ledger.counters == {"demonstrations": 8, "comparisons": 0, "queries": 0, "verifications": 0}


def test_self_instruct_says_what_it_lacks(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(flops: float, write: Callable[[str, int], str]) -> None:
        student, ledger, pool = place(flops)
        script(student, monkeypatch, write)
        SelfInstruct().train(student, pool, ledger, rng=np.random.default_rng(0), config=SelfInstructConfig(), out=tmp_path)

    with pytest.raises(SpecError, match=r"none of \d+ instructions that the student wrote was kept \(asks for nothing \d+"):
        run(BUDGET, lambda text, number: "The wind was blowing hard.")
    with pytest.raises(SpecError, match=r"budget.train_flops: too small: it does not pay for writing one instruction"):
        run(1e5, writes)


def test_own_instructions_become_examples_and_seeds_are_chosen_by_wording(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    student, ledger, pool = place()
    scripted = script(student, monkeypatch, writes)
    seeds = pool.seeds()
    writer = Writer(student, pool, ledger, seeds, config=SelfInstructConfig(human_shots=3), rng=np.random.default_rng(0))
    assert len(writer.write(2, max_flops=1e9)) == 2
    assert writer.own == [NEW[0]]
    writer.write(1, max_flops=1e9)
    before, after = scripted.seen
    assert len(before) == 6
    assert len(after) == 8
    assert NEW[0] in after
    question = next(seed for seed in seeds if 'letter "' in seed.instruction.text)
    near = writer.nearest(Instruction("x", "p", "f", "", question.instruction.text + " Please."))
    assert near[-1] == question
    assert writer.write(4, max_flops=0.0) == []


def test_what_a_seed_speaks_of_may_be_asked_for() -> None:
    asked = "Why is a map of the town useful?"
    assert unusable(asked, True, frozenset(), frozenset()) == "not a matter of text: map"
    assert unusable(asked, True, frozenset({"map"}), frozenset()) is None
    assert unusable("Explain the town in words", True, frozenset(), frozenset({"explain"})) is None
    assert unusable(asked, False, frozenset({"map"}), frozenset()) == "cut off"


def test_contaminated_answers_are_refused(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    student, ledger, pool = place()
    script(student, monkeypatch, lambda text, number: count_of(text))
    monkeypatch.setattr(pool, "contaminated", lambda text: True)
    answerer = Answerer(student, pool, ledger, pool.seeds(), config=AnswersConfig())
    prompts = pool.prompts(4, rng=np.random.default_rng(0))
    answers = answerer.answer(prompts, max_flops=1e9, rng=np.random.default_rng(0))
    questions = [answer for answer in answers if answer is not None and 'letter "' in answer.instruction.text]
    assert questions
    assert all(answer.response is None and answer.rejected == {"contaminated": 4} for answer in questions)


def test_equal_seeds_give_equal_corpora_and_examples(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, shown = [], []
    for number in (0, 0, 1):
        student, ledger, pool = place(4e9)
        scripted = script(student, monkeypatch, lambda text, number: writes(text, number) if text == ASK else count_of(text))
        out = tmp_path / str(len(made))
        out.mkdir()
        rng = np.random.default_rng(number)
        Writer(student, pool, ledger, pool.seeds(), config=SelfInstructConfig(), rng=rng).write(4, max_flops=1e9)
        shown.append(scripted.seen[0])
        RejectionSampling().train(student, pool, ledger, rng=rng, config=RejectionSamplingConfig(), out=out)
        made.append((out / "corpus.jsonl").read_text())
    assert made[0] == made[1] != made[2]
    assert shown[0] == shown[1] != shown[2]


@pytest.mark.slow
def test_a_real_student_meets_its_budget(place: Any, tmp_path: Path) -> None:
    """Random letters satisfy a constraint such as "no commas" now and then."""
    student, ledger, pool = place(1.5e10, families=[], constraint_share=1)
    config = RejectionSamplingConfig.model_validate({"answers": {"instruction_tokens": 10}})
    RejectionSampling().train(student, pool, ledger, rng=np.random.default_rng(0), config=config, out=tmp_path)
    assert 0.98 * 1.5e10 < ledger.spent() <= 1.5e10
    assert names(tmp_path) == {"corpus.jsonl"}
