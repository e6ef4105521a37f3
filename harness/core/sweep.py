"""From a sweep's axes to ordinary methods of the study: one for each variant, with the budget and student it runs at.

The label of a variant says where it differs from the centre: `selfteach:policy=bandit`, `sft:budget=2e12`. What comes to the configuration
that another variant, or the centre, has already is not listed twice. Every setting that an axis varies is written out in every variant, so
that tuned settings cannot move one behind the sweep's back.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from harness.core import grid, plugins
from harness.core.spec import Adaptation, BudgetSpec, MethodSpec, PlaceSpec, StudentSpec, StudySpec
from harness.core.sweep_spec import ADAPTATION, BUDGET, MODEL, SEEDS, AxisSpec, SweepSpec, overlap
from harness.core.yaml_file import Location, YamlFile
from harness.errors import SpecError

MOST_VARIANTS = 2_000
"""More is taken for a mistake in a grid."""
CENTRE, WHOLE = "centre", "all"
STUDY_KEYS = (BUDGET, MODEL, ADAPTATION, *(f"{ADAPTATION}.{name}" for name in Adaptation.model_fields), SEEDS)
_LONGEST_LABEL = 40
CheckModel = Callable[[str, Location], None]


@dataclass(frozen=True)
class Level:
    """One value of an axis: its name in labels, and the dotted keys that it sets."""

    label: str
    settings: grid.Values


@dataclass(frozen=True)
class Axis:
    """An axis with its levels, and the one at which the study itself stands (which need not be among them)."""

    name: str
    levels: tuple[Level, ...]
    centre: Level


Point = dict[str, Level]


def expand(study: StudySpec, file: YamlFile, *, check_model: CheckModel) -> StudySpec:
    """The study with its sweep's variants among its methods, each with `levels` and, away from the study's own budget and student, `at`.

    Args:
        check_model: complains about the name of a model that stands at a place of the file.
    Raises:
        SpecError: the first mistake, with file and line, key, value and what was expected.
    """
    assert study.sweep is not None
    return _Expansion(study, study.sweep, file, check_model).expanded()


def level_label(value: Any) -> str:
    """A value as part of a label, safe in file names and URLs: 2e12, bandit, without-breadth."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        short = f"{value:g}"
        return re.sub(r"e\+?(-?)0*", r"e\1", short if float(short) == value else str(value))
    parts = [f"{key}-{inner}" for key, inner in value.items()] if isinstance(value, Mapping) else value
    text = "-".join(map(str, parts)) if isinstance(parts, list) else str(parts)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[-_LONGEST_LABEL:].strip("-") or "empty"


class _Expansion:
    def __init__(self, study: StudySpec, sweep: SweepSpec, file: YamlFile, check_model: CheckModel) -> None:
        self.study, self.sweep, self.file, self.check_model = study, sweep, file, check_model
        self._check_keys_apart()
        self.method = self._method()
        self.config: type[BaseModel] | None = plugins.load("methods", self.method.name).Config if self.method else None
        self.stated = self.method.config if self.method else {}
        self.axes = [self._axis(name, axis) for name, axis in sweep.axes.items() if axis.key != SEEDS]
        self.stated = grid.with_values(self.stated, self._centre_values())

    def expanded(self) -> StudySpec:
        by_name = {axis.name: axis for axis in self.axes}
        places: dict[tuple[str, ...], Point] = {}
        variants: dict[tuple[str, ...], list[Point]] = {}
        seen: set[str] = set()
        for point in [{axis.name: axis.centre for axis in self.axes}, *self._points()]:
            place = {name: point[name] for name in self.sweep.of_study if name in point}
            key = tuple(level.label for level in place.values())
            if key not in places:
                places[key] = place
                seen.add(self._completed({**{name: axis.centre for name, axis in by_name.items()}, **place}))
            completed = self._completed(point)
            if completed not in seen:
                seen.add(completed)
                variants.setdefault(key, []).append(point)
        methods = []
        for key, place in places.items():
            methods += [self._placed(method, place) for method in self.study.methods]
            methods += [self._variant(point) for point in variants.get(key, ())]
        changed = self.study.model_copy(update={"methods": methods, "seeds": self._seeds()})
        return self.file.validated(StudySpec, changed.model_dump(mode="json"))

    def _check_keys_apart(self) -> None:
        taken: dict[str, str] = {}
        for name, axis in self.sweep.axes.items():
            for key in sorted(axis.keys):
                other = next((mine for mine in taken if overlap(mine, key)), None)
                if other is not None and taken[other] != name:
                    raise self.file.fail(
                        f"axis {taken[other]} sets {other} already; a setting may be on one axis only", self._at(name), key
                    )
                taken[key] = name

    def _method(self) -> MethodSpec | None:
        labels = [method.label for method in self.study.methods]
        if self.sweep.method is None:
            if self.sweep.of_method:
                first = self.sweep.of_method[0]
                for key in self.sweep.axes[first].keys:
                    if difflib.get_close_matches(key, STUDY_KEYS, n=1, cutoff=0.8):
                        raise self.file.fail("no such setting of the study", self._at(first), key, STUDY_KEYS)
                text = f"this key is required: axis {first} sets the configuration of a method"
                raise self.file.fail(text, ("sweep", "method"), valid=labels)
            return None
        if self.sweep.method not in labels:
            raise self.file.fail("no method of this study", ("sweep", "method"), self.sweep.method, labels)
        return self.study.methods[labels.index(self.sweep.method)]

    def _axis(self, name: str, axis: AxisSpec) -> Axis:
        levels: list[Level] = []
        for label, value, at in self._values(name, axis):
            settings = {axis.key: value} if axis.key is not None else self._mapping(value, at)
            for key in settings:
                self._check_key(key, self._at(name) if axis.key is not None else at, axis.key is None)
            twin = next((other.label for other in levels if settings == other.settings and label != other.label), None)
            if twin is not None:
                raise self.file.fail(f"has the value of {twin} already", at, value)
            if any(label == other.label for other in levels):
                twice = any(settings == other.settings for other in levels)
                text = (
                    "the value is written twice" if twice else "reads like another value in labels; name them: values: {name: value, ...}"
                )
                raise self.file.fail(text, at, value)
            self._check_settings(settings, value, at)
            levels.append(Level(label, settings))
        return self._centred(name, axis, levels)

    def _centred(self, name: str, axis: AxisSpec, levels: list[Level]) -> Axis:
        """The axis with its centre found: the level that leaves the study as it is, or a level of its own."""
        own = {} if axis.key is None else {axis.key: self._centre_value(name, axis.key)}
        here = self._completed({})
        centre = next((level for level in levels if self._completed({name: level}) == here), None)
        if centre is None:
            if self.sweep.design == "grid":
                what = f" ({next(iter(own.values()))!r})" if own else ""
                text = f"the centre's value{what} is not among the values; a grid must hold the configuration that it is compared with"
                raise self.file.fail(text, self._at(name))
            label = WHOLE if axis.drop_each else CENTRE if axis.key is None else level_label(own[axis.key])
            centre = Level(CENTRE if any(label == level.label for level in levels) else label, own)
        if all(level is centre for level in levels):
            raise self.file.fail("has no value but the centre's", self._at(name))
        return Axis(name, tuple(levels), centre)

    def _values(self, name: str, axis: AxisSpec) -> list[tuple[str, Any, Location]]:
        """Label, value and place in the file of every level."""
        short = (*self._at(name), "values")
        at = short if short in self.file.lines else self._at(name)
        if isinstance(axis.values, dict):
            return [(label, value, (*at, label)) for label, value in axis.values.items()]
        if axis.values is not None:
            return [(level_label(value), value, (*at, index)) for index, value in enumerate(axis.values)]
        at = (*self._at(name), "drop_each")
        assert axis.key is not None
        if axis.key in STUDY_KEYS:
            text = f"expected `values`: drop_each leaves out elements of a list in a method's configuration, which {axis.key} is not"
            raise self.file.fail(text, at, axis.drop_each)
        self._check_key(axis.key, self._at(name))
        whole = self._centre_value(name, axis.key)
        if not isinstance(whole, list) or len(whole) < 2:
            raise self.file.fail(f"{axis.key} must be a list of at least 2 elements to drop one of them", at, whole)
        dropped = whole if axis.drop_each is True else axis.drop_each
        assert isinstance(dropped, list)
        for index, element in enumerate(dropped):
            if element not in whole:
                raise self.file.fail(f"{axis.key} of the centre has no such element", (*at, index), element, map(str, whole))
            if axis.drop_each is not True and element in dropped[:index]:
                raise self.file.fail("the element is written twice", (*at, index), element)
        return [(f"without-{level_label(element)}", [other for other in whole if other != element], at) for element in dropped]

    def _mapping(self, value: Any, at: Location) -> grid.Values:
        if not isinstance(value, dict) or not value:
            raise self.file.fail("an axis without a key takes mappings of dotted keys to values", at, value)
        return value

    def _check_key(self, key: str, at: Location, only_method: bool = False) -> None:
        known = grid.dotted_keys(self.config) if self.config is not None else []
        if key not in known and (only_method or key not in STUDY_KEYS):
            of_method = f"{self.method.label} has no such setting" if self.method else "no such setting of the study"
            others = "" if only_method else ", and a sweep varies no such part of a study"
            raise self.file.fail(of_method + others, at, key, known if only_method else [*known, *STUDY_KEYS])

    def _check_settings(self, settings: grid.Values, value: Any, at: Location) -> None:
        try:
            self._completed({"": Level("", settings)})
        except SpecError as error:
            told = "(got " in error.expected
            raise self.file.fail(error.expected, at, None if told else value, error.valid) from None
        if MODEL in settings:
            self.check_model(settings[MODEL], at)

    def _centre_value(self, name: str, key: str) -> Any:
        """What the study, or the method as it is listed, has for a key."""
        inner: Any = {"budget": self.study.budget, "student": self.study.student}
        if key not in STUDY_KEYS:
            assert self.config is not None, key
            assert self.method is not None, key
            inner = self.config(**self.method.config)
        for part in key.split("."):
            if not isinstance(inner, dict) and not hasattr(inner, part):
                index = self.study.methods.index(self.method) if self.method else 0
                raise self.file.fail(f"the centre does not state {key}: write it into methods[{index}].config", self._at(name))
            inner = inner[part] if isinstance(inner, dict) else getattr(inner, part)
        return to_jsonable_python(inner)

    def _centre_values(self) -> grid.Values:
        keys = {
            key: axis.name for axis in self.axes for level in (axis.centre, *axis.levels) for key in level.settings if key not in STUDY_KEYS
        }
        return {key: self._centre_value(name, key) for key, name in keys.items()}

    def _completed(self, point: Point) -> str:
        """What a point comes to, defaults and all: equal for points that would train equally."""
        place, config = self._place(point), None
        if self.config is not None and self.method is not None:
            config = self.file.validated(self.config, self._configured(point), ("sweep", "axes")).model_dump(mode="json")
        return json.dumps([config, place.model_dump(mode="json")], sort_keys=True)

    def _configured(self, point: Point) -> dict[str, Any]:
        settings = {key: value for level in point.values() for key, value in level.settings.items() if key not in STUDY_KEYS}
        return grid.with_values(self.stated, settings)

    def _place(self, point: Point) -> PlaceSpec:
        settings = {key: value for level in point.values() for key, value in level.settings.items() if key in STUDY_KEYS}
        parts = {"budget": self.study.budget.model_dump(mode="json"), "student": self.study.student.model_dump(mode="json")}
        changed = grid.with_values(parts, settings)
        budget = self.file.validated(BudgetSpec, changed["budget"], ("sweep", "axes"))
        student = self.file.validated(StudentSpec, changed["student"], ("sweep", "axes"))
        if student.adaptation.kind == "full" and (key := self._moved_adapter(settings)):
            raise SpecError(f"{key} means nothing beside kind: full, which trains all weights and has no adapter")
        return PlaceSpec(train_flops=float(budget.train_flops), student=student)

    def _moved_adapter(self, settings: grid.Values) -> str:
        """The first key among `settings` that gives the adapter another value than the study does; "" where none does."""
        own = self.study.student.adaptation.model_dump()
        for key, value in settings.items():
            parts = value if key == ADAPTATION and isinstance(value, dict) else {key.removeprefix(f"{ADAPTATION}."): value}
            for part, inner in parts.items():
                if part in own and part != "kind" and inner != own[part]:
                    return f"{ADAPTATION}.{part}"
        return ""

    def _points(self) -> list[Point]:
        axes, design = self.axes, self.sweep.design
        lengths = [len(axis.levels) for axis in axes]
        if design == "list" and len(set(lengths)) > 1:
            told = ", ".join(f"{axis.name} {len(axis.levels)}" for axis in axes)
            raise self.file.fail(f"a list takes the n-th value of every axis, so all must have as many values ({told})", ("sweep", "axes"))
        count = {"grid": math.prod(lengths), "one_at_a_time": sum(lengths), "list": lengths[0] if lengths else 0}[design]
        if count > MOST_VARIANTS:
            raise self.file.fail(f"these axes make {count:,} variants; at most {MOST_VARIANTS:,} are allowed", ("sweep", "axes"))
        centre = {axis.name: axis.centre for axis in axes}
        if design == "one_at_a_time":
            return [centre | {axis.name: level} for axis in axes for level in axis.levels]
        combined = product(*(axis.levels for axis in axes)) if design == "grid" else zip(*(axis.levels for axis in axes), strict=True)
        points = [dict(zip(centre, levels, strict=True)) for levels in combined]
        for point in points:
            try:
                self._completed(point)
            except SpecError as error:
                told = ", ".join(f"{name}={level.label}" for name, level in point.items())
                raise self.file.fail(f"{told} cannot be combined: {error.expected}", ("sweep", "axes"), error.value) from None
        return points

    def _placed(self, method: MethodSpec, place: Point) -> MethodSpec:
        """A method of the study at a budget and student, otherwise as it is listed."""
        if method is self.method:
            return self._variant({axis.name: place.get(axis.name, axis.centre) for axis in self.axes})
        changes = {"levels": {name: level.label for name, level in place.items()}, "at": self._elsewhere(place)}
        return method.model_copy(update={**changes, "variant": self._named(method, place)})

    def _variant(self, point: Point) -> MethodSpec:
        assert self.method is not None
        return self.method.model_copy(
            update={
                "variant": self._named(self.method, point),
                "config": self._configured(point),
                "levels": {name: level.label for name, level in point.items()},
                "at": self._elsewhere(point),
            }
        )

    def _elsewhere(self, point: Point) -> PlaceSpec | None:
        place = self._place(point)
        return None if place == self._place({}) else place

    def _named(self, method: MethodSpec, point: Point) -> str | None:
        moved = [f"{axis.name}={point[axis.name].label}" for axis in self.axes if point.get(axis.name, axis.centre) is not axis.centre]
        return ",".join(filter(None, [method.variant, *moved])) or None

    def _seeds(self) -> list[int]:
        """The study's training seeds and those of a `seeds` axis: replicates of every variant, never compared."""
        seeds = list(self.study.seeds)
        for name, axis in self.sweep.axes.items():
            if axis.key != SEEDS:
                continue
            listed: list[int] = []
            for _, value, at in self._values(name, axis):
                if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                    raise self.file.fail("a training seed must be a non-negative whole number", at, value)
                if value in listed:
                    raise self.file.fail("the seed is written twice", at, value)
                listed.append(value)
            if set(listed) <= set(seeds):
                raise self.file.fail("the study has these seeds already", self._at(name), listed)
            seeds += [seed for seed in listed if seed not in seeds]
        return seeds

    def _at(self, name: str) -> Location:
        return ("sweep", "axes", name)
