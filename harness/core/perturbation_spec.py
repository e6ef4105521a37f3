"""How a study file, a task name or a sample names a perturbation: NAME[@STRENGTH][#SEED]. Pydantic only, no text is touched here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import SpecError

_NAME = re.compile(r"(?P<name>[a-z][a-z0-9_]*)(?:@(?P<strength>[0-9.]+))?(?:#(?P<seed>[0-9]+))?")
_ROBUST = "robust:"


class PerturbationSpec(BaseModel):
    """One perturbation of a study, e.g. `typos`, `typos@0.4`, or {name: typos, strength: 0.4, seed: 1}.

    Attributes:
        strength: the share of eligible places it touches; None is the perturbation's own.
        seed: another one makes other changes of the same kind.
        min_similarity: the least embedding similarity to the clean text that an item must keep to be scored; None is the
            perturbation's own, 0 asks for none (then no embedder is needed).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    strength: float | None = Field(default=None, gt=0, le=1)
    seed: int = Field(default=0, ge=0)
    min_similarity: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _from_label(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = _NAME.fullmatch(value)
        return {key: part for key, part in parts.groupdict().items() if part is not None} if parts else {"name": value}

    @property
    def label(self) -> str:
        """What the samples' column `perturbation` says: "typos", "typos@0.4", "typos@0.4#1"."""
        strength = "" if self.strength is None else f"@{self.strength:g}"
        return f"{self.name}{strength}{f'#{self.seed}' if self.seed else ''}"


def robust_task(name: str) -> tuple[PerturbationSpec, str] | None:
    """The perturbation and the task that a name like "robust:typos@0.4:openbookqa" asks for; None for any other name.

    Raises:
        SpecError: the name begins like one and is none.
    """
    if not name.startswith(_ROBUST):
        return None
    label, colon, task = name.removeprefix(_ROBUST).partition(":")
    if not (colon and task and _NAME.fullmatch(label)):
        raise SpecError("expected robust:<perturbation>[@strength][#seed]:<task>, e.g. robust:typos:openbookqa", key="tasks", value=name)
    return _spec(label), task


def perturbation_specs(values: Sequence[PerturbationSpec | str | Mapping[str, Any]]) -> list[PerturbationSpec]:
    """The specs for labels, mappings and specs.

    Raises:
        SpecError: one of them is none.
    """
    return [_spec(value) for value in values]


def _spec(value: PerturbationSpec | str | Mapping[str, Any]) -> PerturbationSpec:
    if isinstance(value, str) and not _NAME.fullmatch(value):
        raise SpecError("expected NAME[@STRENGTH][#SEED], e.g. typos, typos@0.4 or typos@0.4#1", key="perturbations", value=value)
    try:
        return PerturbationSpec.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise SpecError(f"{where}: {problem['msg'].lower()}", key="perturbations", value=value) from error
