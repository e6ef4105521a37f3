"""Constraint kinds on how long a response is."""

from __future__ import annotations

from harness.instructions.kind import Kind, Params
from harness.instructions.texts import between, cut_to_words, distribute, padded_sentences, plural, sentences, words

_SIZE = frozenset({"size"})
_FEWEST_WORDS = 8


def _pad_to_words(response: str, n: int) -> str:
    extra = 0
    while len(words(response)) < n and extra < n:
        response = f"{response.rstrip()} {padded_sentences(response, len(sentences(response)) + 1)[-1]}"
        extra += 1
    return response


def _cut_to_characters(response: str, n: int) -> str:
    while len(response) > n and len(words(response)) > 1:
        response = cut_to_words(response, len(words(response)) - 1)
    return response


def _paragraphs(response: str) -> list[str]:
    return [part for part in (block.strip() for block in response.strip().split("\n\n")) if part]


def _satisfy_paragraphs(response: str, params: Params) -> str:
    return "\n\n".join(distribute(padded_sentences(response, params["n"]), params["n"]))


def _fewer_words(params: Params) -> Params | None:
    n = int(params["n"] * 0.75)
    return {"n": n} if n >= _FEWEST_WORDS else None


def _narrower(params: Params) -> Params | None:
    return {"low": params["low"] + 2, "high": params["high"] - 2} if params["high"] - params["low"] > 8 else None


MAX_WORDS = Kind(
    "max_words",
    "length",
    describe=lambda params: f"Use at most {params['n']} words.",
    check=lambda response, params: 0 < len(words(response)) <= params["n"],
    satisfy=lambda response, params: cut_to_words(response, params["n"]),
    stage=1,
    sample=lambda rng: {"n": between(rng, 12, 40)},
    groups=_SIZE,
    tighten=_fewer_words,
    reserve=lambda params, spare: {"n": max(3, params["n"] - spare)},
)

MIN_WORDS = Kind(
    "min_words",
    "length",
    describe=lambda params: f"Use at least {params['n']} words.",
    check=lambda response, params: len(words(response)) >= params["n"],
    satisfy=lambda response, params: _pad_to_words(response, params["n"]),
    stage=1,
    sample=lambda rng: {"n": between(rng, 20, 45)},
    groups=_SIZE | {"sentences"},
    tighten=lambda params: {"n": params["n"] + 8} if params["n"] <= 52 else None,
)

SENTENCE_COUNT = Kind(
    "sentence_count",
    "length",
    describe=lambda params: f"Write exactly {plural(params['n'], 'sentence')}.",
    check=lambda response, params: len(sentences(response)) == params["n"],
    satisfy=lambda response, params: " ".join(padded_sentences(response, params["n"])[: params["n"]]),
    stage=1,
    sample=lambda rng: {"n": between(rng, 1, 4)},
    groups=frozenset({"layout", "sentences"}),
    tighten=lambda params: {"n": params["n"] + 1} if params["n"] < 5 else None,
)

WORD_RANGE = Kind(
    "word_range",
    "length",
    describe=lambda params: f"Keep the length between {params['low']} and {params['high']} words.",
    check=lambda response, params: params["low"] <= len(words(response)) <= params["high"],
    satisfy=lambda response, params: cut_to_words(_pad_to_words(response, params["low"]), params["high"]),
    stage=1,
    sample=lambda rng: {"low": (low := between(rng, 10, 30)), "high": low + between(rng, 15, 30)},
    groups=_SIZE,
    held_out=True,
    tighten=_narrower,
    reserve=lambda params, spare: {"low": params["low"], "high": max(params["low"], params["high"] - spare)},
)

MAX_CHARACTERS = Kind(
    "max_characters",
    "length",
    describe=lambda params: f"Stay under {params['n']} characters in all.",
    check=lambda response, params: 0 < len(response.strip()) < params["n"],
    satisfy=lambda response, params: _cut_to_characters(response, params["n"] - 1),
    stage=1,
    sample=lambda rng: {"n": 10 * between(rng, 10, 30)},
    groups=_SIZE,
    held_out=True,
    reserve=lambda params, spare: {"n": max(20, params["n"] - 7 * spare)},
)

PARAGRAPH_COUNT = Kind(
    "paragraph_count",
    "length",
    describe=lambda params: f"Split the reply into exactly {params['n']} paragraphs with a blank line between them.",
    check=lambda response, params: len(_paragraphs(response)) == params["n"],
    satisfy=_satisfy_paragraphs,
    stage=2,
    sample=lambda rng: {"n": between(rng, 2, 3)},
    groups=frozenset({"layout", "paragraphs"}),
    held_out=True,
)

KINDS = (MAX_WORDS, MIN_WORDS, SENTENCE_COUNT, WORD_RANGE, MAX_CHARACTERS, PARAGRAPH_COUNT)
