"""Grids of settings that tuning tries: dotted keys of a method's configuration, each with a list of values."""

from __future__ import annotations

import copy
import types
import typing
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from pydantic import BaseModel

Grid = Mapping[str, Sequence[Any]]
Values = dict[str, Any]


def candidates(grid: Grid) -> list[Values]:
    """Every combination of the grid's values, the first key varying slowest; none of an empty grid."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())] if grid else []


def with_values(config: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """A copy of a configuration, as a study file writes it, with dotted keys set."""
    changed: dict[str, Any] = copy.deepcopy(dict(config))
    for key, value in values.items():
        *parents, leaf = key.split(".")
        inner = changed
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[leaf] = value
    return changed


def is_set(config: Mapping[str, Any], key: str) -> bool:
    """Whether a configuration, as a study file writes it, sets a dotted key or a part above it as a whole."""
    inner: Any = config
    for part in key.split("."):
        if not isinstance(inner, Mapping):
            return True
        if part not in inner:
            return False
        inner = inner[part]
    return True


def unset(grid: Grid, config: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The grid without the keys that a configuration sets itself."""
    return {key: list(values) for key, values in grid.items() if not is_set(config, key)}


def dotted_keys(model: type[BaseModel]) -> list[str]:
    """Every setting of a configuration as a dotted key."""
    keys = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if typing.get_origin(inner) in (typing.Union, types.UnionType):
            inner = next((part for part in typing.get_args(inner) if part is not type(None)), None)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += [f"{name}.{key}" for key in dotted_keys(inner)]
        else:
            keys.append(name)
    return keys


def written(values: Values) -> str:
    """Values as one line: "finetune.learning_rate=0.001"."""
    return ", ".join(f"{key}={value}" for key, value in values.items())
