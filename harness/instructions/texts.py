"""Cutting and mending plain text: what the constraint kinds share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
WORD = re.compile(r"\w+(?:['’-]\w+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

FILLERS = (
    "This is easy to remember.",
    "Try it once and see how it goes.",
    "A little patience helps more than speed.",
    "Small steps make the whole thing lighter.",
    "Ask someone you trust if you are unsure.",
    "It gets better with practice.",
)
"""Neutral closing sentences for responses that are too short."""


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of `options`, uniformly."""
    return options[int(rng.integers(len(options)))]


def between(rng: np.random.Generator, low: int, high: int) -> int:
    """An integer in [low, high], both ends included."""
    return int(rng.integers(low, high + 1))


def plural(n: int, noun: str) -> str:
    """`1 word`, `2 words`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def words(text: str) -> list[str]:
    """The words of `text`, apostrophes and hyphens kept inside them."""
    return WORD.findall(text)


def has_phrase(text: str, phrase: str) -> bool:
    """Whether `phrase` occurs in `text` as whole words, whatever the case."""
    return count_phrase(text, phrase) > 0


def count_phrase(text: str, phrase: str) -> int:
    """How often `phrase` occurs as whole words, whatever the case."""
    return len(re.findall(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE))


def sentences(text: str) -> list[str]:
    """Parts that end in . ! or ? (the last may lack it) and hold a letter or digit."""
    return [part for part in (piece.strip() for piece in _SENTENCE_END.split(text.strip())) if WORD.search(part)]


def lines(text: str) -> list[str]:
    """The non-empty lines, stripped."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def padded_sentences(text: str, n: int) -> list[str]:
    """At least `n` sentences: those of `text`, then fillers."""
    parts = sentences(text)
    fillers = [filler for filler in FILLERS if filler not in parts]
    return parts + fillers[: max(0, n - len(parts))]


def distribute(parts: Sequence[str], n: int) -> list[str]:
    """Joins `parts` into `n` runs of nearly equal length, order kept; needs n <= len(parts)."""
    size, extra = divmod(len(parts), n)
    runs, start = [], 0
    for index in range(n):
        stop = start + size + (index < extra)
        runs.append(" ".join(parts[start:stop]))
        start = stop
    return runs


def cut_to_words(text: str, n: int) -> str:
    """At most `n` words: whole sentences where one fits, otherwise the first `n` words."""
    if len(words(text)) <= n:
        return text
    kept: list[str] = []
    for sentence in sentences(text):
        if len(words(" ".join([*kept, sentence]))) > n:
            break
        kept.append(sentence)
    if kept:
        return " ".join(kept)
    ends = [match.end() for match in WORD.finditer(text)]
    return text[: ends[n - 1]].rstrip(",;: ") + "."


def put_before(text: str, start: str) -> str:
    """`start` in front of `text`: on its own line where the text is a list, in the same line otherwise."""
    return f"{start}\n{text}" if re.match(r"[-*] |\d+\. ", text) else f"{start} {text}"
