"""Constraint kinds on the shape of a response: lists, wrapping, case, first and last words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from harness.instructions.kind import Kind, Params
from harness.instructions.texts import WORD, between, distribute, lines, padded_sentences, pick, plural, put_before, words

_START_PHRASES = ("Answer:", "Well then", "In short", "Here it is", "To begin with", "Let us see", "My reply")
_END_PHRASES = ("That is all.", "I hope this helps.", "End of reply.", "Over to you.", "Good luck with it.")
_KEYS = ("answer", "reply", "result", "text")
_TITLES = ("A Short Note", "The Main Point", "What To Know")


def _bullets(response: str) -> list[str]:
    return [line[2:].strip() for line in lines(response) if line.startswith(("- ", "* "))]


def _numbered(response: str) -> list[int]:
    return [int(match.group(1)) for line in lines(response) if (match := re.match(r"(\d{1,3})\. \S", line))]


def _listed(mark: Callable[[int], str]) -> Callable[[str, Params], str]:
    def satisfy(response: str, params: Params) -> str:
        runs = distribute(padded_sentences(response, params["n"]), params["n"])
        return "\n".join(f"{mark(index)} {run}" for index, run in enumerate(runs, 1))

    return satisfy


def _sorted_bullets(response: str, params: Params) -> str:
    runs = distribute(padded_sentences(response, params["n"]), params["n"])
    return "\n".join(f"- {run}" for run in sorted(runs, key=str.casefold))


def _bullets_in_order(response: str, params: Params) -> bool:
    found = [bullet.casefold() for bullet in _bullets(response)]
    return len(found) == params["n"] and found == sorted(found)


def _steps_in_order(response: str, params: Params) -> bool:
    numbers = [int(number) for number in re.findall(r"\bstep (\d{1,3}):", response, re.IGNORECASE)]
    return numbers == list(range(1, params["n"] + 1))


def _json_value(response: str, key: str) -> str | None:
    """The value under the object's only key as text, None where the response is no such object."""
    try:
        value = json.loads(response)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or list(value) != [key] or not isinstance(value[key], str | int | float):
        return None
    return str(value[key])


def _unwrap_json(response: str, params: Params) -> str:
    value = _json_value(response, params["key"])
    return response if value is None else value


def _is_quoted(response: str) -> bool:
    text = response.strip()
    return len(text) > 2 and text[0] == text[-1] == '"'


def _starts(response: str, phrase: str) -> bool:
    text = response.strip()
    return text[: len(phrase)].casefold() == phrase.casefold() and bool(WORD.search(text[len(phrase) :]))


def _ends(response: str, phrase: str) -> bool:
    text = response.strip()
    return text[-len(phrase) :].casefold() == phrase.casefold() and bool(WORD.search(text[: -len(phrase)]))


def _bold(response: str, n: int) -> str:
    starts = [match for match in WORD.finditer(response) if len(match.group()) > 2]
    chosen = starts[:: max(1, len(starts) // n)][:n] if starts else []
    for match in reversed(chosen):
        response = f"{response[: match.start()]}**{match.group()}**{response[match.end() :]}"
    return response


def _capitals(response: str) -> list[str]:
    return [word for word in words(response) if len(word) > 1 and word.isupper()]


def _capitalise_some(response: str, n: int) -> str:
    missing = n - len(_capitals(response))
    candidates = [match for match in WORD.finditer(response) if len(match.group()) > 3 and not match.group().isupper()]
    for match in candidates[: max(0, missing)]:
        response = f"{response[: match.start()]}{match.group().upper()}{response[match.end() :]}"
    return response


def _echo_first_word(response: str, params: Params) -> str:
    first = words(response)[:1]
    return f"{response.rstrip()} {first[0].capitalize()}." if first else response


def _echoes(response: str, params: Params) -> bool:
    found = [word.casefold() for word in words(response)]
    return len(found) > 1 and found[0] == found[-1]


def _up_to(limit: int) -> Callable[[Params], Params | None]:
    def tighten(params: Params) -> Params | None:
        return {**params, "n": params["n"] + 1} if params["n"] < limit else None

    return tighten


CASE = frozenset({"case"})
LAYOUT = frozenset({"layout"})

KINDS = (
    Kind(
        "bullet_count",
        "format",
        describe=lambda params: f'Write exactly {plural(params["n"], "bullet point")}, each starting with "- ".',
        check=lambda response, params: len(_bullets(response)) == params["n"],
        satisfy=_listed(lambda index: "-"),
        stage=3,
        sample=lambda rng: {"n": between(rng, 2, 4)},
        groups=LAYOUT,
        tighten=_up_to(6),
    ),
    Kind(
        "step_labels",
        "format",
        describe=lambda params: f'Work in {params["n"]} labelled steps: "Step 1:" to "Step {params["n"]}:".',
        check=_steps_in_order,
        satisfy=_listed(lambda index: f"Step {index}:"),
        stage=3,
        sample=lambda rng: {"n": between(rng, 2, 3)},
        groups=LAYOUT | {"digits"},
        tighten=_up_to(5),
    ),
    Kind(
        "json_object",
        "format",
        describe=lambda params: f'Reply as a JSON object with the single key "{params["key"]}".',
        check=lambda response, params: bool((_json_value(response, params["key"]) or "").strip()),
        satisfy=lambda response, params: json.dumps({params["key"]: response}, ensure_ascii=False),
        stage=6,
        sample=lambda rng: {"key": pick(rng, _KEYS)},
        groups=frozenset({"layout", "opening", "closing", "case"}),
        required=lambda params: str(params["key"]),
        unwrap=_unwrap_json,
    ),
    Kind(
        "quoted",
        "format",
        describe=lambda params: "Wrap the whole reply in double quotation marks.",
        check=lambda response, params: _is_quoted(response),
        satisfy=lambda response, params: f'"{response.strip()}"',
        stage=6,
        sample=lambda rng: {},
        groups=frozenset({"layout", "opening", "closing"}),
        unwrap=lambda response, params: response.strip()[1:-1] if _is_quoted(response) else response,
    ),
    Kind(
        "title_line",
        "format",
        describe=lambda params: "Put a title in double angle brackets first, like <<Title>>.",
        check=lambda response, params: bool(re.match(r"<<[^<>\n]+>>", response.strip())),
        satisfy=lambda response, params: f"<<{_TITLES[len(response) % len(_TITLES)]}>>\n{response}",
        stage=5,
        sample=lambda rng: {},
        groups=frozenset({"opening", "sentences"}),
    ),
    Kind(
        "highlight",
        "format",
        describe=lambda params: f"Mark at least {plural(params['n'], 'word')} in bold with **double asterisks**.",
        check=lambda response, params: len(re.findall(r"\*\*[^*\n]+\*\*", response)) >= params["n"],
        satisfy=lambda response, params: _bold(response, params["n"]),
        stage=4,
        sample=lambda rng: {"n": between(rng, 1, 3)},
        tighten=_up_to(4),
    ),
    Kind(
        "all_lowercase",
        "case",
        describe=lambda params: "Write in lowercase letters only.",
        check=lambda response, params: response == response.lower() and bool(words(response)),
        satisfy=lambda response, params: response.lower(),
        stage=7,
        sample=lambda rng: {},
        groups=CASE,
        unwrap=lambda response, params: response,
        textual=True,
    ),
    Kind(
        "all_uppercase",
        "case",
        describe=lambda params: "Write in capital letters only.",
        check=lambda response, params: response == response.upper() and bool(words(response)),
        satisfy=lambda response, params: response.upper(),
        stage=7,
        sample=lambda rng: {},
        groups=CASE,
        unwrap=lambda response, params: response,
        textual=True,
    ),
    Kind(
        "start_phrase",
        "start_end",
        describe=lambda params: f'Begin with the words "{params["phrase"]}".',
        check=lambda response, params: _starts(response, params["phrase"]),
        satisfy=lambda response, params: put_before(response, params["phrase"]),
        stage=5,
        sample=lambda rng: {"phrase": pick(rng, _START_PHRASES)},
        groups=frozenset({"opening"}),
        required=lambda params: str(params["phrase"]),
        unwrap=lambda response, params: (
            response.strip()[len(params["phrase"]) :].strip() if _starts(response, params["phrase"]) else response
        ),
    ),
    Kind(
        "end_phrase",
        "start_end",
        describe=lambda params: f'Finish with the words "{params["phrase"]}".',
        check=lambda response, params: _ends(response, params["phrase"]),
        satisfy=lambda response, params: f"{response.rstrip()} {params['phrase']}",
        stage=5,
        sample=lambda rng: {"phrase": pick(rng, _END_PHRASES)},
        groups=frozenset({"closing", "sentences"}),
        required=lambda params: str(params["phrase"]),
        unwrap=lambda response, params: (
            response.strip()[: -len(params["phrase"])].strip() if _ends(response, params["phrase"]) else response
        ),
    ),
    Kind(
        "numbered_list",
        "format",
        describe=lambda params: f"Give a numbered list that runs from 1. to {params['n']}. with one entry a line.",
        check=lambda response, params: _numbered(response) == list(range(1, params["n"] + 1)),
        satisfy=_listed(lambda index: f"{index}."),
        stage=3,
        sample=lambda rng: {"n": between(rng, 2, 4)},
        groups=LAYOUT | {"digits"},
        held_out=True,
    ),
    Kind(
        "bullets_sorted",
        "order",
        describe=lambda params: f"Answer in {params['n']} hyphen bullets sorted from A to Z.",
        check=_bullets_in_order,
        satisfy=_sorted_bullets,
        stage=3,
        sample=lambda rng: {"n": between(rng, 2, 4)},
        groups=LAYOUT,
        held_out=True,
    ),
    Kind(
        "title_case",
        "case",
        describe=lambda params: "Capitalise The First Letter Of Every Word.",
        check=lambda response, params: bool(words(response)) and all(word[0] == word[0].upper() for word in words(response)),
        satisfy=lambda response, params: WORD.sub(lambda match: match.group()[0].upper() + match.group()[1:], response),
        stage=7,
        sample=lambda rng: {},
        groups=CASE,
        held_out=True,
    ),
    Kind(
        "capital_words",
        "case",
        describe=lambda params: f"Shout {plural(params['n'], 'word')} or more by spelling them in CAPITALS.",
        check=lambda response, params: len(_capitals(response)) >= params["n"],
        satisfy=lambda response, params: _capitalise_some(response, params["n"]),
        stage=7,
        sample=lambda rng: {"n": between(rng, 1, 3)},
        groups=CASE,
        held_out=True,
    ),
    Kind(
        "postscript",
        "start_end",
        describe=lambda params: "Add a postscript after the text, opened by P.S. on a new line.",
        check=lambda response, params: bool(re.search(r"\w.*\n\s*p\.s\. *\w", response, re.IGNORECASE)),
        satisfy=lambda response, params: f"{response.rstrip()}\n\nP.S. Write back when it suits.",
        stage=5,
        sample=lambda rng: {},
        groups=frozenset({"closing", "paragraphs"}),
        held_out=True,
        required=lambda params: "P.S.",
    ),
    Kind(
        "same_start_end",
        "start_end",
        describe=lambda params: "Close on the very same word that you opened with.",
        check=_echoes,
        satisfy=_echo_first_word,
        stage=5,
        sample=lambda rng: {},
        groups=frozenset({"opening", "closing", "layout"}),
        held_out=True,
    ),
)
