"""From a YAML file to a StudySpec, or to one message that says where the mistake is."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from harness.core import plugins
from harness.core.spec import StudySpec
from harness.core.suite_spec import SuiteSpec
from harness.errors import SpecError

Location = tuple[str | int, ...]


class StudyFile:
    """A study file while it is checked: remembers the line of every key for messages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Location, int] = {}

    def load(self) -> StudySpec:
        """The checked study.

        Raises:
            SpecError: the first mistake found.
        """
        content = self._parse()
        if not isinstance(content, dict):
            raise SpecError("a study file must be a mapping of keys such as name, student, methods", file=self.path)
        study = self._validated(StudySpec, content, ())
        assert isinstance(study, StudySpec)
        self._check_plugins(study)
        self._check_claims(study)
        return study

    def fail(self, expected: str, location: Location, value: object = None, valid: Iterable[str] = ()) -> SpecError:
        """The error for a place in the file."""
        line = next((self.lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in self.lines), None)
        file = f"{self.path}:{line}" if line else str(self.path)
        return SpecError(expected.removesuffix("."), file=file, key=key_path(location), value=value, valid=valid)

    def _parse(self) -> Any:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            near = [str(path) for path in self.path.parent.glob("*.y*ml")] if self.path.parent.is_dir() else []
            raise SpecError("no such study file", value=str(self.path), valid=near) from None
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"cannot be read: {error}", file=self.path) from error
        try:
            root = yaml.compose(text, Loader=_Loader)
            if root is None:
                raise SpecError("the file is empty", file=self.path)
            self._note_lines(root, ())
            return yaml.load(text, Loader=_Loader)  # a SafeLoader
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            file = f"{self.path}:{mark.line + 1}" if mark else str(self.path)
            raise SpecError(f"not valid YAML: {error.problem or error.context}", file=file) from error
        except yaml.YAMLError as error:
            raise SpecError(f"not valid YAML: {error}", file=self.path) from error

    def _note_lines(self, node: yaml.Node, location: Location) -> None:
        self.lines[location] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                inner = (*location, str(key.value))
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

    def _validated(self, model: type[BaseModel], content: Any, at: Location) -> BaseModel:
        try:
            return model.model_validate(content)
        except ValidationError as error:
            raise self._explain(model, error, content, at) from None

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
        message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
        expected = first.get("ctx", {}).get("expected", "")
        valid = re.findall(r"'([^']*)'", expected) if first["type"] in ("literal_error", "enum") else ()
        value = first["input"] if not isinstance(first["input"], dict | list) else None
        return self.fail("not a valid value" if valid else message, location, value, valid)

    def _check_plugins(self, study: StudySpec) -> None:
        self._check_config("pools", study.pool.name, study.pool.config, ("pool",))
        for index, method in enumerate(study.methods):
            self._check_config("methods", method.name, method.config, ("methods", index))
        for index, suite in enumerate(study.suites):
            self._check_suite(suite, ("suites", index))
        known = import_module("harness.scoring.perturbations").PERTURBATIONS
        for index, name in enumerate(study.perturbations):
            if name not in known:
                raise self.fail("unknown perturbation", ("perturbations", index), name, known)
        self._validated(import_module("harness.scoring.cost").Prices, study.prices, ("prices",))

    def _check_config(self, kind: plugins.Kind, name: str, config: dict[str, Any], at: Location) -> None:
        if name not in plugins.names(kind):
            raise self.fail(f"unknown {kind.removesuffix('s')}", (*at, "name"), name, plugins.names(kind))
        plugin = plugins.load(kind, name, file=self.path, key=key_path((*at, "name")))
        self._validated(plugin.Config, config, (*at, "config"))

    def _check_suite(self, suite: SuiteSpec, at: Location) -> None:
        if suite.name not in plugins.names("suites"):
            raise self.fail("unknown suite", (*at, "name"), suite.name, plugins.names("suites"))
        offered = [task.name for task in plugins.load("suites", suite.name, file=self.path).tasks]
        for index, name in enumerate(suite.tasks or ()):
            if name not in offered:
                raise self.fail(f"suite {suite.name} has no such task", (*at, "tasks", index), name, offered)
        for name in suite.limit if isinstance(suite.limit, dict) else ():
            if name not in offered:
                raise self.fail(f"suite {suite.name} has no such task", (*at, "limit", name), name, offered)

    def _check_claims(self, study: StudySpec) -> None:
        for index, name in enumerate(study.claims):
            try:
                import_module("harness.verdicts.claims").find_claims(name, self.path.parent)
            except SpecError as error:
                raise self.fail(str(error), ("claims", index)) from error


def key_path(location: Location) -> str:
    """A location as users write it: ("methods", 0, "name") → methods[0].name."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


class _Loader(yaml.SafeLoader):
    """A safe loader that reads 8e12 as a number, as YAML 1.2 has it."""


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789."))


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
