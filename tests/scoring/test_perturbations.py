"""Perturbations change something, never what the answer hangs on, and always the same way."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scoring.perturbations import PERTURBATIONS, perturb, perturb_doc, protected_mask

PROMPT = (
    "Question: Somebody counted 17 marbles and wrote \"seventeen marbles\" on `paper`. Never trust x_1 = 4.\n"
    "A. marbles everywhere\n"
    "- another listed line\n"
    "Which container should somebody choose afterwards?\n"
    "Answer:"
)  # fmt: skip
PROTECTED_PARTS = ["17", '"seventeen marbles"', "`paper`", "Never", "x_1 = 4", "\nA. marbles everywhere\n", "- another listed line\n"]


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("item", range(30))
def test_protected_parts_survive(name: str, item: int) -> None:
    changed = perturb(PROMPT, name, sample_id=str(item))
    assert changed != PROMPT
    assert [part for part in PROTECTED_PARTS if part not in changed] == []
    assert changed.startswith("Question:")
    assert changed.endswith("\nAnswer:")


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_fixed_by_the_sample_id_alone(name: str) -> None:
    versions = {perturb(PROMPT, name, sample_id=str(item)) for item in range(20)}
    assert len(versions) > 1
    assert perturb(PROMPT, name, sample_id="3") == perturb(PROMPT, name, sample_id="3")


def test_named_words_are_protected_whatever_their_case() -> None:
    for item in range(40):
        changed = perturb("Container, container or containers: somebody chooses.", "typos", sample_id=str(item), protected=["container"])
        assert changed.startswith("Container, container or containers: ")


def test_typos_touch_about_a_fifth_of_the_words_and_keep_first_letters() -> None:
    words = ["elephant", "gardening", "mountains", "sandwiches", "telephone"] * 8
    changed = perturb(" ".join(words), "typos", sample_id="a").split(" ")
    assert sum(old != new for old, new in zip(words, changed, strict=True)) == 8
    assert [word[0] for word in changed] == [word[0] for word in words]
    assert all(abs(len(old) - len(new)) <= 1 for old, new in zip(words, changed, strict=True))


def test_case_changes_nothing_but_case() -> None:
    changed = perturb(PROMPT, "case", sample_id="a")
    assert changed.lower() == PROMPT.lower()


def test_a_distractor_adds_one_sentence_and_changes_nothing_else() -> None:
    changed = perturb("Where is the harbour?", "distractor", sample_id="a")
    assert changed.endswith(" Where is the harbour?")
    assert len(re.findall(r"[.?]", changed)) == 2


@given(st.text(max_size=200), st.sampled_from(sorted(PERTURBATIONS)))
def test_any_text_is_accepted(text: str, name: str) -> None:
    mask = protected_mask(text)
    assert len(mask) == len(text)
    changed = perturb(text, name, sample_id="a")
    digits = [token for token in re.findall(r"\S*\d\S*", text) if "\n" not in token]
    assert all(token in changed for token in digits)


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
