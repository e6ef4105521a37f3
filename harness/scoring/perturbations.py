"""Changes to a prompt that leave its answer as it is: keyboard typos, a distractor sentence, letter case.

Any lm-eval task can be perturbed. What an answer hangs on is protected: quoted text, code, tokens with digits or symbols, list and
choice lines, labels ("Question:"), the answer cue, logical words, and whatever a task lists. A perturbed item depends on its sample id
only, so that it is the same for every method and seed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.seeds import generator

_NEIGHBOURS = {
    letter: [near for near in row[max(0, index - 1) : index + 2] if near != letter]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for index, letter in enumerate(row)
}
_LOGIC = frozenset(
    re.findall(
        r"\w+",
        "about above after all always and any before below between both cannot each either else equal every exactly except false fewer "
        "first following from greater incorrect last least less more most must neither never none not odd even once only over same some "
        "than that true twice under unless until wrong without yes",
    )
)
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_PROTECTED = [
    re.compile(pattern, re.MULTILINE | re.DOTALL)
    for pattern in (
        r"```.*?(?:```|\Z)",
        r"`[^`\n]*`",
        r"\"[^\"\n]*\"",
        r"“[^”\n]*”",
        r"‘[^’\n]*’",
        r"(?<![A-Za-z])'[^'\n]*'(?![A-Za-z])",
        r"^[ \t]*(?:[-*•>|]|\(?[A-Za-z0-9]{1,2}[.):])[ \t].*?$",
        r"[A-Za-z]+:",
        r"\S*[0-9_/\\=<>{}\[\]|@#$%^&*~+]\S*",
    )
]
_CUE = re.compile(r"(?:\A|\n)[^\n]{0,40}:\s*\Z")
DISTRACTORS = (
    "The bakery on the corner opens early in summer.",
    "A grey cat was asleep on the window sill.",
    "The old lighthouse had been painted that spring.",
    "Rain was expected over the hills in the evening.",
    "The museum shop sells postcards of the harbour.",
    "Somebody had left a green umbrella on the bus.",
    "The choir rehearses in the hall behind the station.",
    "Fresh tulips stood in a vase near the door.",
)


@dataclass(frozen=True)
class Perturbation:
    """A named change. `strength` is the share of eligible words it touches."""

    name: str
    summary: str
    apply: Callable[[str, list[bool], float, np.random.Generator], str]
    strength: float = 1.0


def protected_mask(text: str, protected: Collection[str] = ()) -> list[bool]:
    """For each character, whether it must stay as it is.

    Args:
        protected: further words or phrases (whole, any case, also in the plural) that must stay wherever they occur.
    """
    mask = [False] * len(text)
    own = [re.compile(rf"(?<![A-Za-z]){re.escape(phrase)}s?(?![A-Za-z])", re.IGNORECASE) for phrase in protected if phrase]
    for pattern in (*_PROTECTED, _CUE, *own):
        for match in pattern.finditer(text):
            mask[match.start() : match.end()] = [True] * (match.end() - match.start())
    return mask


def _eligible_words(text: str, mask: list[bool]) -> list[re.Match[str]]:
    return [
        word
        for word in _WORD.finditer(text)
        if len(word[0]) >= 4 and word[0].lower() not in _LOGIC and not word[0].isupper() and not any(mask[word.start() : word.end()])
    ]


def _rewrite(text: str, mask: list[bool], strength: float, rng: np.random.Generator, change: Callable[[str], str]) -> str:
    """Applies `change` to a random share of the eligible words, at least one if there is any."""
    words = _eligible_words(text, mask)
    count = min(len(words), max(1, round(strength * len(words))))
    for index in sorted(rng.choice(len(words), size=count, replace=False), reverse=True) if words else ():
        word = words[index]
        text = text[: word.start()] + change(word[0]) + text[word.end() :]
    return text


def _typo(word: str, rng: np.random.Generator) -> str:
    """One slip inside a word (never its first letter): neighbouring key, swap, omission or doubling; always another word."""
    while True:
        at = int(rng.integers(1, len(word)))
        letter = word[at]
        match int(rng.integers(4)):
            case 0:
                near = _NEIGHBOURS.get(letter.lower(), [])
                changed = word[:at] + str(rng.choice(near)) + word[at + 1 :] if near else word
            case 1:
                changed = word[:at] + word[at + 1 : at + 2] + letter + word[at + 2 :]
            case 2:
                changed = word[:at] + word[at + 1 :]
            case _:
                changed = word[:at] + letter + word[at:]
        if changed != word:
            return changed


def _typos(text: str, mask: list[bool], strength: float, rng: np.random.Generator) -> str:
    return _rewrite(text, mask, strength, rng, lambda word: _typo(word, rng))


def _upper_case(text: str, mask: list[bool], strength: float, rng: np.random.Generator) -> str:
    return _rewrite(text, mask, strength, rng, str.upper)


def _distractor(text: str, mask: list[bool], strength: float, rng: np.random.Generator) -> str:
    """Puts one sentence at the start, after a leading label such as "Question:"."""
    label = re.match(r"(?:[A-Za-z]+:\s*)?", text)
    assert label is not None
    return f"{label[0]}{rng.choice(DISTRACTORS)} {text[label.end() :]}"


PERTURBATIONS: dict[str, Perturbation] = {
    each.name: each
    for each in (
        Perturbation("typos", "keyboard slips in a fifth of the unprotected words", _typos, strength=0.2),
        Perturbation("distractor", "an irrelevant sentence before the question", _distractor),
        Perturbation("case", "half of the unprotected words in capitals", _upper_case, strength=0.5),
    )
}


def perturb(text: str, name: str, *, sample_id: str, protected: Collection[str] = (), field: str = "") -> str:
    """`text` under the perturbation `name`; equal arguments give equal text.

    Args:
        sample_id: names the random stream, with `name` and `field`.
        protected: words or phrases that must stay.
        field: which part of an item `text` is, where more than one is perturbed.
    """
    perturbation = PERTURBATIONS[name]
    rng = generator("perturbation", name, sample_id, field)
    return perturbation.apply(text, protected_mask(text, protected), perturbation.strength, rng)


def perturb_doc(
    doc: Mapping[str, Any], name: str, *, sample_id: str, fields: Collection[str], protected: Collection[str] = ()
) -> dict[str, Any]:
    """A copy of a task's document with text `fields` perturbed; a distractor goes into the last of them, before the question."""
    chosen = list(fields)[-1:] if name == "distractor" else list(fields)
    changed = {field: perturb(str(doc[field]), name, sample_id=sample_id, protected=protected, field=field) for field in chosen}
    return {**doc, **changed}
