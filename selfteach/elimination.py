"""The elimination rules: what an evolved instruction must survive before anyone answers it (METHODS.md §1).

Pure functions, applied in order; each returns a reason to reject the candidate, or None. Near-duplicate tests compare wordings, so they
spare instructions that a generator backs: two instances of one puzzle family share their template word for word and still have different
answers. Those are rejected when equal. They spare the candidate's own ancestors too: most operations add to a text and keep the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harness.core.records import Instruction

_STOP_WORDS = """
a about all also an and any are as at be been but by can could do does for from had has have he her his how i if in into is it its just like
me my no not of on one or our out she should so some than that the their them then there these they this to up us was we were what when
where which who why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
LEAKED_PHRASES = (
    "given prompt",
    "rewritten prompt",
    "new prompt",
    "created prompt",
    "#given",
    "#rewritten",
    "#created",
    "prompt rewriter",
    "prompt creator",
)
REFUSAL_MAX_WORDS = 80

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Limits:
    """Thresholds of the rules."""

    max_words: int = 200
    rouge_l: float = 0.7
    cosine: float = 0.97


@dataclass(frozen=True)
class Candidate:
    """An evolved instruction on trial.

    `ancestors` are the texts of its lineage so far, seed and parent included; `embedding` (D,) has norm 1; `reply` is what a language-model
    executor wrote, the text itself where rules did.
    """

    instruction: Instruction
    parent: Instruction
    embedding: Floats
    reply: str
    ancestors: tuple[str, ...] = ()


@dataclass
class Kept:
    """Everything kept so far, seeds included: what a new instruction must differ from."""

    places: dict[str, int] = field(default_factory=dict)
    """Where each normalised text stands in the lists."""
    tokens: list[list[str]] = field(default_factory=list)
    embeddings: list[Floats] = field(default_factory=list)

    def add(self, text: str, embedding: Floats) -> None:
        """Remembers one instruction."""
        self.places[normalise(text)] = len(self.tokens)
        self.tokens.append(words(text))
        self.embeddings.append(embedding)

    def cosines(self, embedding: Floats) -> Floats:
        """Cosine similarities to everything kept, (N,)."""
        return np.stack(self.embeddings) @ embedding if self.embeddings else np.zeros(0, dtype=np.float32)


@dataclass(frozen=True)
class Context:
    """What rules may compare a candidate with."""

    kept: Kept
    limits: Limits
    contaminated: Callable[[str], bool]


Rule = Callable[[Candidate, Context], str | None]


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits: rouge_score's default tokenisation, with letters of every script."""
    return re.findall(r"[^\W_]+", text.lower())


def normalise(text: str) -> str:
    """Text for equality: case folded, white space collapsed. Punctuation counts: arithmetic is made of it."""
    return " ".join(text.casefold().split())


def no_information_gain(candidate: Candidate, context: Context) -> str | None:
    """The evolved text says what its parent says."""
    return "no information gain" if normalise(candidate.instruction.text) == normalise(candidate.parent.text) else None


def refusal(candidate: Candidate, context: Context) -> str | None:
    """ "sorry" in a reply of fewer than 80 words, unless the parent's text has the word too."""
    found = words(candidate.reply)
    said = "sorry" in found and "sorry" not in words(candidate.parent.text)
    return "refusal" if said and len(found) < REFUSAL_MAX_WORDS else None


def empty(candidate: Candidate, context: Context) -> str | None:
    """Nothing but punctuation and stop words."""
    return "only punctuation or stop words" if set(words(candidate.instruction.text)) <= STOP_WORDS else None


def leaked_prompt(candidate: Candidate, context: Context) -> str | None:
    """Words of the evolving prompt stand in the result and not in the parent."""
    text, parent = candidate.instruction.text.lower(), candidate.parent.text.lower()
    return next((f"prompt leak: {phrase}" for phrase in LEAKED_PHRASES if phrase in text and phrase not in parent), None)


def over_length(candidate: Candidate, context: Context) -> str | None:
    """More words than the limit."""
    length = len(candidate.instruction.text.split())
    return f"over length: {length} > {context.limits.max_words} words" if length > context.limits.max_words else None


def not_verifiable(candidate: Candidate, context: Context) -> str | None:
    """No rule can check a response."""
    return None if candidate.instruction.verifiable else "not verifiable"


def duplicate(candidate: Candidate, context: Context) -> str | None:
    """Equal to anything kept; nearly equal in wording or meaning, unless a generator backs it."""
    text = candidate.instruction.text
    if normalise(text) in context.kept.places:
        return "duplicate"
    if "generator" in candidate.instruction.payload:
        return None
    own = {context.kept.places.get(normalise(ancestor)) for ancestor in candidate.ancestors}
    similarities = context.kept.cosines(candidate.embedding)
    others = [place for place in range(len(similarities)) if place not in own]
    similarity = max((float(similarities[place]) for place in others), default=-1.0)
    if similarity > context.limits.cosine:
        return f"near duplicate: cosine {similarity:.2f}"
    tokens, kept = words(text), context.kept.tokens
    overlap = max((rouge_l(tokens, kept[place], at_least=context.limits.rouge_l) for place in others), default=0.0)
    return f"near duplicate: ROUGE-L {overlap:.2f}" if overlap > context.limits.rouge_l else None


def contaminated(candidate: Candidate, context: Context) -> str | None:
    """Shares an 8-gram of words with an evaluation item."""
    return "contaminated" if context.contaminated(candidate.instruction.text) else None


RULES: tuple[Rule, ...] = (
    no_information_gain,
    refusal,
    empty,
    leaked_prompt,
    over_length,
    not_verifiable,
    duplicate,
    contaminated,
)


def eliminate(candidate: Candidate, context: Context, *, rules: Sequence[Rule] = RULES) -> str | None:
    """The first rule's reason to reject the candidate, or None when it survives all."""
    return next((reason for rule in rules if (reason := rule(candidate, context)) is not None), None)


def rouge_l(tokens: Sequence[str], others: Sequence[str], *, at_least: float = 0.0) -> float:
    """ROUGE-L F-measure of two token lists; 0 when a cheap bound shows that it is below `at_least`.

    The bound is the size of the multiset intersection, which no common subsequence exceeds.
    """
    total = len(tokens) + len(others)
    if not tokens or not others or 2 * min(len(tokens), len(others)) < at_least * total:
        return 0.0
    if 2 * sum((Counter(tokens) & Counter(others)).values()) < at_least * total:
        return 0.0
    return 2 * longest_common_subsequence(tokens, others) / total


def longest_common_subsequence(tokens: Sequence[str], others: Sequence[str]) -> int:
    """Length of the longest common subsequence, one machine-word-parallel row a token (Hyyrö 2004)."""
    positions: dict[str, int] = {}
    for index, token in enumerate(tokens):
        positions[token] = positions.get(token, 0) | 1 << index
    everything = (1 << len(tokens)) - 1
    row = everything
    for token in others:
        matches = row & positions.get(token, 0)
        row = ((row + matches) | (row - matches)) & everything
    return len(tokens) - row.bit_count()
