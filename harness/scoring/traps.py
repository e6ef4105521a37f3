"""Log-likelihood requests that engines get wrong: ragged lengths, Unicode, empty contexts, spaces at the cut, truncation, one text split
at two places, continuations without a token of their own."""

from __future__ import annotations

import numpy as np

Text = tuple[str, str]

_SENTENCES = (
    "the river carried small boats past seven old mills while children counted birds and nobody asked why it rained again "
    "Because every measured value 3.14 or 42 differs, we (almost) never trust one: not once!"
)
_WORDS = tuple(_SENTENCES.split())
_UNICODE = (
    "naïve",
    "Straße",
    "東京",
    "данные",
    "🙂",
    "👩‍🔬",
    "e\u0301tude",
    "مرحبا",
    "ﬁne",
    "\u200bgap",
    "a\u00a0b",
    "Ωmega",
    "नमस्ते",
    "½",
    "“quoted”",
)
SHORT_LENGTH = 48
"""Most tokens of the engines that the truncation traps are given to."""


def traps(count: int, *, rng: np.random.Generator) -> dict[str, list[Text]]:
    """About `count` requests in groups named by what they try. Those of "truncation" are for a model of SHORT_LENGTH tokens."""
    part = max(2, count // 8)
    return {
        "ragged": [(_text(rng, _WORDS, 120), " " + _text(rng, _WORDS, 24)) for _ in range(2 * part)],
        "unicode": [(_text(rng, (*_WORDS, *_UNICODE * 3), 40), " " + _text(rng, _UNICODE, 4)) for _ in range(2 * part)],
        "empty_context": [("", _text(rng, _WORDS, 12)) for _ in range(part)],
        "spaces_at_the_cut": [(_text(rng, _WORDS, 20) + " " * int(rng.integers(1, 4)), _text(rng, _WORDS, 6)) for _ in range(part)],
        "split_twice": [pair for _ in range(part // 2) for pair in _split_twice(rng)],
        "truncation": [(_text(rng, _WORDS, 90, fewest=40), " " + _text(rng, _WORDS, 12)) for _ in range(part)],
    }


def unscorable() -> list[Text]:
    """Requests that have no answer: lm-eval's Hugging Face backend stops at them."""
    return [("a context", ""), ("", "")]


def _text(rng: np.random.Generator, words: tuple[str, ...], most: int, *, fewest: int = 1) -> str:
    return " ".join(str(rng.choice(words)) for _ in range(int(rng.integers(fewest, most + 1))))


def _split_twice(rng: np.random.Generator) -> list[Text]:
    """Two requests whose fed tokens (all but the last) are the same, the border between context and continuation elsewhere."""
    words = [str(rng.choice(_WORDS)) for _ in range(int(rng.integers(6, 14)))]
    early, late = sorted(int(cut) for cut in rng.choice(np.arange(1, len(words)), 2, replace=False))
    return [(" ".join(words[:cut]), " " + " ".join(words[cut:])) for cut in (early, late)]
