"""The choices of a multiple-choice document in another order, the gold answer moving along, for any lm-eval task.

Where a task keeps its choices and its gold index is found by trying: a field holds the choices if permuting it changes what the prompt
shows, another the gold index if changing it moves the target; the result is accepted only if the gold answer is word for word what it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

Row = dict[str, Any]
_REFERS = re.compile(
    r"\b(?:all|none|both|neither|either|any|some) of (?:the|these|them)\b|\b(?:above|below)\b|\b(?:both|neither|either) [A-H]\b"
    r"|\b[A-H] (?:and|or|nor) [A-H]\b|\b[A-H], [A-H]\b|\b(?:I|II|III|IV)(?:,| and| only)\b"
    r"|\b(?:first|second|third|last|previous) (?:two|choice|option|answer)\b",
    re.IGNORECASE,
)


def reordered(task: Any, doc: Row, rng: np.random.Generator) -> Row | str:
    """A copy of `doc` with its choices permuted (never the old order), or why there is none."""
    gold = task.doc_to_target(doc)
    if task.OUTPUT_TYPE != "multiple_choice" or not isinstance(gold, int):
        return "it has no list of choices with one gold index"
    fields = list(_choice_fields(doc, len(task.doc_to_choice(doc))))
    if not fields:
        return "the document has no list of its choices"
    if any(_REFERS.search(choice) for _, choices in fields for choice in choices):
        return "a choice refers to the others"
    if any(len(set(choices)) < len(choices) for _, choices in fields):
        return "two choices are the same"
    shown = task.doc_to_text(doc)
    reason = "the gold answer does not move along with the choices"
    for path, choices in fields:
        order = another_order(len(choices), rng)
        permuted, place = _with(doc, path, [choices[index] for index in order]), order.index(gold)
        if task.doc_to_text(permuted) == shown:
            reason = "the prompt does not show the choices"
            continue
        for changed in _with_gold(doc, permuted, gold, place):
            if task.doc_to_target(changed) == place and _answer(task, changed, path, place) == _answer(task, doc, path, gold):
                return changed
    return reason


def _choice_fields(doc: Row, n_choices: int) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Lists of as many texts as there are choices, in the document or one level below (ARC's choices.text); labels are none."""
    for key, value in doc.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for name, found in inner:
            texts = isinstance(found, list) and len(found) == n_choices and all(isinstance(one, str) for one in found)
            if texts and not all(len(one) == 1 for one in found):
                yield ((key, name) if name else (key,)), list(found)


def _with(doc: Row, path: tuple[str, ...], value: Any) -> Row:
    if len(path) == 1:
        return {**doc, path[0]: value}
    return {**doc, path[0]: {**doc[path[0]], path[1]: value}}


def _with_gold(doc: Row, permuted: Row, gold: int, place: int) -> Iterator[Row]:
    """Copies of `permuted` with one field that may be the gold answer's moved from `gold` to `place`; first as it is (gold by text)."""
    yield permuted
    labels = [list("ABCDEFGHIJ"), list("abcdefghij"), [str(number) for number in range(10)], [str(number) for number in range(1, 11)]]
    for key, value in doc.items():
        if isinstance(value, int) and not isinstance(value, bool) and value in (gold, gold + 1):
            yield {**permuted, key: place + value - gold}
        for names in labels if isinstance(value, str) else ():
            if names[gold] == value:
                yield {**permuted, key: names[place]}


def _answer(task: Any, doc: Row, path: tuple[str, ...], index: int) -> tuple[str, str]:
    """The text behind a choice index, in the permuted field and, unless choices are letters, in the task's own list."""
    listed = doc[path[0]] if len(path) == 1 else doc[path[0]][path[1]]
    own = task.doc_to_choice(doc)[index]
    return listed[index], own if len(own) > 1 else ""


def another_order(n: int, rng: np.random.Generator) -> list[int]:
    """A random order of 0..n−1 other than that one (n at least 2)."""
    order = rng.permutation(n)
    if (order == np.arange(n)).all():
        order = np.roll(order, int(rng.integers(1, n)))
    return [int(index) for index in order]
