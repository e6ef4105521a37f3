from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from stand_ins import HashingEncoder, make_seeds

from harness.core.budget import Ledger
from harness.core.records import Completion, Constraint, Instruction, Message
from harness.errors import BudgetExceeded
from harness.instructions.render import compose
from selfteach.elimination import Candidate, Context, Kept, Limits, eliminate
from selfteach.environment import Environment, EnvironmentConfig
from selfteach.language.endpoint import Endpoint, EndpointConfig
from selfteach.language.executor import LanguageExecutor, parse
from selfteach.language.prompts import OPERATION_PROMPTS
from selfteach.language.reviewer import LanguageReviewer
from selfteach.operations import OPERATIONS
from selfteach.roles import Answer, Outcome, Reviewer, TextModel

PARENT = compose(pool="instructions", family="travel", body="Describe a bus.", constraints=(Constraint("no_commas"),), seed_id="seed-001")
GOOD = "Describe a night bus in Lagos and the people it carries."


@dataclass
class Scripted:
    """Replies in turn; remembers what it was asked."""

    replies: list[Completion]
    name: str = "scripted"
    asked: list[Sequence[Message]] = field(default_factory=list)
    calls: list[dict[str, object]] = field(default_factory=list)

    def complete(
        self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[Completion]]:
        self.asked += conversations
        self.calls.append({"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed, "n": n})
        return [[self.replies[index % len(self.replies)]] for index in range(len(conversations))]


def carry_out(text: str, *, finished: bool = True, tokens: int | None = None, parent: Instruction = PARENT) -> Outcome:
    model = Scripted([Completion(text, len(text.split()) if tokens is None else tokens, finished)])
    (outcome,) = LanguageExecutor(model).apply_batch([parent], ["deepen"], rng=np.random.default_rng(0))
    assert outcome.reply == text
    assert (outcome.instruction is None) == (outcome.reason is not None)
    return outcome


def test_one_call_for_all_pairs_each_under_its_operations_prompt() -> None:
    model = Scripted([Completion(f"{GOOD} {index}", 12, True) for index in range(6)])
    executor = LanguageExecutor(model, temperature=0.4, max_new_tokens=50)
    outcomes = executor.apply_batch([PARENT] * 6, OPERATIONS, rng=np.random.default_rng(3))
    assert model.asked == [OPERATION_PROMPTS[operation].conversation(PARENT.text) for operation in OPERATIONS]
    assert [outcome.instruction.text for outcome in outcomes if outcome.instruction] == [f"{GOOD} {index}" for index in range(6)]
    assert [outcome.instruction.operation for outcome in outcomes if outcome.instruction] == list(OPERATIONS)
    again = Scripted(model.replies)
    LanguageExecutor(again, temperature=0.4, max_new_tokens=50).apply_batch([PARENT], ["breadth"], rng=np.random.default_rng(3))
    LanguageExecutor(again, temperature=0.4, max_new_tokens=50).apply_batch([PARENT], ["breadth"], rng=np.random.default_rng(4))
    assert model.calls == again.calls[:1]
    assert model.calls[0] | {"seed": 0} == {"max_new_tokens": 50, "temperature": 0.4, "seed": 0, "n": 1}
    assert again.calls[1]["seed"] != again.calls[0]["seed"]


def test_nothing_to_do_asks_nobody() -> None:
    model = Scripted([])
    assert LanguageExecutor(model).apply_batch([], [], rng=np.random.default_rng(0)) == []
    assert model.calls == []


def test_a_child_has_no_verifier_and_knows_where_it_comes_from() -> None:
    child = carry_out(f"New request: {GOOD}").instruction
    assert child is not None
    assert child.text == child.body == GOOD
    assert not child.verifiable
    assert (child.pool, child.family, child.seed_id, child.parent_id, child.step) == ("instructions", "travel", "seed-001", PARENT.id, 1)
    puzzle = compose(
        pool="reasoning", family="gcd", body="What is the gcd of 4 and 6?", payload={"generator": "gcd", "seed": 1, "index": 2}
    )
    child = carry_out(GOOD, parent=puzzle).instruction
    assert child is not None
    assert child.payload == {}


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("  Do it.\n", "Do it."),
        ("New request: Do it.", "Do it."),
        ("**New Request:** Do it.", "Do it."),
        ("### Instruction:\nDo it.", "Do it."),
        ("Rewritten instruction: Do it.", "Do it."),
        ('"Do it."', "Do it."),
        ('"""Do it."""', "Do it."),
        ('New request: "Do it with "a" and "b"."', 'Do it with "a" and "b".'),
        ('Do it.\n"""', "Do it."),
        ("“Do it.”", "Do it."),
        ("**Do it.**", "Do it."),
        ("```\nDo it.\n```", "Do it."),
        ("```text\nDo it.\n```", "Do it."),
        ("Sure! Here is the new request:\n\nDo it.", "Do it."),
        ("Certainly, here you go: Do it.", "Do it."),
        ('"Mistake" and "neighbour"', '"Mistake" and "neighbour"'),
        ("Describe an instruction: what is it?", "Describe an instruction: what is it?"),
        ("Here we go again. Explain: why?", "Here we go again. Explain: why?"),
        ('"', '"'),
        ("", ""),
        ("New request:", ""),
    ],
)
def test_parsing(reply: str, text: str) -> None:
    assert parse(reply) == text


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty reply"),
        ("   \n", "empty reply"),
        ('New request: ""', None),
        ("New request:", "empty reply"),
        ("Sorry, I cannot help with that.", "refusal"),
        ("Describe a bus. " * 9, "endless repetition"),
        ("You get something that a person asked for: describe a bus.", "prompt leak: something that a person asked for"),
        ("Describe a tram.<|im_end|>", "prompt leak: <|im_end|>"),
        ("Describe a tram.\nAssistant: It is red.", "prompt leak: assistant:"),
        ("Describe a tram.\nNew request: Describe a ship.", "prompt leak: new request:"),
        ("Explain how a zip fastener works.", "prompt leak: explain how a zip fastener works"),
        ("Describe a \ufffd tram.", "broken characters"),
        ("Describe a tram\ud800.", "broken characters"),
        ("x" * 2561, "longer than was asked for"),
        (GOOD, None),
    ],
)
def test_replies_that_are_no_instruction(reply: str, reason: str | None) -> None:
    assert carry_out(reply).reason == reason


def test_a_reply_cut_off_or_never_had() -> None:
    assert carry_out("Describe a tram and the", finished=False).reason == "cut off by the limit"
    assert carry_out("Describe a tram " * 30, finished=False).reason == "endless repetition"
    assert carry_out("", finished=False, tokens=0).reason == "no reply"
    assert carry_out("", finished=False, tokens=128).reason == "empty reply"


def test_a_childs_words_may_be_its_parents() -> None:
    parent = compose(pool="instructions", family="x", body="Explain how a zip fastener works.", seed_id="s")
    assert carry_out("Explain how a zip fastener works in the rain.", parent=parent).reason is None
    sorry = compose(pool="instructions", family="x", body="Write a sorry note.", seed_id="s")
    assert carry_out("Write a sorry note to a friend.", parent=sorry).reason is None


def test_what_the_executor_lets_through_elimination_judges_again() -> None:
    """Only punctuation, equal to the parent, and not verifiable where it must be are elimination's to find."""
    for reply, reason in (('""', "only punctuation or stop words"), (PARENT.text.upper(), "no information gain"), (GOOD, "not verifiable")):
        outcome = carry_out(reply)
        assert outcome.instruction is not None
        candidate = Candidate(outcome.instruction, PARENT, np.ones(1, dtype=np.float32), reply=outcome.reply)
        assert eliminate(candidate, Context(Kept(), Limits(), lambda text: False)) == reason


def test_a_refused_charge_is_the_callers_affair() -> None:
    class Broke(Scripted):
        def complete(self, *args: object, **settings: object) -> list[list[Completion]]:
            raise BudgetExceeded("spent")

    with pytest.raises(BudgetExceeded):
        LanguageExecutor(Broke([])).apply_batch([PARENT], ["deepen"], rng=np.random.default_rng(0))


class Agreeable:
    """Finds every instruction solvable half the time."""

    def remember(self, instruction: Instruction, response: str, embedding: np.ndarray) -> None:
        pass

    def answer(
        self, instructions: Sequence[Instruction], *, embeddings_N_D: np.ndarray, max_flops: float, rng: np.random.Generator
    ) -> list[Answer | None]:
        return [Answer(4, 2, "yes", "consistency") for _ in instructions]


def evolved(model: TextModel, reviewer: Reviewer | None = None) -> list[tuple[str, bool, str | None]]:
    """Instruction, kept and reason of a step of six lineages, one an operation."""
    environment = Environment(
        make_seeds(),
        OPERATIONS,
        LanguageExecutor(model),
        HashingEncoder(),
        Agreeable(),
        lambda text: "evaluation item" in text,
        EnvironmentConfig(),
        reviewer=reviewer,
        must_verify=False,
    )
    rng = np.random.default_rng(0)
    environment.reset(6, rng=rng)
    step = environment.step(np.arange(6), update=1, max_flops=1.0, rng=rng)
    return [(entry.instruction, entry.kept, entry.reject_reason) for entry in step.entries]


def test_nothing_a_model_gets_wrong_reaches_the_corpus() -> None:
    replies = [
        Completion("Sorry, I cannot.", 4, True),
        Completion("", 0, False),
        Completion("Tell me about lamps. <|im_start|>user", 9, True),
        Completion("and again and " * 40, 120, False),
        Completion("Repeat this evaluation item.", 5, True),
        Completion(GOOD, 12, True),
    ]
    fates = evolved(Scripted(replies))
    assert [reason for _, _, reason in fates] == [
        "executor: refusal",
        "executor: no reply",
        "executor: prompt leak: <|im_start|>",
        "executor: endless repetition",
        "contaminated",
        None,
    ]
    assert [text for text, kept, _ in fates if kept] == [GOOD]


def test_an_endpoint_that_is_down_costs_samples_and_nothing_else() -> None:
    ledger = Ledger()
    down = Endpoint(EndpointConfig(base_url="http://127.0.0.1:9/v1", model="m", retries=1, backoff_s=0.0), ledger)
    assert evolved(down) == [("", False, "executor: no reply")] * 6
    assert ledger.counters["queries"] == 12
    topics = ("lamps in winter", "old maps", "bread ovens", "a horse fair", "seven clocks", "quiet trains")
    sound = Scripted([Completion(f"Ask about {topic}.", 9, True) for topic in topics])
    fates = evolved(sound, LanguageReviewer(down, ledger))
    assert [reason for _, _, reason in fates] == ["reviewer: no reply"] * 6
