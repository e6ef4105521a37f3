"""Constraint kinds on words, letters and punctuation marks."""

from __future__ import annotations

import re

import numpy as np

from harness.instructions.kind import Kind, Params
from harness.instructions.texts import between, count_phrase, has_phrase, pick, plural, sentences, words

_TRAIN_WORDS = {
    "simple": "The simple way works best here.",
    "careful": "A careful start saves trouble.",
    "together": "It goes better together.",
    "today": "Today is a good day to begin.",
    "honest": "Here is the honest version.",
    "morning": "The morning is a fine time for it.",
    "quietly": "It is best done quietly.",
    "useful": "A useful point comes first.",
    "neighbour": "A neighbour once showed me this.",
    "window": "Think of it by an open window.",
    "finally": "What finally counts is this.",
    "mistake": "Every mistake teaches something.",
}
_EVAL_WORDS = {
    "patience": "Patience pays off here.",
    "bridge": "Picture it as a bridge.",
    "gentle": "Stay gentle with yourself.",
    "surprise": "There is one surprise in it.",
    "lantern": "Think of a lantern in the dark.",
    "balance": "It is a matter of balance.",
    "pocket": "Keep this idea in your pocket.",
    "curious": "Stay curious about the details.",
    "harbour": "Imagine a calm harbour first.",
    "thread": "Follow the thread step by step.",
}
"""Words to include, each with a sentence that does so in passing."""

_REPLACEMENTS = {
    "very": "quite",
    "really": "truly",
    "good": "fine",
    "also": "too",
    "but": "yet",
    "because": "since",
    "can": "may",
    "many": "several",
    "often": "regularly",
    "people": "folk",
}
_LETTER_SENTENCES = {
    "z": "A lazy breeze froze the prize puzzle in a haze.",
    "v": "Every brave visitor gives vivid views.",
    "w": "We wish to know which way the wind will blow.",
    "k": "Kind folk keep making quick book marks.",
}
_QUESTIONS = ("Does that sound right?", "What would you add?", "Shall we look closer?")
_PLACEHOLDERS = ("[name]", "[date]", "[place]", "[time]")


def _prepend(sentence: str, response: str) -> str:
    # In front, so that later cuts to a length keep the required word.
    return f"{sentence} {response}"


def _with_word(response: str, word: str) -> str:
    if has_phrase(response, word):
        return response
    sentence = {**_TRAIN_WORDS, **_EVAL_WORDS}.get(word)
    return _prepend(sentence or f"Take {word} as the case in point.", response)


def _satisfy_order(response: str, params: Params) -> str:
    return (
        response
        if _in_order(response, params)
        else _prepend(_TRAIN_WORDS[params["first"]] + " " + _TRAIN_WORDS[params["second"]], response)
    )


def _in_order(response: str, params: Params) -> bool:
    first = re.search(rf"(?<!\w){re.escape(params['first'])}(?!\w)", response, re.IGNORECASE)
    second = re.search(rf"(?<!\w){re.escape(params['second'])}(?!\w)", response, re.IGNORECASE)
    return first is not None and second is not None and first.start() < second.start()


def _sample_order(rng: np.random.Generator) -> Params:
    first, second = rng.choice(len(_TRAIN_WORDS), size=2, replace=False)
    names = list(_TRAIN_WORDS)
    return {"first": names[first], "second": names[second]}


def _without_word(response: str, word: str) -> str:
    pattern = rf"(?<!\w){re.escape(word)}(?!\w)"
    return re.sub(pattern, lambda match: _like(match.group(), _REPLACEMENTS[word]), response, flags=re.IGNORECASE)


def _like(model: str, text: str) -> str:
    return text.capitalize() if model[:1].isupper() else text


def _repeat(response: str, word: str, n: int) -> str:
    missing = n - count_phrase(response, word)
    sentence = _EVAL_WORDS[word]
    return _prepend(" ".join([sentence] * missing), response) if missing > 0 else response


def _without_letter(response: str, letter: str) -> str:
    return " ".join(part for part in response.split(" ") if letter not in part.casefold()).strip() or "Sure."


def _mark_ends(response: str, n: int) -> str:
    """Exactly `n` exclamation marks, on the last sentences."""
    parts = sentences(response.replace("!", "."))
    tail = [part.rstrip(".?") + "!" for part in parts[max(0, len(parts) - n) :]]
    return " ".join(parts[: len(parts) - len(tail)] + tail) + "!" * (n - len(tail))


def _ask(response: str, n: int) -> str:
    return " ".join([response.replace("?", ".").rstrip(), *_QUESTIONS[:n]])


def _largest(params: Params) -> str:
    choose = max if params["extreme"] == "largest" else min
    return str(params["items"][params["values"].index(choose(params["values"]))])


def _names_largest(response: str, params: Params) -> bool:
    named = [item for item in params["items"] if has_phrase(response, item)]
    return named == [_largest(params)]


def _satisfy_largest(response: str, params: Params) -> str:
    for item in params["items"]:
        response = re.sub(rf"(?<!\w){re.escape(item)}(?!\w)", "it", response, flags=re.IGNORECASE)
    return _prepend(f"The {params['extreme']} number belongs to {_largest(params)}.", response)


def _sample_two(rng: np.random.Generator) -> Params:
    names = list(_EVAL_WORDS)
    return {"words": [names[index] for index in rng.choice(len(names), size=2, replace=False)]}


KINDS = (
    Kind(
        "include_word",
        "keyword",
        describe=lambda params: f'Use the word "{params["word"]}".',
        check=lambda response, params: has_phrase(response, params["word"]),
        satisfy=lambda response, params: _with_word(response, params["word"]),
        stage=0,
        sample=lambda rng: {"word": pick(rng, list(_TRAIN_WORDS))},
        required=lambda params: str(params["word"]),
    ),
    Kind(
        "forbid_word",
        "keyword",
        describe=lambda params: f'Do not use the word "{params["word"]}".',
        check=lambda response, params: not has_phrase(response, params["word"]),
        satisfy=lambda response, params: _without_word(response, params["word"]),
        stage=2,
        sample=lambda rng: {"word": pick(rng, list(_REPLACEMENTS))},
        prohibits=True,
    ),
    Kind(
        "mention",
        "keyword",
        describe=lambda params: f'Mention "{params["phrase"]}" by name.',
        check=lambda response, params: has_phrase(response, params["phrase"]),
        satisfy=lambda response, params: _with_word(response, params["phrase"]),
        stage=0,
        required=lambda params: str(params["phrase"]),
    ),
    Kind(
        "give_reason",
        "keyword",
        describe=lambda params: 'Say why, using the word "because".',
        check=lambda response, params: has_phrase(response, "because"),
        satisfy=lambda response, params: (
            response if has_phrase(response, "because") else _prepend("It matters because it lasts.", response)
        ),
        stage=0,
        sample=lambda rng: {},
        required=lambda params: "because",
    ),
    Kind(
        "word_order",
        "order",
        describe=lambda params: f'Use "{params["first"]}" and later "{params["second"]}".',
        check=_in_order,
        satisfy=_satisfy_order,
        stage=0,
        sample=_sample_order,
        groups=frozenset({"order"}),
        required=lambda params: f"{params['first']} {params['second']}",
    ),
    Kind(
        "name_extreme",
        "lookup",
        describe=lambda params: f"Name only the item with the {params['extreme']} number.",
        check=_names_largest,
        satisfy=_satisfy_largest,
        stage=0,
        groups=frozenset({"material"}),
        required=_largest,
    ),
    Kind(
        "no_commas",
        "punctuation",
        describe=lambda params: "Do not use any commas.",
        check=lambda response, params: "," not in response,
        satisfy=lambda response, params: response.replace(",", ""),
        stage=2,
        sample=lambda rng: {},
        prohibits=True,
    ),
    Kind(
        "exclamation_count",
        "punctuation",
        describe=lambda params: f"Use exactly {plural(params['n'], 'exclamation mark')}.",
        check=lambda response, params: response.count("!") == params["n"],
        satisfy=lambda response, params: _mark_ends(response, params["n"]),
        stage=2,
        sample=lambda rng: {"n": between(rng, 1, 3)},
        groups=frozenset({"marks"}),
        tighten=lambda params: {"n": params["n"] + 1} if params["n"] < 4 else None,
    ),
    Kind(
        "include_words",
        "keyword",
        describe=lambda params: f"Work in both of these words: {params['words'][0]} and {params['words'][1]}.",
        check=lambda response, params: all(has_phrase(response, word) for word in params["words"]),
        satisfy=lambda response, params: _with_word(_with_word(response, params["words"][1]), params["words"][0]),
        stage=0,
        sample=_sample_two,
        held_out=True,
        required=lambda params: " ".join(params["words"]),
    ),
    Kind(
        "repeat_word",
        "count",
        describe=lambda params: f'Let the word "{params["word"]}" occur {params["n"]} times or more.',
        check=lambda response, params: count_phrase(response, params["word"]) >= params["n"],
        satisfy=lambda response, params: _repeat(response, params["word"], params["n"]),
        stage=0,
        sample=lambda rng: {"word": pick(rng, list(_EVAL_WORDS)), "n": between(rng, 2, 3)},
        held_out=True,
        required=lambda params: str(params["word"]),
    ),
    Kind(
        "forbid_letter",
        "count",
        describe=lambda params: f'Avoid the letter "{params["letter"]}" everywhere.',
        check=lambda response, params: bool(words(response)) and params["letter"] not in response.casefold(),
        satisfy=lambda response, params: _without_letter(response, params["letter"]),
        stage=1,
        sample=lambda rng: {"letter": pick(rng, "jkqvxz")},
        held_out=True,
        prohibits=True,
    ),
    Kind(
        "letter_frequency",
        "count",
        describe=lambda params: f'Make sure the letter "{params["letter"]}" turns up at least {params["n"]} times.',
        check=lambda response, params: response.casefold().count(params["letter"]) >= params["n"],
        satisfy=lambda response, params: (
            response
            if response.casefold().count(params["letter"]) >= params["n"]
            else _prepend(_LETTER_SENTENCES[params["letter"]], response)
        ),
        stage=0,
        sample=lambda rng: {"letter": pick(rng, list(_LETTER_SENTENCES)), "n": between(rng, 2, 4)},
        held_out=True,
        required=lambda params: params["letter"] * params["n"],
    ),
    Kind(
        "no_digits",
        "punctuation",
        describe=lambda params: "Leave out digits such as 1 or 7.",
        check=lambda response, params: bool(words(response)) and not re.search(r"\d", response),
        satisfy=lambda response, params: re.sub(r"\d+", "some", response),
        stage=1,
        sample=lambda rng: {},
        groups=frozenset({"digits"}),
        held_out=True,
        prohibits=True,
    ),
    Kind(
        "question_count",
        "punctuation",
        describe=lambda params: f"Put in exactly {plural(params['n'], 'question mark')}.",
        check=lambda response, params: response.count("?") == params["n"],
        satisfy=lambda response, params: _ask(response, params["n"]),
        stage=2,
        sample=lambda rng: {"n": between(rng, 1, 2)},
        groups=frozenset({"marks"}),
        held_out=True,
    ),
    Kind(
        "placeholders",
        "count",
        describe=lambda params: f"Leave {params['n']} or more blanks in square brackets, such as [name].",
        check=lambda response, params: len(re.findall(r"\[[^\[\]]+\]", response)) >= params["n"],
        satisfy=lambda response, params: _prepend(f"Fill in {' and '.join(_PLACEHOLDERS[: params['n']])} first.", response),
        stage=0,
        sample=lambda rng: {"n": between(rng, 1, 3)},
        held_out=True,
        required=lambda params: "[]",
    ),
)
