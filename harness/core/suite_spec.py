"""How a study file names what to score: pydantic models, no torch and no lm-eval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Limit = Annotated[int, Field(ge=1)]


class SuiteSpec(BaseModel):
    """One suite of a study: which of its tasks, and how many items of each.

    `limit` is one number for every task, or a number for some of them ({task: n}); the others keep the task's own limit. The items are a
    fixed pseudo-random subset, the same for every method and training seed, and a smaller limit's items are among a larger one's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    limit: Limit | dict[str, Limit] | None = None
    tasks: tuple[str, ...] | None = Field(default=None, min_length=1)
    families: tuple[str, ...] | None = Field(default=None, min_length=1, exclude_if=lambda families: families is None)
    """Only items of these families, of tasks whose items say which family they are of; left out of records where it is not used."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _limits_named(self) -> SuiteSpec:
        if self.tasks is not None and isinstance(self.limit, dict):
            strays = sorted(set(self.limit) - set(self.tasks))
            if strays:
                raise ValueError(f"limit names tasks that are not among tasks: {', '.join(strays)}")
        return self


def suite_specs(values: Sequence[SuiteSpec | str]) -> list[SuiteSpec]:
    """The specs for a mixed list of names and specs."""
    return [SuiteSpec.model_validate(value) for value in values]
