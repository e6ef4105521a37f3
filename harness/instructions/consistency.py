"""Self-consistency: of several samples, the group that agree (Wang et al. 2022, arXiv 2203.11171), for answers short and long.

Short answers (up to 8 words) agree when equal after folding of case, white space and outer punctuation, numbers when equal in value; what
follows "the answer is" counts as the answer. Longer texts agree when their ROUGE-L reaches `SIMILAR` and they have the same numbers and are
both with or both without a negation: "3 birds" against "4 birds" is a near copy and no agreement. A group is one sample with all that agree
with it. Differs from the source, which breaks ties by order or probability: a tie between answers that disagree is no agreement.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from harness.instructions.similarity import rouge_l
from harness.instructions.telltale import words

SHORT_WORDS = 8
SIMILAR = 0.6
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?")
_LEAD = re.compile(r"^(?:(?:so|thus|therefore|hence),? )?(?:(?:the|my) )?(?:final |correct )?answer(?: is|:| is:) ?(.+)$")
_NEGATIONS = frozenset({"no", "not", "never", "none", "neither", "nor", "cannot", "false", "t"})
""" "t" is what the tokenisation leaves of "isn't"."""
_OUTER = " \t\n.,;:!?\"'`*_“”‘’"


@dataclass(frozen=True)
class _Reply:
    """A text as it is compared: `key` of a short answer (None of a long one), tokens, numbers and negation of a long one."""

    text: str
    key: str | Fraction | None
    tokens: list[str]
    numbers: frozenset[Fraction]
    negated: bool


def largest_group(texts: Sequence[str]) -> list[str]:
    """The samples of the largest group, its medoid first (equals: the shortest, then by alphabet), the others in order of their length.

    Depends on the multiset of texts alone, not on their order. Empty where there are no texts, or where two groups whose centres disagree
    are both the largest.
    """
    replies = [_read(text) for text in sorted(texts, key=lambda text: (len(text), text))]
    if not replies:
        return []
    similarity_N_N = [[_agreement(one, other) for other in replies] for one in replies]
    groups = [[place for place, value in enumerate(row) if value > 0] for row in similarity_N_N]
    size = max(len(group) for group in groups)
    centres = [place for place, group in enumerate(groups) if len(group) == size]
    centre = max(centres, key=lambda place: (sum(similarity_N_N[place]), -place))
    if any(similarity_N_N[centre][other] == 0 for other in centres):
        return []
    return [replies[centre].text, *(replies[place].text for place in groups[centre] if place != centre)]


def answer_key(text: str) -> str | Fraction | None:
    """What a short answer is compared by: its value if it is a number, else its folded text; None for a longer text."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    stripped = folded.strip(_OUTER)
    lead = _LEAD.match(stripped)
    bare = lead[1].strip(_OUTER) if lead else stripped
    if _NUMBER.fullmatch(bare):
        return _value(bare)
    if len(bare.split()) > SHORT_WORDS:
        return None
    return re.sub(r"\s*,\s*", ", ", bare) or folded


def _read(text: str) -> _Reply:
    key = answer_key(text)
    tokens = words(text) if key is None else []
    numbers = frozenset(_value(found) for found in _NUMBER.findall(text)) if key is None else frozenset()
    return _Reply(text, key, tokens, numbers, not _NEGATIONS.isdisjoint(tokens))


def _value(number: str) -> Fraction:
    return Fraction(number.replace(",", ""))


def _agreement(one: _Reply, other: _Reply) -> float:
    """How far two replies agree: 1 when equal, at least `SIMILAR` when alike, else 0."""
    if one.key is not None or other.key is not None:
        return float(one.key == other.key)
    if one.text == other.text:
        return 1.0
    if one.numbers != other.numbers or one.negated != other.negated:
        return 0.0
    similarity = rouge_l(one.tokens, other.tokens)
    return similarity if similarity >= SIMILAR else 0.0
