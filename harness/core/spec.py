"""Study files: what is compared, strict to the last key."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.core.suite_spec import SuiteSpec


class Strict(BaseModel):
    """Base of every part of a study: unknown keys and values of another type are refused, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Adaptation(Strict):
    """Which weights training may change: low-rank adapters of `rank` (scaled by alpha / rank), or all of them."""

    kind: Literal["lora", "full"] = "lora"
    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class StudentSpec(Strict):
    """The model that every method starts from: a known name or a source (`hub:`, `file:`, `pypi:`)."""

    model: str = Field(min_length=1)
    adaptation: Adaptation = Adaptation()


class PoolSpec(Strict):
    """What methods may learn from."""

    name: str
    config: dict[str, Any] = {}


class BudgetSpec(Strict):
    """What each trial may spend on training."""

    train_flops: float = Field(gt=0, allow_inf_nan=False)


class MethodSpec(Strict):
    """One method under one configuration; `variant` tells configurations of a method apart."""

    name: str
    variant: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    config: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """How tables call it: the name, or name:variant."""
        return f"{self.name}:{self.variant}" if self.variant else self.name


class PlanningSpec(Strict):
    """What `plan` assumes about score differences between two methods until a run has measured it: standard deviations on the scale 0 to 1.

    Defaults: training seeds 2 points apart, and items as discordant as two right-or-wrong scores that agree on about 60 % of them.
    """

    seed_sd: float = Field(default=0.02, ge=0, le=1)
    item_sd: float = Field(default=0.45, ge=0, le=1)
    residual_sd: float = Field(default=0.45, ge=0, le=1)
    comparator_score: float | None = Field(default=None, gt=0, lt=1)
    """The comparators' score; relative claims can be planned only with it."""


class StudySpec(Strict):
    """A study: methods × seeds on one student under one budget, scored on suites and judged on claims."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str = ""
    question: str = ""
    notes: list[str] = []
    student: StudentSpec
    pool: PoolSpec
    budget: BudgetSpec
    seeds: list[int] = Field(min_length=1)
    methods: list[MethodSpec] = Field(min_length=1)
    suites: list[SuiteSpec] = Field(min_length=1)
    perturbations: list[str] = []
    claims: list[str] = []
    prices: dict[str, Any] = {}
    planning: PlanningSpec = PlanningSpec()

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError("seeds must be different non-negative whole numbers")
        return seeds

    @field_validator("methods")
    @classmethod
    def _labels_differ(cls, methods: list[MethodSpec]) -> list[MethodSpec]:
        labels = [method.label for method in methods]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is listed twice; give each configuration of a method its own `variant`")
        return methods

    @field_validator("perturbations")
    @classmethod
    def _perturbations_differ(cls, perturbations: list[str]) -> list[str]:
        if len(set(perturbations)) < len(perturbations):
            raise ValueError("each perturbation may be listed once")
        return perturbations


def load_study(path: Path | str) -> StudySpec:
    """Reads and checks a study file, down to the names of plug-ins and the keys of their configurations.

    Raises:
        SpecError: the first mistake, with file and line, key, value, what was expected and the nearest valid name.
    """
    from harness.core.study_file import StudyFile

    return StudyFile(Path(path)).load()
