"""What a perturbation must leave alone, and the random choice among what it may touch."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache

import numpy as np

Rng = np.random.Generator
TextChange = Callable[[str, list[bool], float, Rng], str]
"""Text, its protected mask, strength and a generator to the changed text."""

LOGIC = frozenset(
    re.findall(
        r"\w+",
        "about above after all always and any before below between both cannot each either else equal every exactly except false fewer "
        "first following from greater incorrect last least less more most must neither never none not odd even once only over same some "
        "than that true twice under unless until wrong without yes",
    )
)
"""Words that a question may hang on."""
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
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


def protected_mask(text: str, protected: Collection[str] = ()) -> list[bool]:
    """For each character, whether it must stay as it is.

    Args:
        protected: further words or phrases (whole, any case, also in the plural) that must stay wherever they occur.
    """
    mask = [False] * len(text)
    folded = text.lower()
    # Most phrases are not in the text; asking for a plain substring first is what makes long lists cheap.
    own = [_phrase(phrase) for phrase in protected if phrase and (not phrase.isascii() or phrase.lower() in folded)]
    for pattern in (*_PROTECTED, _CUE, *own):
        for match in pattern.finditer(text):
            mask[match.start() : match.end()] = [True] * (match.end() - match.start())
    return mask


def occurrences(text: str, phrase: str) -> int:
    """How often `phrase` stands in `text`, whole and in any case."""
    return len(_phrase(phrase).findall(text))


@lru_cache(maxsize=20_000)
def _phrase(phrase: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z]){re.escape(phrase)}s?(?![A-Za-z])", re.IGNORECASE)


def eligible_words(text: str, mask: list[bool]) -> list[re.Match[str]]:
    """Words of four letters or more that are no logical words, no abbreviations and not protected."""
    return [
        word
        for word in WORD.finditer(text)
        if len(word[0]) >= 4 and word[0].lower() not in LOGIC and not word[0].isupper() and not any(mask[word.start() : word.end()])
    ]


def free(mask: list[bool], match: re.Match[str]) -> bool:
    """Whether nothing of `match` is protected."""
    return not any(mask[match.start() : match.end()])


def change_some(text: str, places: Sequence[re.Match[str]], strength: float, rng: Rng, change: Callable[[re.Match[str]], str]) -> str:
    """Replaces a random share `strength` of `places` by what `change` makes of them, at least one if there is any.

    Args:
        places: matches in `text` that do not overlap, in order.
    """
    count = min(len(places), max(1, round(strength * len(places))))
    for index in sorted(rng.choice(len(places), size=count, replace=False), reverse=True) if places else ():
        place = places[index]
        text = text[: place.start()] + change(place) + text[place.end() :]
    return text
