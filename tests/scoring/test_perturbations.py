"""Perturbations change something, never what the answer hangs on, and always the same way."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scoring.perturbations import PERTURBATIONS, perturb, perturb_doc, protected_mask
from harness.scoring.perturbations.lexicon import SPELLINGS, SYNONYMS
from harness.scoring.perturbations.protect import LOGIC

PROMPT = (
    "Question: Somebody counted 17 large marbles and wrote \"seventeen marbles\" on `paper`, as it is colourful. Never trust x_1 = 4.\n"
    "A. marbles everywhere\n"
    "- another listed line\n"
    "She wants to know, what are they doing afterwards?\n"
    "Answer:"
)  # fmt: skip
PROTECTED_PARTS = ["17", '"seventeen marbles"', "`paper`", "Never", "x_1 = 4", "\nA. marbles everywhere\n", "- another listed line\n"]
TEXTUAL = [name for name, kind in PERTURBATIONS.items() if kind.apply]
OF_TEXT = [name for name in TEXTUAL if PERTURBATIONS[name].scope == "text"]
ADJUSTABLE = [name for name in TEXTUAL if PERTURBATIONS[name].adjustable]


def test_there_are_a_dozen_and_each_says_what_it_does() -> None:
    assert len(PERTURBATIONS) >= 12
    assert all(name == kind.name and kind.summary for name, kind in PERTURBATIONS.items())
    # What changes words must have a guard: an exact rule, or a threshold of similarity.
    assert [name for name in TEXTUAL if not (PERTURBATIONS[name].preserves or PERTURBATIONS[name].min_similarity)] == []


@pytest.mark.parametrize("name", OF_TEXT)
def test_protected_parts_survive(name: str) -> None:
    for item in range(30):
        changed = perturb(PROMPT, name, sample_id=str(item))
        assert changed != PROMPT
        assert [part for part in PROTECTED_PARTS if part not in changed] == []
        assert changed.startswith("Question:")
        assert changed.endswith("\nAnswer:")


@pytest.mark.parametrize("name", TEXTUAL)
def test_fixed_by_sample_id_strength_and_seed(name: str) -> None:
    text = PROMPT.replace("17", "18")
    assert perturb(text, name, sample_id="3") == perturb(text, name, sample_id="3")
    by_seed = {perturb(text, name, sample_id="3", seed=seed) for seed in range(12)}
    by_item = {perturb(text, name, sample_id=str(item)) for item in range(12)}
    if name in ("spelling", "lowercase", "contractions"):  # at full strength there is one way to do it
        assert len(by_seed) == len(by_item) == 1
    else:
        assert len(by_seed) > 1 < len(by_item)
    assert perturb(text, name, sample_id="3", seed=0) == perturb(text, name, sample_id="3")


def test_the_first_three_still_give_the_text_that_finished_results_were_scored_on() -> None:
    """Hashes of what typos, distractor and case gave before there were others."""
    texts = [
        'Question: Somebody counted 17 marbles and wrote "seventeen marbles" on `paper`. Never trust x_1 = 4.\nA. marbles everywhere\n'
        "- another listed line\nWhich container should somebody choose afterwards?\nAnswer:",
        "The committee gathered outside the old theatre, although nobody had announced why everybody should wait there until evening.",
        "short",
        "",
        "Write two sentences about mountain rivers. Do not use commas.",
    ]
    for name, expected in {"typos": "4414e6d7c102efbd", "distractor": "7e07769f203b28aa", "case": "61823c99164515cb"}.items():
        digest = hashlib.sha256()
        for item in range(50):
            for text in texts:
                changed = perturb(text, name, sample_id=f"s{item}", protected=["theatre"], field="question" if item % 2 else "")
                digest.update(changed.encode() + b"\0")
        assert digest.hexdigest()[:16] == expected, name


@pytest.mark.parametrize("name", ADJUSTABLE)
def test_more_strength_touches_more(name: str) -> None:
    words = "Because it is large she wants to buy the colourful sofa, and they do not know what he is doing. "
    text = "However, " + words * 8

    def distance(strength: float) -> int:
        changed = perturb(text, name, sample_id="a", strength=strength)
        kept = changed.split(" ")
        return sum(word not in kept for word in text.split(" ")) + abs(len(changed) - len(text)) + (changed != text)

    low, high = distance(0.02), distance(1.0)
    assert 0 < low < high


def test_named_words_are_protected_whatever_their_case() -> None:
    for item in range(40):
        changed = perturb("Container, container or containers: somebody chooses.", "typos", sample_id=str(item), protected=["container"])
        assert changed.startswith("Container, container or containers: ")


@given(
    st.sampled_from(OF_TEXT), st.lists(st.sampled_from([*SYNONYMS, *SPELLINGS, "he is", "don't", "17"]), min_size=3, max_size=25), st.data()
)
def test_protected_words_survive_every_perturbation(name: str, words: list[str], data: st.DataObject) -> None:
    """The choices of an item, whatever words they are, stand in the perturbed text as often and in the order in which they did."""
    protected = data.draw(st.sets(st.sampled_from(words), min_size=1))
    text = " ".join(words)
    changed = perturb(
        text, name, sample_id=data.draw(st.text(max_size=4)), protected=protected, strength=data.draw(st.sampled_from([None, 1.0]))
    )
    pattern = re.compile("|".join(rf"(?<![A-Za-z']){re.escape(word)}(?![A-Za-z'])" for word in sorted(protected, key=len, reverse=True)))
    found = iter(pattern.findall(changed))
    # What is brought in (a synonym that is a choice) is rejected where whole items are perturbed.
    assert all(word in found for word in pattern.findall(text))


@given(st.text(max_size=200), st.sampled_from(OF_TEXT))
def test_any_text_is_accepted_and_numbers_stay(text: str, name: str) -> None:
    assert len(protected_mask(text)) == len(text)
    changed = perturb(text, name, sample_id="a")
    digits = [token for token in re.findall(r"\S*\d\S*", text) if "\n" not in token]
    assert all(token in changed for token in digits)


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=200), st.sampled_from([n for n in TEXTUAL if PERTURBATIONS[n].preserves]))
def test_exact_rules_accept_what_the_perturbation_does(text: str, name: str) -> None:
    preserves = PERTURBATIONS[name].preserves
    assert preserves is not None
    assert preserves(text, perturb(text, name, sample_id="a"))


@pytest.mark.parametrize(
    ("name", "clean", "changed"),
    [
        ("case", "a cat", "a dog"),
        ("lowercase", "A cat", "a dog"),
        ("whitespace", "two words", "two other words"),
        ("punctuation", "go, now", "go, not now"),
        ("contractions", "he is in", "he isn't in"),
        ("spelling", "the colour", "the shade"),
        ("homoglyphs", "a cat", "a cut"),
        ("distractor", "where is it?", "Rain. where was it?"),
        ("paraphrase", "Question: who?", "Question: when?"),
    ],
)
def test_exact_rules_refuse_another_text(name: str, clean: str, changed: str) -> None:
    preserves = PERTURBATIONS[name].preserves
    assert preserves is not None
    assert not preserves(clean, changed)


def test_typos_touch_about_a_fifth_of_the_words_and_keep_first_letters() -> None:
    words = ["elephant", "gardening", "mountains", "sandwiches", "telephone"] * 8
    changed = perturb(" ".join(words), "typos", sample_id="a").split(" ")
    assert sum(old != new for old, new in zip(words, changed, strict=True)) == 8
    assert [word[0] for word in changed] == [word[0] for word in words]
    assert all(abs(len(old) - len(new)) <= 1 for old, new in zip(words, changed, strict=True))


def test_a_distractor_adds_one_sentence_and_changes_nothing_else() -> None:
    changed = perturb("Where is the harbour?", "distractor", sample_id="a")
    assert changed.endswith(" Where is the harbour?")
    assert len(re.findall(r"[.?]", changed)) == 2


@pytest.mark.parametrize(
    ("name", "clean", "changed"),
    [
        ("contractions", "It is late and he does not know. It is.", "It's late and he doesn't know. It is."),
        ("contractions", "They have a child and they've eaten.", "They have a child and they have eaten."),
        ("contractions", "Why don't you go? I can't.", "Why don't you go? I cannot."),
        ("spelling", "The colour of the gray theater.", "The color of the grey theatre."),
        ("synonyms", "Begin with a large egg and an enormous one.", "Start with a big egg and an enormous one."),
        ("lowercase", "Every Bear sleeps in Winter, says NASA.", "Every bear sleeps in winter, says NASA."),
    ],
)
def test_wording(name: str, clean: str, changed: str) -> None:
    assert perturb(clean, name, sample_id="a", strength=1.0) == changed


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("What are they doing in the morning?", {"What they are doing in the morning?", "What are they doin' in the morning?"}),
        ("He is reading something.", {"He reading something.", "He is readin' something."}),
        ("She wants a king.", {"She want a king.", "She is wanting a king."}),
        ("They are kings. It is spring. He is nothing.", {"They are kings. It is spring. He is nothing."}),
        ("Isn't he here? Nobody is not late.", {"Isn't he here? Nobody ain't late.", "Isn't he here? Nobody is not late."}),
        (
            "We are going to eat. We are going to the sea.",
            {"We are gonna eat. We are goin' to the sea.", "We going to eat. We going to the sea."},
        ),
    ],
)
def test_dialects(text: str, possible: set[str]) -> None:
    assert {perturb(text, "dialect", sample_id=str(item)) for item in range(20)} <= possible


def test_templates_are_reworded_and_what_they_hold_is_not() -> None:
    text = "Passage: It rains.\nQuestion: Who is wet?\nA. the cat\nB. the dog\nAnswer:"
    for item in range(20):
        lines = perturb(text, "paraphrase", sample_id=str(item)).split("\n")
        assert [re.sub(r"^\w+:", "", line) for line in lines] == [" It rains.", " Who is wet?", "A) the cat", "B) the dog", ""]
        labels = [line.partition(":")[0] for line in lines if ":" in line]
        assert len(set(labels)) == 3
    assert perturb("A: cat\nB: dog", "paraphrase", sample_id="a").endswith("A: cat\nB: dog"), "options that look like labels stay"


def test_the_tables_hold_no_word_that_questions_hang_on() -> None:
    assert not set(SYNONYMS) & LOGIC
    assert all(word not in ways and ways for word, ways in SYNONYMS.items())
    assert len(SYNONYMS) >= 200
    assert all(SPELLINGS[word] != word for word in SPELLINGS)
    # A round trip through British and American ends where it began.
    assert all(SPELLINGS[other] == word for word, other in SPELLINGS.items() if other in SPELLINGS)


def test_fields_are_perturbed_and_the_rest_kept() -> None:
    doc = {
        "passage": "Everybody gathered outside the theatre.",
        "question": "Where was everybody standing?",
        "choices": ["outside", "inside"],
    }
    typed = perturb_doc(doc, "typos", sample_id="a", fields=["passage", "question"], protected=doc["choices"])
    assert typed["choices"] == doc["choices"]
    assert typed["passage"] != doc["passage"]
    assert typed["question"] != doc["question"]
    assert "outside" in typed["passage"]
    distracted = perturb_doc(doc, "distractor", sample_id="a", fields=["passage", "question"])
    assert distracted["passage"] == doc["passage"]
    assert distracted["question"].endswith(doc["question"])
