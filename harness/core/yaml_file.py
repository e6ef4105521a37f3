"""YAML files that users write, read strictly: one message says where the mistake is, for study files and claim files alike."""

from __future__ import annotations

import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from harness.errors import SpecError

Location = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)
MOST_VALUES = 500_000
"""More in one file, what aliases repeat counted each time, is a mistake or an attack: ten lines can name billions."""
MOST_DIGITS = 18
"""Of a whole number, read in base ten: longer ones do not fit the 64 bits that tables and random generators hold."""
DEEPEST = 100
"""Nesting that libyaml is trusted with; a study file needs less than ten levels."""
MERGE = "tag:yaml.org,2002:merge"
"""YAML's `<<`: takes in another mapping's keys."""


class YamlFile:
    """A file while it is checked: remembers the line of every key for messages. `kind` is what messages call it: "study", "claim"."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self.lines: dict[Location, int] = {}
        self._values = 0

    def read(self) -> Any:
        """The file's content, with the line of every key noted for messages.

        Raises:
            SpecError: it cannot be read, is no YAML, is empty, or has a key twice or one that is no text.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise SpecError(f"no such {self.kind} file", value=str(self.path), valid=self._near()) from None
        except UnicodeDecodeError as error:
            raise SpecError("not a text file", file=self.path) from error
        except OSError as error:
            raise SpecError(f"cannot be read: {error.strerror}", file=self.path) from error
        try:
            root, construct = _parsed(text)  # once, for lines and content
            if root is None:
                raise SpecError("the file is empty", file=self.path)
            try:
                self._note_lines(root, ())
                return construct(root)
            except (KeyError, AttributeError) as error:  # what PyYAML's !!bool and !!timestamp make of other text
                raise ValueError(str(error)) from error
        except yaml.MarkedYAMLError as error:
            mark, problem = error.problem_mark, error.problem or ""
            file = f"{self.path}:{mark.line + 1}" if mark else str(self.path)
            # Some problems only continue the sentence that the context begins.
            told = ", ".join(filter(None, [error.context if problem.startswith("but ") or not problem else "", problem]))
            raise SpecError(f"not valid YAML: {told}", file=file) from error
        except yaml.reader.ReaderError as error:
            raise SpecError("not a text file: it holds control characters", file=self.path) from error
        except yaml.YAMLError as error:
            raise SpecError(f"not valid YAML: {' '.join(str(error).split())}", file=self.path) from error
        except RecursionError:
            raise SpecError("not valid YAML: nested too deeply, or an alias that contains itself", file=self.path) from None
        except SpecError:
            raise
        except ValueError as error:  # what a tag such as !!int makes of its text
            raise SpecError(f"not valid YAML: {error}", file=self.path) from error

    def _near(self) -> list[str]:
        """Of the YAML files beside a missing one, the one with the nearest name."""
        beside = {path.stem: str(path) for path in self.path.parent.glob("*.y*ml")} if self.path.parent.is_dir() else {}
        return [beside[stem] for stem in difflib.get_close_matches(self.path.stem, beside, n=1)]

    def _note_lines(self, node: yaml.Node, location: Location) -> None:
        self.lines[location] = node.start_mark.line + 1
        self._values += 1
        if self._values > MOST_VALUES:
            raise self.fail(f"more than {MOST_VALUES:,} values, with what aliases repeat", location)
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node, location)
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                inner = (*location, str(key.value) if isinstance(key, yaml.ScalarNode) else "?")
                if key.tag == MERGE:
                    # The lines of what is merged in; keys of this mapping's own overwrite them.
                    for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                        self._note_lines(merged, location)
                    self.lines[location] = node.start_mark.line + 1
                    continue
                if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                    self.lines[inner] = key.start_mark.line + 1
                    raise self.fail("keys must be text", inner)
                if key.value in seen:
                    self.lines[inner] = key.start_mark.line + 1
                    raise self.fail("the key is written twice", inner)
                seen.add(key.value)
                self._note_lines(value, inner)
                self.lines[inner] = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._note_lines(value, (*location, index))

    def _check_scalar(self, node: yaml.ScalarNode, location: Location) -> None:
        """Refuses what Python reads and files, tables and random generators do not hold."""
        if not node.value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in node.value):
            raise self.fail("not a text: it holds half of a surrogate pair", location)
        if node.tag == "tag:yaml.org,2002:int" and abs(_NUMBERS.construct_yaml_int(node)) >= 10**MOST_DIGITS:
            raise self.fail(f"expected a number of at most {MOST_DIGITS} digits", location)
        if node.tag == "tag:yaml.org,2002:float" and not math.isfinite(_NUMBERS.construct_yaml_float(node)):
            raise self.fail("expected a finite number", location, node.value)

    def validated(self, model: type[M], content: Any, at: Location = ()) -> M:
        """`content`, which stands at `at` in the file, as a checked `model`.

        Raises:
            SpecError: the first mistake, with file and line, key, value, what was expected and the nearest valid name.
        """
        try:
            checked = model.model_validate(content)
        except ValidationError as error:
            raise self._explain(model, error, content, at) from None
        for inner, value, kept in _converted(content, checked):
            expected = "expected true or false" if isinstance(kept, bool) else f"expected a number, not {_kind(value)}"
            raise self.fail(expected, (*at, *inner), value)
        return checked

    def _explain(self, model: type[BaseModel], error: ValidationError, content: Any, at: Location) -> SpecError:
        # Misspelt keys come first: they are why a required key seems to be missing. Of a union's branches, the one that fits furthest.
        found = [(item, _within(content, item["loc"])) for item in error.errors()]
        first, inner = min(found, key=lambda pair: (pair[0]["type"] != "extra_forbidden", -len(pair[1])))
        location: Location = (*at, *inner)
        if first["type"] == "extra_forbidden":
            owner = _model_at(model, inner[:-1])
            return self.fail("unknown key", location, inner[-1], list(owner.model_fields) if owner else ())
        if first["type"] == "missing":
            return self.fail("this key is required", (*location, first["loc"][-1]))
        expected = first.get("ctx", {}).get("expected", "")
        valid = re.findall(r"'([^']*)'", expected) if first["type"] in ("literal_error", "enum") else ()
        message = "not a valid value" if valid else _message(first, _model_at(model, inner))
        value = first["input"] if _is_short(first["input"]) and "(got " not in message else None
        return self.fail(message, location, value, valid)

    def fail(self, expected: str, location: Location, value: object = None, valid: Iterable[str] = ()) -> SpecError:
        """The error for a place in the file."""
        line = next((self.lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in self.lines), None)
        file = f"{self.path}:{line}" if line else str(self.path)
        return SpecError(expected.removesuffix("."), file=file, key=key_path(location), value=value, valid=valid)


def key_path(location: Location) -> str:
    """A location as users write it: ("methods", 0, "name") → methods[0].name."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _converted(content: Any, checked: Any, at: Location = ()) -> Iterator[tuple[Location, object, object]]:
    """Scalars that a model read as another type: `true` or "8" as a number, 1 or "yes" as a truth value; each with what became of it."""
    if content is checked:
        return
    if isinstance(content, dict):
        inside = vars(checked) if isinstance(checked, BaseModel) else checked if isinstance(checked, dict) else {}
        for key, value in content.items():
            if key in inside:
                yield from _converted(value, inside[key], (*at, key))
    elif isinstance(content, list):
        if isinstance(checked, list | tuple):
            for index, (value, kept) in enumerate(zip(content, checked, strict=False)):
                yield from _converted(value, kept, (*at, index))
    elif isinstance(checked, int | float) and (isinstance(content, str) or isinstance(checked, bool) != isinstance(content, bool)):
        yield at, content, checked


def _kind(value: object) -> str:
    return "a truth value" if isinstance(value, bool) else "text"


def _is_short(value: object) -> bool:
    """Whether a message can quote a value: a scalar, or a short list of scalars."""
    if isinstance(value, list):
        return len(repr(value)) <= 60 and all(isinstance(part, str | int | float) for part in value)
    return not isinstance(value, dict)


def _message(error: Any, owner: type[BaseModel] | None) -> str:
    """What was expected, in the words of a study file rather than pydantic's."""
    match error["type"]:
        case "model_type" | "model_attributes_type" if owner is not None:
            return f"must be a mapping with the keys {', '.join(owner.model_fields)}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "must be a mapping"
        case "list_type" | "tuple_type":
            return "must be a list"
        case "too_short":
            return f"must have at least {error['ctx']['min_length']} entry"
        case "string_pattern_mismatch":
            return f"must match {error['ctx']['pattern']}"
        case "string_type":
            return "must be text"
    return str(error["msg"]).removeprefix("Value error, ").replace("Input should", "should")


def _parsed(text: str) -> tuple[yaml.Node | None, Callable[[yaml.Node], Any]]:
    """The document's root, and what makes content of it: read by libyaml, ten times as fast, where it is there and can.

    What libyaml cannot read, PyYAML reads again: its messages say more. What holds a mark that libyaml allows in more places, PyYAML reads
    alone, so that a file is as valid where libyaml is missing. So is what is nested deeply: PyYAML's recursion ends in an error, and that
    of the binding to libyaml in a crash.
    """
    if _FastLoader is not None and not _READ_OTHERWISE.search(text):
        try:
            if not _nests_deeply(text, _FastLoader):
                loader = _FastLoader(text)
                return loader.get_single_node(), loader.construct_document
        except yaml.YAMLError:
            pass
    slow = _Loader(text)
    return slow.get_single_node(), slow.construct_document


def _nests_deeply(text: str, loader: Any) -> bool:
    """Whether the document nests more than DEEPEST levels; looks no further than there, because thousands take libyaml minutes."""
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            return True
    return False


class _Loader(yaml.SafeLoader):
    """A safe loader that reads 8e12 as a number, as YAML 1.2 has it, and 2024-10-05 as text."""


_Loader.yaml_implicit_resolvers = {
    key: [pair for pair in value if pair[0] != "tag:yaml.org,2002:timestamp"]
    for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789."))

_NUMBERS = yaml.constructor.SafeConstructor()
_READ_OTHERWISE = re.compile(r"[\t\ufeff!?]|---|[|>][-+0-9]*#")

if yaml.__with_libyaml__:

    class _LibyamlLoader(yaml.CSafeLoader):
        """The same by libyaml."""

    _LibyamlLoader.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
_FastLoader: Any = _LibyamlLoader if yaml.__with_libyaml__ else None


def _within(content: Any, location: Location) -> Location:
    """The parts of a pydantic location that exist in the file: pydantic also names the branches of unions."""
    kept: list[str | int] = []
    for part in location:
        present = part in content if isinstance(content, dict) else isinstance(content, list) and isinstance(part, int)
        if present:
            content = content[part]
            kept.append(part)
    return tuple(kept)


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    current: Any = model
    for part in location:
        if isinstance(part, int):
            (current, *_) = typing.get_args(current) or (None,)
        elif isinstance(current, type) and issubclass(current, BaseModel) and part in current.model_fields:
            current = current.model_fields[part].annotation
        else:
            return None
        if typing.get_origin(current) in (typing.Union, types.UnionType):
            current = next((arg for arg in typing.get_args(current) if arg is not type(None)), None)
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None
