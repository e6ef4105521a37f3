"""What gives a text away as written by a machine gone wrong: refusals, chat markers, endless repetition, characters nobody typed.

Pure functions of text, linear in its length, shared by whatever accepts text that a model wrote.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter

import numpy as np

REFUSAL_MAX_WORDS = 80
_LONGEST_REFUSAL = 2_000
"""Characters beyond which a reply surely has more words than a refusal may."""
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_BROKEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffd]")
_MARKER = re.compile(
    r"<\|[^<>|\n]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|</?(?:start_of_turn|end_of_turn|bos|eos|think)>|<｜[^<>｜\n]{1,40}｜>", re.IGNORECASE
)
_ROLE = re.compile(r"^[^\w\n]{0,20}(user|assistant|system|human|ai|instruction|response)[^\w\n]{0,5}:", re.IGNORECASE | re.MULTILINE)
_WORD = re.compile(r"[^\W_]+")
_LONGEST_PERIOD = 24
_REPEATS = 4
_FEWEST_LOOPED_WORDS = 8
_SQUEEZED_FROM = 200
_SQUEEZE = 4.0
"""Bytes per zlib byte above which a text of some length only repeats itself; English prose and small tables stay near 2."""


def visible(text: str) -> str:
    """The text without zero-width and direction characters, which change what a comparison sees and not what a reader does."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits: rouge_score's default tokenisation, with letters of every script."""
    return _WORD.findall(visible(text).lower())


def normalise(text: str) -> str:
    """Text for equality: case folded, white space collapsed. Punctuation counts: arithmetic is made of it."""
    return " ".join(visible(text).casefold().split())


def refuses(reply: str, parent: str) -> bool:
    """ "sorry" in a reply of fewer than 80 words, unless the parent has the word too."""
    if len(reply) > _LONGEST_REFUSAL:
        return False
    found = words(reply)
    return "sorry" in found and len(found) < REFUSAL_MAX_WORDS and "sorry" not in words(parent)


def chat_marks(text: str, before: str = "") -> str | None:
    """A chat template's marker in the text, or a role label at the start of a line that `before` has not; None without either."""
    shown = visible(text)
    marker = _MARKER.search(shown)
    if marker:
        return marker.group()
    roles = set(map(str.lower, _ROLE.findall(shown))) - set(map(str.lower, _ROLE.findall(visible(before))))
    return f"{min(roles)}:" if roles else None


def repeats(text: str) -> bool:
    """Endless repetition: up to 24 words four times in a row, or a text of 200 characters or more that zlib squeezes to a quarter."""
    data = text.encode("utf-8", "replace")
    if len(data) >= _SQUEEZED_FROM and len(data) > _SQUEEZE * len(zlib.compress(data, 1)):
        return True
    tokens = text.split()
    if max(Counter(tokens).values(), default=0) < _REPEATS:
        return False
    numbers: dict[str, int] = {}
    ids_T = np.array([numbers.setdefault(token, len(numbers)) for token in tokens])
    longest = min(_LONGEST_PERIOD, len(tokens) // _REPEATS)
    return any(_looped(ids_T[period:] == ids_T[:-period], period) for period in range(1, longest + 1))


def _looped(equal_T: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], period: int) -> bool:
    """Whether enough words in a row equal the word a period before."""
    needed = max((_REPEATS - 1) * period, _FEWEST_LOOPED_WORDS - period)
    sums_T = np.concatenate([[0], np.cumsum(equal_T)])
    return len(equal_T) >= needed and bool((sums_T[needed:] - sums_T[:-needed] == needed).any())


def broken(text: str) -> bool:
    """Characters nobody types: control characters, lone surrogates, the mark of failed decoding, switches of writing direction."""
    return _BROKEN.search(text) is not None
