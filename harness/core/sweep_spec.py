"""How a study file names a sweep: axes of settings around the configuration of one of its methods."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

LEVEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
AXIS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
SEEDS = "seeds"
"""The axis key whose values are training seeds."""
BUDGET, MODEL, ADAPTATION = "budget.train_flops", "student.model", "student.adaptation"
"""Axis keys of the study itself. They hold for every method, and runs at different levels of them are never ranked together."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AxisSpec(_Strict):
    """One axis. A list under the name of a setting is short for `{key: <name>, values: <list>}`.

    `key` is a dotted key of the method's configuration, `budget.train_flops`, `student.model`, `student.adaptation` (or a part of it), or
    `seeds`. Without a key each value is a mapping of dotted keys, so that settings which must change together do.
    """

    key: str | None = Field(default=None, min_length=1)
    values: list[Any] | dict[str, Any] | None = None
    """A list, or a mapping that gives each value the name it has in labels and tables."""
    drop_each: bool | list[str] = False
    """In place of values: the centre's list less one element at a time, every element or those named."""

    @field_validator("drop_each", mode="before")
    @classmethod
    def _true_or_a_list(cls, drop_each: object) -> object:
        if not isinstance(drop_each, bool | list):
            raise ValueError("expected true, or a list of elements")
        return drop_each

    @model_validator(mode="after")
    def _values_or_drops(self) -> AxisSpec:
        if (self.values is None) == (not self.drop_each):
            raise ValueError("expected either values or drop_each, and at least one of them")
        if self.values is not None and not self.values:
            raise ValueError("an axis must have at least one value")
        if self.key is None and not isinstance(self.values, dict):
            raise ValueError("expected a key, or values that are named mappings of dotted keys")
        for name in self.values if isinstance(self.values, dict) else ():
            if not LEVEL_NAME.fullmatch(name):
                raise ValueError(f"a value's name must match {LEVEL_NAME.pattern} (got {name!r})")
        return self

    @property
    def keys(self) -> set[str]:
        """The dotted keys that its values set."""
        if self.key is not None:
            return {self.key}
        values = self.values if isinstance(self.values, dict) else {}
        return {key for value in values.values() if isinstance(value, dict) for key in value}

    @property
    def of_study(self) -> bool:
        """Whether it varies the budget or the student, for all methods alike."""
        return self.key is not None and (self.key in (BUDGET, MODEL, ADAPTATION) or self.key.startswith(f"{ADAPTATION}."))


class SweepSpec(_Strict):
    """Variants of one method of the study, and levels of budget or student for all of its methods.

    one_at_a_time: the method as it is listed (the centre), and each value of each axis alone. grid: every combination. list: the n-th
    variant takes the n-th value of every axis.
    """

    design: Literal["one_at_a_time", "grid", "list"] = "one_at_a_time"
    method: str | None = Field(default=None, min_length=1)
    """Label of the method whose configuration is the centre; needed where an axis sets a method's configuration."""
    axes: dict[str, AxisSpec] = Field(min_length=1)

    @field_validator("axes", mode="before")
    @classmethod
    def _short_forms(cls, axes: object) -> object:
        if not isinstance(axes, dict):
            return axes
        for name, axis in axes.items():
            if not isinstance(axis, list | dict):
                raise ValueError(f"expected a list of values or a mapping with the keys {', '.join(AxisSpec.model_fields)} for axis {name}")
        return {name: {"key": name, "values": axis} if isinstance(axis, list) else axis for name, axis in axes.items()}

    @field_validator("axes")
    @classmethod
    def _names(cls, axes: dict[str, AxisSpec]) -> dict[str, AxisSpec]:
        for name in axes:
            if not AXIS_NAME.fullmatch(name):
                raise ValueError(f"an axis' name must match {AXIS_NAME.pattern} (got {name!r})")
        return axes

    @property
    def of_study(self) -> list[str]:
        """Names of the axes that vary budget or student."""
        return [name for name, axis in self.axes.items() if axis.of_study]

    def axis_of(self, key: str) -> str | None:
        """The axis that sets a dotted key of the method's configuration, a part of it or a part above it; None where no axis does."""
        return next((name for name in self.of_method for mine in self.axes[name].keys if overlap(mine, key)), None)

    @property
    def of_method(self) -> list[str]:
        """Names of the axes that vary the method's configuration."""
        return [name for name, axis in self.axes.items() if not axis.of_study and axis.key != SEEDS]


def overlap(one: str, other: str) -> bool:
    """Whether two dotted keys are the same, or one is a part of the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
