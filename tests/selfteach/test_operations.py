from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins import HashingEncoder

from harness.core.budget import Ledger
from harness.core.records import Constraint, Instruction
from harness.instructions import reasoning
from harness.instructions.constraints import EVAL_KINDS, conflict, satisfy
from harness.instructions.reasoning import EVAL_FAMILIES, FAMILIES
from harness.instructions.render import compose, render
from harness.instructions.verify import verify
from selfteach.environment import STOP, Environment, EnvironmentConfig
from selfteach.operations import MAX_CONSTRAINTS, OPERATIONS, RuleExecutor
from selfteach.roles import Answer
from tasks.pool import MixedPool, MixedPoolConfig, seed_instructions

POOL = MixedPool(MixedPoolConfig(), ledger=Ledger(), rng=np.random.default_rng(0), ngrams=frozenset())
SEEDS = [seed.instruction for seed in POOL.seeds()]
REFERENCES = {seed.id: seed.response for seed in seed_instructions("train")}
EXECUTOR = RuleExecutor(SEEDS)


def human_answer(instruction: Instruction) -> str | None:
    """The gold answer or the seed's reference, edited to meet the constraints."""
    answer = reasoning.gold(instruction) if "generator" in instruction.payload else REFERENCES[instruction.seed_id]
    return satisfy(answer, instruction.constraints)


def evolve(instruction: Instruction, operations: list[str], rng: np.random.Generator) -> list[Instruction]:
    lineage = [instruction]
    for operation in operations:
        child = EXECUTOR.apply(lineage[-1], operation, rng=rng).instruction
        lineage += [child] if child else []
    return lineage


def test_operations_are_those_of_the_original_in_its_order() -> None:
    assert OPERATIONS == ("breadth", "add_constraint", "deepen", "concretise", "increase_reasoning", "complicate_input")


@settings(max_examples=300, deadline=None)
@given(start=st.sampled_from(SEEDS), operations=st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=6), seed=st.integers(0, 10**6))
def test_every_child_is_sound(start: Instruction, operations: list[str], seed: int) -> None:
    for parent, child in pairwise(evolve(start, operations, np.random.default_rng(seed))):
        assert child.text == render(child.body, child.constraints)
        assert child.text != parent.text
        assert child.verifiable
        assert (child.parent_id, child.seed_id, child.step) == (parent.id, start.seed_id, parent.step + 1)
        assert child.id != parent.id
        assert not {"gold", "reference"} & set(child.payload)
        assert len(child.constraints) <= MAX_CONSTRAINTS
        assert not {item.kind for item in child.constraints} & set(EVAL_KINDS)
        assert child.family not in EVAL_FAMILIES
        pairs = [(one, other) for index, one in enumerate(child.constraints) for other in child.constraints[:index]]
        assert not any(conflict(one, other) for one, other in pairs)
        if "generator" in child.payload:
            assert reasoning.split_of(child.body) == "train"
            answer = human_answer(child)
            assert answer is not None
            assert verify(child, answer).passed


@settings(max_examples=100, deadline=None)
@given(start=st.sampled_from(SEEDS), operation=st.sampled_from(OPERATIONS), seed=st.integers(0, 10**6))
def test_equal_seeds_give_equal_children(start: Instruction, operation: str, seed: int) -> None:
    first, again = (EXECUTOR.apply(start, operation, rng=np.random.default_rng(seed)) for _ in range(2))
    assert first == again
    assert (first.instruction is None) == (first.reason is not None)


@dataclass
class Share:
    """Of an operation on one pool's instructions: children made, those that can be answered, and those the parent's answer satisfies."""

    tried: int = 0
    made: int = 0
    answered: int = 0
    parents_answered: int = 0
    stale: int = 0


@pytest.fixture(scope="module")
def shares() -> dict[tuple[str, str], Share]:
    """Chains of three different operations from every seed."""
    rng = np.random.default_rng(0)
    found: dict[tuple[str, str], Share] = {}
    for seed in SEEDS * 20:
        parent = seed
        for index in rng.permutation(len(OPERATIONS))[:3]:
            share = found.setdefault((OPERATIONS[index], seed.pool), Share())
            child = EXECUTOR.apply(parent, OPERATIONS[index], rng=rng).instruction
            share.tried += 1
            if child is None:
                continue
            old, new = human_answer(parent), human_answer(child)
            share.made += 1
            share.answered += new is not None and verify(child, new).passed
            share.parents_answered += old is not None
            share.stale += old is not None and verify(child, old).passed
            parent = child
    return found


@pytest.mark.parametrize(
    ("operation", "pool", "made", "answered", "stale"),
    [
        ("breadth", "instructions", 0.98, 0.85, 0.35),
        ("breadth", "reasoning", 0.98, 1.0, 0.05),
        ("add_constraint", "instructions", 0.9, 0.85, 0.2),
        ("add_constraint", "reasoning", 0.7, 1.0, 0.15),
        ("deepen", "instructions", 0.85, 0.9, 0.3),
        ("deepen", "reasoning", 0.5, 1.0, 0.0),
        ("concretise", "instructions", 0.9, 0.9, 0.0),
        ("concretise", "reasoning", 0.5, 1.0, 0.0),
        ("increase_reasoning", "instructions", 0.75, 0.85, 0.0),
        ("increase_reasoning", "reasoning", 0.5, 1.0, 0.4),
        ("complicate_input", "instructions", 0.9, 0.9, 0.0),
        ("complicate_input", "reasoning", 0.9, 1.0, 0.4),
    ],
)
def test_children_can_be_answered_and_mostly_not_by_what_answered_their_parent(
    shares: dict[tuple[str, str], Share], operation: str, pool: str, made: float, answered: float, stale: float
) -> None:
    """Floors for children made and answered, a ceiling for stale answers: puzzles of few possible answers and requests that only change
    their words share some."""
    share = shares[operation, pool]
    assert share.tried > 60
    assert share.made / share.tried >= made, share
    assert share.answered / share.made >= answered, share
    assert share.stale / share.parents_answered <= stale, share


def question(family: str, *constraints: Constraint) -> Instruction:
    item = reasoning.draw(family, {}, "train", rng=np.random.default_rng(0))
    assert item is not None
    return compose(pool=item.pool, family=family, body=item.body, constraints=constraints, payload=item.payload)


def request(body: str, family: str, *constraints: Constraint) -> Instruction:
    return compose(pool="instructions", family=family, body=body, constraints=constraints, seed_id="seed-001")


def apply(instruction: Instruction, operation: str, seed: int = 0) -> Instruction:
    child = EXECUTOR.apply(instruction, operation, rng=np.random.default_rng(seed)).instruction
    assert child is not None
    return child


def test_questions_grow_deeper_and_larger_by_their_generators_knobs() -> None:
    sums = question("chain_sum")
    assert apply(sums, "increase_reasoning").payload["config"]["max_terms"] == 3
    assert apply(sums, "complicate_input").payload["config"]["max_digits"] == 2
    top = sums
    for _ in range(len(FAMILIES["chain_sum"].depth) - 1):
        top = apply(top, "increase_reasoning")
    assert EXECUTOR.apply(top, "increase_reasoning", rng=np.random.default_rng(0)).reason == "chain_sum has no greater depth"


def test_breadth_leaves_the_family_and_keeps_to_the_pools_families() -> None:
    families = {apply(question("gcd"), "breadth", seed).family for seed in range(60)}
    assert families == {seed.family for seed in SEEDS if seed.pool == "reasoning"} - {"gcd"}
    narrow = RuleExecutor([question("gcd"), question("products")])
    outcomes = [narrow.apply(question("gcd"), "breadth", rng=np.random.default_rng(seed)).instruction for seed in range(20)]
    assert {outcome.family for outcome in outcomes if outcome} == {"products"}


def test_breadth_drops_what_spoke_of_the_old_family() -> None:
    lead = Constraint("start_phrase", {"phrase": FAMILIES["syllogism"].lead})
    for seed in range(20):
        child = apply(question("syllogism", lead), "breadth", seed)
        assert child.constraints == ()
    shouted = question("syllogism", Constraint("all_uppercase"))
    for seed in range(20):
        child = apply(shouted, "breadth", seed)
        assert bool(child.constraints) == FAMILIES[child.family].textual


def test_an_exact_answer_is_wrapped_and_still_checked() -> None:
    numbers = question("gcd")
    gold = reasoning.gold(numbers)
    concrete, deep = apply(numbers, "concretise"), apply(numbers, "deepen")
    assert verify(concrete, f"The greatest common divisor is {gold}.").passed
    assert not verify(concrete, gold).passed
    assert not verify(concrete, "The greatest common divisor is 997").passed
    key = deep.constraints[0].params["key"]
    assert verify(deep, f'{{"{key}": {gold}}}').passed
    assert not verify(deep, f'{{"{key}": 997}}').passed
    kinds = {apply(numbers, "add_constraint", seed).constraints[0].kind for seed in range(40)}
    assert kinds == {"quoted", "start_phrase", "end_phrase"}
    letters = {apply(question("syllogism"), "add_constraint", seed).constraints[0].kind for seed in range(60)}
    assert letters == kinds | {"all_lowercase", "all_uppercase"}


def test_deepening_a_request_tightens_a_limit_or_asks_for_the_reason() -> None:
    tight = apply(request("Describe a bus.", "travel", Constraint("max_words", {"n": 40})), "deepen")
    assert tight.constraints == (Constraint("max_words", {"n": 30}),)
    reason = apply(request("Describe a bus.", "travel", Constraint("no_commas")), "deepen")
    assert reason.constraints[1].kind == "give_reason"


def test_more_reasoning_means_more_labelled_steps() -> None:
    first = apply(request("Describe a bus.", "travel", Constraint("no_commas")), "increase_reasoning")
    second = apply(first, "increase_reasoning")
    assert first.constraints[-1] == Constraint("step_labels", {"n": 2})
    assert second.constraints[-1] == Constraint("step_labels", {"n": 3})


def test_concretising_narrows_a_noun_with_its_article_or_names_an_example() -> None:
    seen = {apply(request("Draw a plan for a castle.", "history", Constraint("no_commas")), "concretise", seed).body for seed in range(20)}
    assert seen == {"Draw a plan for a hill castle.", "Draw a plan for a water castle."}
    assert "an express train" in {apply(request("Take a train.", "travel"), "concretise", seed).body[5:21] for seed in range(20)}
    example = apply(request("Say something nice.", "cooking", Constraint("no_commas")), "concretise")
    phrase = example.constraints[-1].params["phrase"]
    assert example.constraints[-1].kind == "mention"
    assert phrase in example.body


def test_added_material_must_be_read_to_answer() -> None:
    forms = set()
    for seed in range(30):
        child = apply(request("Give advice on travel.", "travel", Constraint("no_commas")), "complicate_input", seed)
        params = child.constraints[-1].params
        winner = (max if params["extreme"] == "largest" else min)(zip(params["values"], params["items"], strict=True))[1]
        assert all(
            f"{item}" in child.body and str(value) in child.body for item, value in zip(params["items"], params["values"], strict=True)
        )
        assert verify(child, f"Go to {winner}.").passed
        assert not verify(child, f"Go to {' or '.join(params['items'])}.").passed
        forms.add(next(form for form in ("table", "JSON", "CSV") if form in child.body))
    assert forms == {"table", "JSON", "CSV"}
    again = EXECUTOR.apply(child, "complicate_input", rng=np.random.default_rng(0))
    assert again.reason == "already has data"


def test_a_full_stack_takes_no_further_constraint() -> None:
    full = [
        Constraint("no_commas"),
        Constraint("forbid_word", {"word": "very"}),
        Constraint("highlight", {"n": 4}),
        Constraint("give_reason"),
    ]
    item = request("Describe a bus.", "travel", *full, Constraint("mention", {"phrase": "bus"}))
    assert EXECUTOR.apply(item, "add_constraint", rng=np.random.default_rng(0)).reason == f"already {MAX_CONSTRAINTS} constraints"
    assert EXECUTOR.apply(item, "complicate_input", rng=np.random.default_rng(0)).reason == f"already {MAX_CONSTRAINTS} constraints"


def test_an_executor_without_seeds_serves_any_instruction() -> None:
    bare = RuleExecutor()
    for seed in range(20):
        assert bare.apply(question("gcd"), "breadth", rng=np.random.default_rng(seed)).instruction is not None
        assert bare.apply(SEEDS[0], "breadth", rng=np.random.default_rng(seed)).instruction is not None


def test_unknown_operations_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        EXECUTOR.apply(SEEDS[0], "stop", rng=np.random.default_rng(0))


class Solver:
    """Answers every instruction as a person would who knows the gold answer; verified by the instruction's own rules."""

    def remember(self, instruction: Instruction, response: str, embedding: np.ndarray) -> None:
        pass

    def answer(
        self, instructions: Sequence[Instruction], *, embeddings_N_D: np.ndarray, max_flops: float, rng: np.random.Generator
    ) -> list[Answer | None]:
        answers = [human_answer(instruction) if "generator" in instruction.payload else None for instruction in instructions]
        passed = [answer is not None and verify(item, answer).passed for item, answer in zip(instructions, answers, strict=True)]
        return [Answer(2, int(ok), answer if ok else None) for ok, answer in zip(passed, answers, strict=True)]


def test_all_seven_actions_through_the_environment() -> None:
    """Six are carried out and logged; "stop" carries out nothing and starts a fresh seed."""
    puzzles = [seed for seed in POOL.seeds() if seed.instruction.pool == "reasoning"]
    executor = RuleExecutor([seed.instruction for seed in puzzles])
    environment = Environment(puzzles, OPERATIONS, executor, HashingEncoder(), Solver(), lambda text: False, EnvironmentConfig(cosine=1.0))
    assert environment.actions == (*OPERATIONS, STOP)
    rng = np.random.default_rng(0)
    environment.reset(7, rng=rng)
    before = [lineage.current for lineage in environment.lineages]
    step = environment.step(np.arange(7), update=1, max_flops=1.0, rng=rng)
    assert [entry.operation for entry in step.entries] == list(OPERATIONS)
    assert step.rewards_B[6] == 0
    after = environment.lineages
    assert after[6].current != before[6]
    assert after[6].current in [seed.instruction for seed in puzzles]
    for entry, lineage, parent in zip(step.entries, after, before, strict=False):
        assert entry.parent_id == parent.id
        if entry.kept:
            assert lineage.current.text == entry.instruction
            assert lineage.current.verifiable
        else:
            assert lineage.current == parent
    assert sum(entry.kept for entry in step.entries) >= 4
