import dataclasses

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from harness.core.records import Constraint, Instruction
from selfteach.elimination import RULES, Candidate, Context, Kept, Limits, eliminate, longest_common_subsequence, rouge_l, words

VOCABULARY = ["river", "stone", "lamp", "apple", "seven", "quiet", "run", "green", "letter"]


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def instruction(text: str, **changes: object) -> Instruction:
    base = Instruction("i", "instructions", "letters", body=text, text=text, constraints=(Constraint("no_commas"),))
    return dataclasses.replace(base, **changes)


def judge(
    text: str, *, parent: str = "Write about a lamp.", reply: str | None = None, kept: Kept | None = None, **changes: object
) -> str | None:
    candidate = Candidate(instruction(text, **changes), instruction(parent), unit(1, 0), reply=text if reply is None else reply)
    context = Context(kept or Kept(), Limits(max_words=20), contaminated=lambda text: "leaked evaluation item" in text)
    return eliminate(candidate, context)


@pytest.mark.parametrize("seed", range(5))
def test_rouge_l_equals_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = (" ".join(rng.choice(VOCABULARY, size=rng.integers(1, 90))) for _ in range(2))
    expected = RougeScorer(["rougeL"]).score(one, two)["rougeL"].fmeasure
    assert rouge_l(words(one), words(two)) == pytest.approx(expected)
    assert rouge_l(words(two), words(one)) == pytest.approx(expected)


def test_rouge_l_bound_never_hides_a_duplicate() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        one, two = (list(rng.choice(VOCABULARY, size=rng.integers(1, 12))) for _ in range(2))
        exact, bounded = rouge_l(one, two), rouge_l(one, two, at_least=0.7)
        assert bounded == (exact if exact >= 0.7 else bounded)
        assert bounded in (0.0, exact)
        assert (bounded > 0.7) == (exact > 0.7)


def test_subsequence_limits() -> None:
    assert longest_common_subsequence([], ["a"]) == 0
    assert longest_common_subsequence(["a"] * 200, ["a"] * 300) == 200
    assert rouge_l([], []) == 0.0


def test_a_sound_instruction_survives() -> None:
    assert judge("Describe a river at night without commas.") is None


@pytest.mark.parametrize(
    ("text", "changes", "reason"),
    [
        ("write   ABOUT a lamp.", {}, "no information gain"),
        ("Sorry, I cannot do that.", {}, "refusal"),
        ("What is it? -- !!", {}, "only punctuation or stop words"),
        ("", {}, "only punctuation or stop words"),
        ("Here is the #Rewritten Prompt: describe a river.", {}, "prompt leak: rewritten prompt"),
        ("word " * 21, {}, "over length: 21 > 20 words"),
        ("Describe a river.", {"constraints": ()}, "not verifiable"),
        ("This leaked evaluation item must not be learnt.", {}, "contaminated"),
    ],
)
def test_each_rule_names_its_reason(text: str, changes: dict, reason: str) -> None:
    assert judge(text, **changes) == reason


def test_sorry_is_no_refusal_in_long_replies_or_when_the_parent_says_it() -> None:
    assert judge("Describe a river.", reply="sorry " + "word " * 80) is None
    assert judge("Write a letter that says sorry to a friend.", parent="Write a sorry letter.") is None
    assert judge("Describe a river.", reply="sorry " + "word " * 78) == "refusal"


def test_duplicates_of_anything_kept() -> None:
    kept = Kept()
    kept.add("Describe the quiet river in the green valley.", unit(0, 1))
    assert judge("describe the quiet river in the green  valley.", kept=kept) == "duplicate"
    assert judge("Describe the quiet river in a green valley.", kept=kept) == "near duplicate: ROUGE-L 0.88"
    assert judge("Compose a poem on seven apples.", kept=kept) is None
    kept.add("Something else entirely", unit(1, 0.01))
    assert judge("Compose a poem on seven apples.", kept=kept) == "near duplicate: cosine 1.00"


def test_instances_of_one_generator_may_share_their_template() -> None:
    kept = Kept()
    kept.add("What is the sum of 3 + 4 ?", unit(1, 0))
    assert judge("What is the sum of 3 + 5 ?", kept=kept, payload={"generator": "sum", "index": 2}) is None
    assert judge("What is the sum of 3 + 4 ?", kept=kept, payload={"generator": "sum", "index": 1}) == "duplicate"
    assert judge("What is the sum of 3 - 4 ?", kept=kept, payload={"generator": "sum", "index": 3}) is None


def test_first_rule_wins_and_all_are_named() -> None:
    assert judge("sorry", constraints=()) == "refusal"
    assert len({rule.__name__ for rule in RULES}) == 8
