"""The perturbations by name, and the functions that apply one to a text, a document or its options."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.scoring.perturbations import layout, spelling, wording
from harness.scoring.perturbations.protect import TextChange, protected_mask
from harness.seeds import generator

VERSION = 2
"""Part of a score stage's id where there are perturbations: what they do to an item at given strength and seed, and which are rejected."""


@dataclass(frozen=True)
class Perturbation:
    """A named change that leaves the right answer as it is.

    Attributes:
        apply: the change of a text; None where it is not a text that changes (options, few-shot examples).
        strength: the share of eligible places (words, marks, ...) that is touched unless a study says otherwise; at least one is.
        adjustable: whether another strength can be asked for.
        scope: "text": the fields that a task names, else the prompt; "prompt": always the rendered prompt, examples included;
            "options": the order of a document's choices; "examples": the order of the few-shot examples.
        preserves: whether the second text is the first but for what may change, where that can be told exactly.
        min_similarity: the least embedding similarity of the two texts, where it cannot; see docs/robustness.md for how it was chosen.
    """

    name: str
    summary: str
    apply: TextChange | None
    strength: float = 1.0
    adjustable: bool = True
    scope: Literal["text", "prompt", "options", "examples"] = "text"
    preserves: Callable[[str, str], bool] | None = None
    min_similarity: float = 0.0


def _equal_under(view: Callable[[str], str]) -> Callable[[str, str], bool]:
    return lambda clean, changed: view(clean) == view(changed)


def _single_spaced(text: str) -> str:
    return " ".join(text.split())


def _letters(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum())


def _words_stand_in(clean: str, changed: str) -> bool:
    """Whether the clean text's words are in the changed one, in order and with nothing between them but in one place."""
    before, after = clean.split(), changed.split()
    head = next((at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), len(before))
    return before[head:] == after[len(after) - (len(before) - head) :] if head < len(before) else True


PERTURBATIONS: dict[str, Perturbation] = {
    each.name: each
    for each in (
        Perturbation("typos", "keyboard slips in a fifth of the unprotected words", spelling.typos, strength=0.2, min_similarity=0.3),
        Perturbation(
            "distractor", "an irrelevant sentence before the question", layout.distractor, adjustable=False, preserves=_words_stand_in
        ),
        Perturbation("case", "half of the unprotected words in capitals", spelling.upper_case, 0.5, preserves=_equal_under(str.lower)),
        Perturbation("lowercase", "capitalised words in small letters", spelling.lower_case, preserves=_equal_under(str.lower)),
        Perturbation(
            "whitespace", "a fifth of the spaces doubled or tripled", layout.whitespace, 0.2, preserves=_equal_under(_single_spaced)
        ),
        Perturbation(
            "punctuation", "half of the marks doubled or set apart by a space", layout.punctuation, 0.5,
            preserves=_equal_under(_letters),
        ),
        Perturbation(
            "contractions", "do not / don't, it is / it's, both ways", wording.contractions, preserves=_equal_under(wording.expanded)
        ),
        Perturbation("spelling", "British spellings made American, American ones British", wording.spelling,
                     preserves=_equal_under(wording.american)),
        Perturbation("homoglyphs", "in a fifth of the words one letter's Cyrillic look-alike", spelling.homoglyphs, 0.2,
                     preserves=_equal_under(spelling.latin)),
        Perturbation("synonyms", "half of the words that our table knows replaced by synonyms", wording.synonyms, 0.5, min_similarity=0.8),
        Perturbation("dialect", "grammar of African American, Indian or colloquial English, by rule", wording.dialect, min_similarity=0.8),
        Perturbation(
            "paraphrase", "the template's labels and option marks reworded, or a sentence of lead", layout.paraphrase, adjustable=False,
            scope="prompt", preserves=_equal_under(layout.template_free),
        ),
        Perturbation("option_order", "the choices of the prompt in another order", None, adjustable=False, scope="options"),
        Perturbation("fewshot_order", "the few-shot examples in another order", None, adjustable=False, scope="examples"),
    )
}  # fmt: skip


def perturb(
    text: str, name: str, *, sample_id: str, protected: Collection[str] = (), field: str = "", strength: float | None = None, seed: int = 0
) -> str:
    """`text` under the perturbation `name`; equal arguments give equal text.

    Args:
        sample_id: names the random stream, with `name`, `field` and `seed`.
        protected: words or phrases that must stay.
        field: which part of an item `text` is, where more than one is perturbed.
        strength: see `Perturbation`; None is its own.
    """
    perturbation = PERTURBATIONS[name]
    assert perturbation.apply is not None, name
    rng = stream(name, sample_id, field, seed=seed)
    chosen = perturbation.strength if strength is None else strength
    return perturbation.apply(text, protected_mask(text, protected), chosen, rng)


def stream(name: str, sample_id: str, field: str = "", *, seed: int) -> np.random.Generator:
    """The random choices of one perturbation on one part of one item."""
    return generator("perturbation", name, *([seed] if seed else []), sample_id, field)


def perturb_doc(
    doc: Mapping[str, Any],
    name: str,
    *,
    sample_id: str,
    fields: Collection[str],
    protected: Collection[str] = (),
    strength: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """A copy of a task's document with text `fields` perturbed; a distractor goes into the last of them, before the question."""
    chosen = list(fields)[-1:] if name == "distractor" else list(fields)
    changed = {
        field: perturb(str(doc[field]), name, sample_id=sample_id, protected=protected, field=field, strength=strength, seed=seed)
        for field in chosen
    }
    return {**doc, **changed}
