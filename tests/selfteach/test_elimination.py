import dataclasses
import time

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from harness.core.records import Constraint, Instruction
from harness.instructions.similarity import longest_common_subsequence, rouge_l
from harness.instructions.telltale import words
from selfteach.elimination import RULES, Candidate, Context, Kept, Limits, eliminate

VOCABULARY = ["river", "stone", "lamp", "apple", "seven", "quiet", "run", "green", "letter"]


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def instruction(text: str, **changes: object) -> Instruction:
    base = Instruction("i", "instructions", "letters", body=text, text=text, constraints=(Constraint("no_commas"),))
    return dataclasses.replace(base, **changes)


LIMITS = Limits(max_words=20)


def judge(
    text: str,
    *,
    parent: str = "Write about a lamp.",
    reply: str | None = None,
    kept: Kept | None = None,
    limits: Limits = LIMITS,
    ancestors: tuple[str, ...] = (),
    **changes: object,
) -> str | None:
    shown = text if reply is None else reply
    candidate = Candidate(instruction(text, **changes), instruction(parent), unit(1, 0), reply=shown, ancestors=ancestors)
    return eliminate(candidate, Context(kept or Kept(), limits, contaminated=lambda text: "leaked evaluation item" in text))


@pytest.mark.parametrize("seed", range(5))
def test_rouge_l_equals_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = (" ".join(rng.choice(VOCABULARY, size=rng.integers(1, 90))) for _ in range(2))
    expected = RougeScorer(["rougeL"]).score(one, two)["rougeL"].fmeasure
    assert rouge_l(words(one), words(two)) == pytest.approx(expected)
    assert rouge_l(words(two), words(one)) == pytest.approx(expected)


def test_bounds_never_hide_a_duplicate() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        texts = [" ".join(rng.choice(VOCABULARY, size=rng.integers(1, 12))) for _ in range(8)]
        kept = Kept()
        for text in texts[1:]:
            kept.add(text, unit(1, 0))
        others = [rouge_l(words(texts[0]), words(text)) for text in texts[2:]]
        largest = max(others)
        assert kept.overlap(words(texts[0]), at_least=0.7, without=frozenset({0})) == (largest if largest >= 0.7 else 0.0)


def test_cosines_are_those_of_everything_kept_however_much_there_is() -> None:
    rng = np.random.default_rng(0)
    vectors = [unit(*rng.normal(size=5)) for _ in range(150)]
    kept = Kept()
    assert kept.cosines(vectors[0]).shape == (0,)
    for index, vector in enumerate(vectors):
        kept.add(f"text {index}", vector)
    np.testing.assert_allclose(kept.cosines(vectors[3]), np.stack(vectors) @ vectors[3], rtol=1e-5)


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
        ("x" * 301, {}, "over length: 301 > 300 characters"),
        ("Describe a river.<|im_end|>", {}, "prompt leak: <|im_end|>"),
        ("Describe a river. [INST] now", {}, "prompt leak: [INST]"),
        ("User: Describe a river.", {}, "prompt leak: user:"),
        ("Describe a river.\n**Assistant**: It flows.", {}, "prompt leak: assistant:"),
        ("Here is the new instr\u200buction: describe a river.", {}, "prompt leak: new instruction"),
        ("Describe a river\x00.", {}, "broken characters"),
        ("Describe a river \ud83d.", {}, "broken characters"),
        ("Describe a \u202eriver.", {}, "broken characters"),
        ("Name three mosses that can live on a tree.", {}, "prompt leak: mosses that can live on a"),
        ("Write " + "a poem " * 8, {}, "endless repetition"),
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


def test_an_ancestor_is_no_duplicate_but_is_no_excuse_for_another() -> None:
    kept = Kept()
    seed = "Describe the quiet river in the green valley."
    kept.add(seed, unit(1, 0.01))
    longer = "Describe the quiet river in the green valley. Use seven words."
    assert judge(longer, kept=kept, ancestors=(seed,)) is None
    kept.add("Describe the quiet river in the green valley. Use eight words.", unit(0, 1))
    assert judge(longer, kept=kept, ancestors=(seed,)) == "near duplicate: ROUGE-L 0.91"


def test_what_no_rule_can_check_passes_where_it_may() -> None:
    assert judge("Describe a river.", constraints=(), limits=Limits(must_verify=False)) is None
    assert judge("Describe a river.", constraints=(), limits=Limits()) == "not verifiable"


def test_invisible_characters_hide_nothing() -> None:
    kept = Kept()
    kept.add("Describe a river.", unit(0, 1))
    assert judge("Write\u200b about a \ufefflamp.") == "no information gain"
    assert judge("Desc\u200dribe a ri\u00adver.", kept=kept) == "duplicate"


def test_other_scripts_and_their_direction_are_welcome() -> None:
    assert judge("תאר נהר בלילה.") is None
    assert judge("صف نهرًا في الليل دون فواصل.") is None
    assert judge("川について書いてください。") is None


@pytest.mark.parametrize(
    "text", ["a" * 10**6, "word " * 200_000, "sorry " * 166_000, "\u200b" * 10**6, "\ud800" * 10**6, "א " * 500_000, "<|" * 500_000]
)
def test_a_million_characters_are_rejected_in_no_time(text: str) -> None:
    started = time.process_time()
    reason = judge(text)
    assert reason is not None
    assert reason.startswith("over length")
    assert judge("Describe a river.", reply=text) is None
    assert judge("Describe a river.", parent=text) is None
    assert time.process_time() - started < 3


def test_first_rule_wins_and_all_are_named() -> None:
    assert judge("sorry", constraints=()) == "refusal"
    assert len({rule.__name__ for rule in RULES}) == 10
