"""The elimination rules: what an evolved instruction must survive before anyone answers it (docs/method-card.md).

Pure functions, applied in order, the cheap and bounding ones first, so that a reply of a million characters costs no more than one of a
thousand; each returns a reason to reject the candidate, or None. Near-duplicate tests compare wordings, so they spare instructions that a
generator backs: two instances of one puzzle family share their template word for word and still have different answers. Those are rejected
when equal. They spare the candidate's own ancestors too: most operations add to a text and keep the rest.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.core.records import Instruction
from harness.instructions.similarity import rouge_l
from harness.instructions.telltale import broken, normalise, refuses, repeats, words
from selfteach.language.telltale import leak

_STOP_WORDS = """
a about all also an and any are as at be been but by can could do does for from had has have he her his how i if in into is it its just like
me my no not of on one or our out she should so some than that the their them then there these they this to up us was we were what when
where which who why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
CHARACTERS_PER_WORD = 15
"""What a word may have on average, so that a text without spaces has a limit too."""
BUCKETS = 256
"""Of the hashed word counts that spare most comparisons of wordings."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Limits:
    """Thresholds of the rules."""

    max_words: int = 200
    rouge_l: float = 0.7
    cosine: float = 0.97
    must_verify: bool = True
    """False lets instructions through that no rule can check: they are answered by self-consistency."""


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


class Kept:
    """Everything kept so far, seeds included: what a new instruction must differ from."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        """Where each normalised text stands among all."""
        self.tokens: list[list[str]] = []
        self._embeddings = _Rows(np.float32)
        self._bags = _Rows(np.uint16)
        self._lengths = _Rows(np.int64)

    def add(self, text: str, embedding: Floats) -> None:
        """Remembers one instruction."""
        tokens = words(text)
        self.places[normalise(text)] = len(self.tokens)
        self.tokens.append(tokens)
        self._embeddings.append(embedding)
        self._bags.append(_bag(tokens))
        self._lengths.append(np.array(len(tokens)))

    def cosines(self, embedding: Floats) -> Floats:
        """Cosine similarities to everything kept, (N,)."""
        return self._embeddings.rows @ embedding if self.tokens else np.zeros(0, dtype=np.float32)

    def overlap(self, tokens: Sequence[str], *, at_least: float, without: frozenset[int]) -> float:
        """The largest ROUGE-L F-measure with anything kept but the places `without`; 0 where all are below `at_least`.

        No common subsequence exceeds the intersection of two multisets of words, nor that of their hashed counts, which is looked at first.
        """
        if not self.tokens:
            return 0.0
        common_N = np.minimum(self._bags.rows, _bag(tokens)).sum(axis=1, dtype=np.int64)
        likely_N = 2 * common_N >= at_least * (self._lengths.rows + len(tokens))
        overlaps = (rouge_l(tokens, self.tokens[place]) for place in np.flatnonzero(likely_N) if place not in without)
        largest = max(overlaps, default=0.0)
        return largest if largest >= at_least else 0.0


class _Rows:
    """An array that grows by rows without being copied each time."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._dtype, self._array, self._count = dtype, np.zeros(0), 0

    @property
    def rows(self) -> npt.NDArray[Any]:
        """All rows so far."""
        return self._array[: self._count]

    def append(self, row: npt.NDArray[Any]) -> None:
        """Adds a row of the shape of the others."""
        if self._count == len(self._array):
            spare = np.zeros((max(64, self._count), *row.shape), dtype=self._dtype)
            self._array = np.concatenate([self._array, spare]) if self._count else spare
        self._array[self._count] = row
        self._count += 1


def _bag(tokens: Sequence[str]) -> npt.NDArray[np.uint16]:
    """How many of the tokens fall into each of `BUCKETS` (BUCKETS,)."""
    buckets = [zlib.crc32(token.encode("utf-8", "replace")) % BUCKETS for token in tokens]
    return np.minimum(np.bincount(buckets, minlength=BUCKETS), np.iinfo(np.uint16).max).astype(np.uint16)


@dataclass(frozen=True)
class Context:
    """What rules may compare a candidate with."""

    kept: Kept
    limits: Limits
    contaminated: Callable[[str], bool]


Rule = Callable[[Candidate, Context], str | None]


def over_length(candidate: Candidate, context: Context) -> str | None:
    """More words than the limit, or more characters than so many words have."""
    text, limit = candidate.instruction.text, context.limits.max_words
    if len(text) > limit * CHARACTERS_PER_WORD:
        return f"over length: {len(text)} > {limit * CHARACTERS_PER_WORD} characters"
    length = len(text.split())
    return f"over length: {length} > {limit} words" if length > limit else None


def broken_characters(candidate: Candidate, context: Context) -> str | None:
    """Control characters, lone surrogates, failed decoding, switches of writing direction."""
    return "broken characters" if broken(candidate.instruction.text) else None


def no_information_gain(candidate: Candidate, context: Context) -> str | None:
    """The evolved text says what its parent says."""
    return "no information gain" if normalise(candidate.instruction.text) == normalise(candidate.parent.text) else None


def refusal(candidate: Candidate, context: Context) -> str | None:
    """ "sorry" in a reply of fewer than 80 words, unless the parent's text has the word too."""
    return "refusal" if refuses(candidate.reply, candidate.parent.text) else None


def empty(candidate: Candidate, context: Context) -> str | None:
    """Nothing but punctuation and stop words."""
    return "only punctuation or stop words" if set(words(candidate.instruction.text)) <= STOP_WORDS else None


def leaked_prompt(candidate: Candidate, context: Context) -> str | None:
    """Words of an evolving prompt, a chat template's markers or role labels stand in the result and not in the parent."""
    leaked = leak(candidate.instruction.text, candidate.parent.text)
    return None if leaked is None else f"prompt leak: {leaked}"


def repetition(candidate: Candidate, context: Context) -> str | None:
    """The text goes round in circles, unless its parent does."""
    return "endless repetition" if repeats(candidate.instruction.text) and not repeats(candidate.parent.text) else None


def not_verifiable(candidate: Candidate, context: Context) -> str | None:
    """No rule can check a response where one must."""
    return "not verifiable" if context.limits.must_verify and not candidate.instruction.verifiable else None


def duplicate(candidate: Candidate, context: Context) -> str | None:
    """Equal to anything kept; nearly equal in wording or meaning, unless a generator backs it."""
    text, kept = candidate.instruction.text, context.kept
    if normalise(text) in kept.places:
        return "duplicate"
    if "generator" in candidate.instruction.payload:
        return None
    own = frozenset(kept.places[name] for name in map(normalise, candidate.ancestors) if name in kept.places)
    similarities = kept.cosines(candidate.embedding)
    similarities[list(own)] = -1
    similarity = float(similarities.max(initial=-1))
    if similarity > context.limits.cosine:
        return f"near duplicate: cosine {similarity:.2f}"
    overlap = kept.overlap(words(text), at_least=context.limits.rouge_l, without=own)
    return f"near duplicate: ROUGE-L {overlap:.2f}" if overlap > context.limits.rouge_l else None


def contaminated(candidate: Candidate, context: Context) -> str | None:
    """Shares an 8-gram of words with an evaluation item."""
    return "contaminated" if context.contaminated(candidate.instruction.text) else None


RULES: tuple[Rule, ...] = (
    over_length,
    broken_characters,
    no_information_gain,
    refusal,
    empty,
    leaked_prompt,
    repetition,
    not_verifiable,
    duplicate,
    contaminated,
)


def eliminate(candidate: Candidate, context: Context, *, rules: Sequence[Rule] = RULES) -> str | None:
    """The first rule's reason to reject the candidate, or None when it survives all."""
    return next((reason for rule in rules if (reason := rule(candidate, context)) is not None), None)
