from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.budget import Ledger
from harness.core.records import Constraint, Instruction
from harness.instructions import reasoning
from harness.instructions.constraints import EVAL_KINDS, conflict, satisfy
from harness.instructions.reasoning import EVAL_FAMILIES, FAMILIES
from harness.instructions.render import compose, render
from harness.instructions.verify import verify
from selfteach.operations import MAX_CONSTRAINTS, OPERATIONS, RuleExecutor
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


def test_children_of_requests_can_nearly_always_be_answered_and_old_answers_rarely_do() -> None:
    rng = np.random.default_rng(0)
    made = answered = stale = 0
    for _ in range(20):
        for seed in SEEDS:
            operations = [OPERATIONS[index] for index in rng.integers(len(OPERATIONS), size=3)]
            for parent, child in pairwise(evolve(seed, operations, rng)):
                made += 1
                old, new = human_answer(parent), human_answer(child)
                answered += new is not None and verify(child, new).passed
                stale += old is not None and verify(child, old).passed
    assert made > 1000
    assert answered / made > 0.9
    assert stale / made < 0.2


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
