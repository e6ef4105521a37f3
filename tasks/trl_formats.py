"""Demonstrations, preferences and prompts in the formats that TRL's trainers read, row by row, each mistake with its place.

    demonstrations   prompt + completion | messages
    preferences      prompt + chosen + rejected | chosen + rejected (the prompt is what they have in common)
    prompts          prompt
    any of them      answer: the gold answer of the prompt, for exact match

Texts (TRL's standard format) or lists of turns with role and content (its conversational format), and both mixed as TRL allows: a text as
`prompt` beside whole conversations as `chosen` and `rejected`. An instruction here is one user turn: a system turn before it becomes its
first paragraph, earlier turns are refused. White space around texts is dropped, because the chat template puts its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from harness.errors import SpecError
from tasks.tables import Row

Kind = Literal["demonstrations", "preferences", "prompts"]
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "demonstrations": ("prompt", "completion", "messages", "answer"),
    "preferences": ("prompt", "chosen", "rejected", "answer"),
    "prompts": ("prompt", "answer"),
}
FORMATS: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "demonstrations": (("prompt", "completion"), ("messages",)),
    "preferences": (("prompt", "chosen", "rejected"), ("chosen", "rejected")),
    "prompts": (("prompt",),),
}
"""Columns that a format needs, the preferred format first."""
_ROLES = ("system", "user", "assistant")


class BadRow(Exception):
    """Why one row cannot be used: `key` is the column as the user's file calls it."""

    def __init__(self, key: str | None, expected: str) -> None:
        super().__init__(expected)
        self.key, self.expected = key, expected


@dataclass(frozen=True)
class Item:
    """A usable row: the instruction's text and what belongs to it."""

    where: str
    prompt: str
    completion: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    answer: str | None = None

    @property
    def texts(self) -> list[str]:
        """Everything that a student could learn from."""
        return [text for text in (self.prompt, self.completion, self.chosen, self.rejected, self.answer) if text is not None]


@dataclass(frozen=True)
class Parsed:
    """A table's usable rows, and how many were not (only where the settings allow it)."""

    items: list[Item]
    skipped: int

    @cached_property
    def sha256(self) -> str:
        """Of all that the items say, in order, wherever they stand."""
        digest = hashlib.sha256()
        for item in self.items:
            row = [item.prompt, item.completion, item.chosen, item.rejected, item.answer]
            digest.update(json.dumps(row).encode() + b"\n")
        return digest.hexdigest()


def parse(rows: Sequence[Row], kind: Kind, *, columns: dict[str, str], skip_bad: bool, key: str, source: str) -> Parsed:
    """The items of a table.

    Args:
        columns: what the file calls our columns, where it differs.
        skip_bad: leave out rows that cannot be used, instead of refusing the file.
        key, source: where the study names the table, and the table itself, for messages.
    Raises:
        SpecError: a column is missing, a row cannot be used (place, column, what was expected), or none can.
    """
    names = {name: columns.get(name, name) for name in COLUMNS[kind]}
    there = list(dict.fromkeys(name for row in rows if row.problem is None for name in row.values))
    read = _reader(kind, names, there, key, source) if there else None
    items: list[Item] = []
    problems: list[SpecError] = []
    for row in rows:
        try:
            if row.problem is not None or read is None:
                raise BadRow(None, row.problem or "the row is empty")
            items.append(read(row))
        except BadRow as bad:
            problems.append(SpecError(bad.expected, file=row.where, key=bad.key))
            if not skip_bad:
                more = "" if len(rows) == 1 else f". {key}.skip_bad: true leaves such rows out and counts them"
                raise SpecError(f"{bad.expected}{more}", file=row.where, key=bad.key) from None
    if not items:
        raise SpecError(f"none of its {len(rows)} rows can be used; the first: {problems[0]}", file=source, key=key)
    return Parsed(items, len(problems))


def _reader(kind: Kind, names: dict[str, str], there: Sequence[str], key: str, source: str) -> Callable[[Row], Item]:
    """How rows with these columns are read."""
    columns = next((needed for needed in FORMATS[kind] if all(names[name] in there for name in needed)), None)
    if columns is None:
        # The format of which most is there: its missing column is what the user got wrong.
        likely = max(FORMATS[kind], key=lambda needed: (sum(names[name] in there for name in needed), -len(needed)))
        missing = next(names[name] for name in likely if names[name] not in there)
        told = " or ".join(" + ".join(needed) for needed in reversed(FORMATS[kind]))
        raise SpecError(
            f"no such column in {source}; {kind} need {told} (TRL's formats), or name your own columns under {key}.columns",
            key=key,
            value=missing,
            valid=there,
        )
    types: dict[str, type] = {}

    def checked(row: Row, name: str) -> Any:
        """A column's value: a text or a list of turns, of the same kind in every row."""
        value = row.values.get(names[name])
        if value is None:
            one_sided = {"chosen": "rejected", "rejected": "chosen"}.get(name)
            tail = f"; a preference needs {names['chosen']} and {names['rejected']}" if one_sided else ""
            raise BadRow(names[name], f"is missing or null{tail}")
        if not isinstance(value, str | list):
            raise BadRow(names[name], f"expected a text or a list of turns, found {type(value).__name__} {value!r:.40}")
        before = types.setdefault(name, type(value))
        if type(value) is not before:
            raise BadRow(names[name], f"expected {_name(before)}, as in the rows before, found {_name(type(value))}")
        return value

    def read(row: Row) -> Item:
        values = {name: checked(row, name) for name in columns}
        if kind == "preferences":
            item = _preference(row.where, values, names)
        elif columns == ("messages",):
            item = Item(row.where, *_conversation(values["messages"], names["messages"]))
        else:
            completion = _completion(values["completion"], names["completion"]) if "completion" in values else None
            item = Item(row.where, _prompt(values["prompt"], names["prompt"]), completion)
        return item if row.values.get(names["answer"]) is None else _with_answer(item, row.values[names["answer"]], names["answer"])

    return read


def _name(kind: type) -> str:
    return "a text" if kind is str else "a list of turns"


def _with_answer(item: Item, answer: object, key: str) -> Item:
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip():
        raise BadRow(key, f"expected an answer as text or number, found {type(answer).__name__} {answer!r:.40}")
    return Item(item.where, item.prompt, item.completion, item.chosen, item.rejected, str(answer).strip())


def _preference(where: str, values: dict[str, Any], names: dict[str, str]) -> Item:
    chosen, rejected = values["chosen"], values["rejected"]
    if type(chosen) is not type(rejected):
        raise BadRow(names["rejected"], f"expected {_name(type(chosen))} like {names['chosen']}, found {_name(type(rejected))}")
    # As in TRL: a text as prompt beside conversations is a copy of what these begin with.
    if "prompt" in values and not (isinstance(chosen, list) and isinstance(values["prompt"], str)):
        prompt = _prompt(values["prompt"], names["prompt"])
    else:
        shared = _shared(chosen, rejected)
        if isinstance(chosen, list):
            for name, turns in (("chosen", chosen), ("rejected", rejected)):
                _turns(turns, names[name])
        if not chosen[shared:] and not rejected[shared:]:
            raise BadRow(names["rejected"], f"is the same as {names['chosen']}: no preference")
        prompt = _prompt(chosen[:shared], names["chosen"], what="what chosen and rejected begin with alike, the prompt,")
        chosen, rejected = chosen[shared:], rejected[shared:]
    better, worse = _completion(chosen, names["chosen"]), _completion(rejected, names["rejected"])
    if better == worse:
        raise BadRow(names["rejected"], f"is the same as {names['chosen']}: no preference")
    return Item(where, prompt, chosen=better, rejected=worse)


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many characters or turns two sequences begin with alike; in texts up to a white space, so that no word is cut."""
    pairs = zip(one, other, strict=False)
    length = next((place for place, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))
    if isinstance(one, str) and (length < len(one) or length < len(other)):
        while length and not one[length - 1].isspace():
            length -= 1
    return length


def _turns(value: list[Any], key: str) -> list[dict[str, str]]:
    """The turns of a conversation, checked: role and text each."""
    for place, turn in enumerate(value):
        at = f"{key}[{place}]"
        if not isinstance(turn, dict) or "role" not in turn or "content" not in turn:
            raise BadRow(at, f"expected a turn with role and content, found {turn!r:.60}")
        if turn["role"] not in _ROLES:
            raise BadRow(f"{at}.role", f"expected {', '.join(_ROLES)}, found {turn['role']!r:.40}")
        if not isinstance(turn["content"], str):
            raise BadRow(f"{at}.content", f"expected a text, found {type(turn['content']).__name__}")
    return value


def _prompt(value: str | list[Any], key: str, *, what: str = "the prompt") -> str:
    """The instruction: a text, or one user turn, after a system turn or not."""
    if isinstance(value, str):
        text = value.strip()
    else:
        turns = _turns(value, key)
        roles = [turn["role"] for turn in turns]
        if roles not in (["user"], ["system", "user"]):
            raise BadRow(key, f"{what} must be one user turn, after a system turn or not, found {', '.join(roles) or 'nothing'}")
        if not turns[-1]["content"].strip():
            raise BadRow(key, "the user's turn is empty")
        text = "\n\n".join(turn["content"].strip() for turn in turns if turn["content"].strip())
    if not text:
        raise BadRow(key, f"{what} is empty")
    return text


def _completion(value: str | list[Any], key: str) -> str:
    """The response: a text, or one assistant turn."""
    if isinstance(value, list):
        turns = _turns(value, key)
        if [turn["role"] for turn in turns] != ["assistant"]:
            raise BadRow(key, f"expected one assistant turn, found {', '.join(turn['role'] for turn in turns) or 'nothing'}")
        value = turns[0]["content"]
    if not value.strip():
        raise BadRow(key, "is empty: there is nothing to learn from it")
    return value.strip()


def _conversation(value: str | list[Any], key: str) -> tuple[str, str]:
    if isinstance(value, str):
        raise BadRow(key, "expected a list of turns with role and content, found a text")
    if not value or _turns(value, key)[-1]["role"] != "assistant":
        raise BadRow(key, "expected a conversation that ends with an assistant turn")
    return _prompt(value[:-1], key, what="what stands before the reply"), _completion(value[-1:], key)
