"""Study files: what is compared, strict to the last key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core.perturbation_spec import PerturbationSpec
from harness.core.suite_spec import SuiteSpec
from harness.core.sweep_spec import SweepSpec


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
    engine: Literal["transformers", "vllm"] = "transformers"
    """What generates replies and scores them (docs/engines.md)."""


class PoolSpec(Strict):
    """What methods may learn from."""

    name: str
    config: dict[str, Any] = {}


class CapsSpec(Strict):
    """Limits beside the FLOP budget, each refusing before it is passed; see harness.core.budget.Caps."""

    tokens: int | None = Field(default=None, ge=1)
    labels: int | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class BudgetSpec(Strict):
    """What each trial may spend on training."""

    train_flops: float = Field(gt=0, allow_inf_nan=False)
    caps: CapsSpec = CapsSpec()


Share = Annotated[float, Field(gt=0, lt=1)]


class CheckpointsSpec(Strict):
    """Students kept along each run, at these shares of its budget, and what they are scored on (default: the study's suites), clean."""

    shares: list[Share] = Field(default=[0.25, 0.5, 0.75], min_length=1)
    suites: list[SuiteSpec] | None = Field(default=None, min_length=1)

    @field_validator("shares")
    @classmethod
    def _rising(cls, shares: list[float]) -> list[float]:
        if sorted(set(shares)) != shares:
            raise ValueError("shares must be different and rising")
        return shares


class TuneSpec(Strict):
    """A search of settings before training: every method gets `flops` on account "tune", shared evenly by its candidates and seeds.

    `grids` replaces the grid that a method declares: by its label or name, dotted keys of its configuration with the values to try.
    Candidates are scored on `suites`, which must be validation suites of the training pool.
    """

    flops: float = Field(gt=0, allow_inf_nan=False)
    seeds: list[int] = Field(default=[1000], min_length=1)
    grids: dict[str, dict[str, list[Any]]] = {}
    suites: list[SuiteSpec] = Field(default=[SuiteSpec(name="pool_validation")], min_length=1)

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        return _different_seeds(seeds)


class FoldsSpec(Strict):
    """Leave-one-family-out training: for each family a further run of every trial without it in the pool, scored on it alone."""

    leave_out: list[str] | None = Field(default=None, min_length=1)
    each: Literal["families"] | None = None
    """families: every family of the pool in turn."""

    @model_validator(mode="after")
    def _one_of_both(self) -> FoldsSpec:
        if (self.leave_out is None) == (self.each is None):
            raise ValueError("expected either leave_out (a list of families) or each: families")
        if self.leave_out is not None and len(set(self.leave_out)) < len(self.leave_out):
            raise ValueError("each family may be left out once")
        return self


class PlaceSpec(Strict):
    """What a sweep has a method run at, in place of the study's own budget and student."""

    train_flops: float = Field(gt=0, allow_inf_nan=False)
    student: StudentSpec


class MethodSpec(Strict):
    """One method under one configuration; `variant` tells configurations of a method apart.

    `levels` (per axis the level) and `at` are set by a sweep, never in a study file, and left out of records where there is none.
    """

    name: str
    variant: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._=,-]*$")
    config: dict[str, Any] = {}
    levels: dict[str, str] | None = Field(default=None, exclude_if=lambda levels: levels is None)
    at: PlaceSpec | None = Field(default=None, exclude_if=lambda at: at is None)

    @property
    def label(self) -> str:
        """How tables call it: the name, or name:variant."""
        return f"{self.name}:{self.variant}" if self.variant else self.name

    @property
    def names(self) -> tuple[str, str, str]:
        """What settings may be filed under for it: its label, the label of the method that a sweep made it from, its name."""
        moved = {f"{axis}={level}" for axis, level in (self.levels or {}).items()}
        variant = ",".join(part for part in (self.variant or "").split(",") if part not in moved)
        return self.label, f"{self.name}:{variant}" if variant else self.name, self.name


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

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)
    title: str = ""
    question: str = ""
    notes: list[str] = []
    student: StudentSpec
    pool: PoolSpec
    budget: BudgetSpec
    seeds: list[int] = Field(min_length=1)
    methods: list[MethodSpec] = Field(min_length=1)
    suites: list[SuiteSpec] = Field(min_length=1)
    perturbations: list[PerturbationSpec] = []
    claims: list[str] = []
    prices: dict[str, Any] = {}
    planning: PlanningSpec = PlanningSpec()
    checkpoints: CheckpointsSpec | None = None
    tune: TuneSpec | None = None
    tuned: str | None = Field(default=None, min_length=1)
    """A run, or its tuned.json, whose tuned settings this study takes; what the study sets itself wins."""
    folds: FoldsSpec | None = None
    sweep: SweepSpec | None = Field(default=None, exclude_if=lambda sweep: sweep is None)

    def train_flops_of(self, method: MethodSpec) -> float:
        """What a trial of the method may spend on training."""
        return method.at.train_flops if method.at is not None else self.budget.train_flops

    def student_of(self, method: MethodSpec) -> StudentSpec:
        """The student that the method starts from."""
        return method.at.student if method.at is not None else self.student

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        return _different_seeds(seeds)

    @model_validator(mode="after")
    def _tuned_once_and_apart(self) -> StudySpec:
        if self.tune is not None and self.tuned is not None:
            raise ValueError("expected either tune (search settings here) or tuned (take those of another run)")
        if self.tune is not None and (shared := sorted(set(self.tune.seeds) & set(self.seeds))):
            raise ValueError(f"tune.seeds: {shared[0]} is also a training seed; settings must not be chosen on the runs they are judged by")
        return self

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
    def _perturbations_differ(cls, perturbations: list[PerturbationSpec]) -> list[PerturbationSpec]:
        labels = [perturbation.label for perturbation in perturbations]
        if len(set(labels)) < len(labels):
            raise ValueError("each perturbation may be listed once with one strength and seed")
        return perturbations


def _different_seeds(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError("seeds must be different non-negative whole numbers")
    return seeds


def load_study(path: Path | str) -> StudySpec:
    """Reads and checks a study file, down to the names of plug-ins and the keys of their configurations.

    Raises:
        SpecError: the first mistake, with file and line, key, value, what was expected and the nearest valid name.
    """
    from harness.core.study_file import StudyFile

    return StudyFile(Path(path)).load()
