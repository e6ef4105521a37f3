"""Claim files: what somebody claimed, written down as estimands before the run. Strict to the last key.

A claim may be read in several ways; each reading is one estimand with comparators, and exactly one is primary. A reading with several
comparators claims to beat all of them. Thresholds stand on the scale of the effect: −0.40 for "40 % less".
"""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import SpecError

Measure = Literal["relative", "absolute", "ratio"]
Direction = Literal["higher", "lower"]
NO_EFFECT: dict[str, float] = {"relative": 0.0, "absolute": 0.0, "ratio": 1.0}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Estimand(_Strict):
    """The quantity compared.

    Kinds: `score` mean score over the tasks of a suite (equal weight per task); `drop` clean − perturbed; `retention` perturbed / clean;
    `reject_share` share of outputs without full score, i.e. rejected by the verifier; `cost_usd`, `human_s`, `labels` (demonstrations +
    comparisons) per training run; `cost_at_equal_quality` and `leave_one_family_out`, which need runs that a plain study does not make.
    """

    kind: Literal[
        "score", "drop", "retention", "reject_share", "cost_usd", "human_s", "labels", "cost_at_equal_quality", "leave_one_family_out"
    ]
    suite: str | None = None
    tasks: list[str] | None = None
    view: str = "clean"
    """"clean", "perturbed" (mean over the study's perturbations of each item) or one perturbation's name; for score and reject_share."""
    above_chance_only: bool = False
    """Leaves out tasks on which treatment and comparator together are not clearly above chance: nothing can be lost there."""


class Reading(_Strict):
    """One way to make the sentence testable."""

    name: str
    measure: Measure
    estimand: Estimand
    comparators: list[str] = Field(min_length=1)
    threshold: float
    direction: Direction = "higher"
    primary: bool = False
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> Reading:
        beyond = self.threshold - NO_EFFECT[self.measure]
        if beyond == 0 or (beyond > 0) != (self.direction == "higher"):
            raise ValueError(
                f"threshold {self.threshold:g} of a {self.measure} reading does not lie on the side of direction {self.direction!r}"
            )
        if len(set(self.comparators)) < len(self.comparators):
            raise ValueError("a comparator is listed twice")
        return self

    @property
    def text(self) -> str:
        """Short name for tables: "relative, vs sft and rlhf"."""
        return f"{self.name}, vs {self.rivals}"

    @property
    def rivals(self) -> str:
        """The comparators as words: "base, sft and rlhf"."""
        return " and ".join(filter(None, [", ".join(self.comparators[:-1]), self.comparators[-1]]))


class Claim(_Strict):
    """One sentence and its readings."""

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    sentence: str
    source: str
    treatment: str
    readings: list[Reading] = Field(min_length=1)
    rationale: str = ""
    undefined_in_source: list[str] = []

    @model_validator(mode="after")
    def _check(self) -> Claim:
        primaries = sum(reading.primary for reading in self.readings)
        if primaries != 1:
            raise ValueError(f"exactly one reading must be primary, {primaries} are")
        texts = [reading.text for reading in self.readings]
        if len(set(texts)) < len(texts):
            raise ValueError(f"two readings are called {next(text for text in texts if texts.count(text) > 1)!r}")
        if any(self.treatment in reading.comparators for reading in self.readings):
            raise ValueError(f"{self.treatment!r} is compared with itself")
        return self


class ClaimFile(_Strict):
    """The claims of one file; their primary readings are one Holm family at `alpha`."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    power: float = Field(default=0.8, gt=0.5, lt=1)
    claims: list[Claim] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> ClaimFile:
        names = [claim.id for claim in self.claims]
        if len(set(names)) < len(names):
            raise ValueError(f"two claims have the id {next(name for name in names if names.count(name) > 1)!r}")
        return self


def load_claims(path: Path | str) -> ClaimFile:
    """Reads and checks a claim file.

    Raises:
        SpecError: the first mistake, with file, key, value, what was expected and the nearest valid name.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"the claim file cannot be read: {error}", file=path) from error
    except yaml.YAMLError as error:
        raise SpecError(f"not valid YAML: {' '.join(str(error).split())}", file=path) from error
    if not isinstance(content, dict):
        raise SpecError("a claim file must be a mapping with the keys alpha, power, claims", file=path)
    try:
        return ClaimFile.model_validate(content)
    except ValidationError as error:
        raise _explain(error, path) from None


def find_claims(name: str, folder: Path | str = ".") -> Path:
    """The claim file called `name`: a path from `folder` or the working directory, or the name of one shipped beside a suite plug-in.

    Raises:
        SpecError: there is none.
    """
    shipped = shipped_claims()
    for candidate in (Path(folder) / name, Path(name), shipped.get(name.removesuffix(".yaml"))):
        if candidate is not None and candidate.is_file():
            return candidate
    raise SpecError("no such claim file", value=name, valid=shipped)


def shipped_claims() -> dict[str, Path]:
    """Claim files of the installed packages that provide suites, by name."""
    packages = {entry.module.partition(".")[0] for entry in entry_points(group="selfteach.suites")}
    found: dict[str, Path] = {}
    for package in sorted(packages):
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            found |= {path.stem: path for path in sorted((Path(root) / "claims").glob("*.yaml"))}
    return found


def _explain(error: ValidationError, path: Path) -> SpecError:
    # A misspelt key comes first: it is why a required key seems to be missing.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    location, kind = first["loc"], first["type"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
    if kind == "extra_forbidden":
        return SpecError("unknown key", file=path, key=key, value=location[-1], valid=_fields(location[:-1]))
    if kind == "missing":
        return SpecError("this key is required", file=path, key=key)
    if kind == "literal_error":
        return SpecError(
            "not a valid value", file=path, key=key, value=first["input"], valid=re.findall(r"'([^']*)'", first["ctx"]["expected"])
        )
    value = None if isinstance(first["input"], dict | list) else first["input"]
    return SpecError(first["msg"].removeprefix("Value error, "), file=path, key=key, value=value)


def _fields(location: Sequence[int | str]) -> list[str]:
    model: Any = ClaimFile
    for part in location:
        model = typing.get_args(model)[0] if isinstance(part, int) else model.model_fields[part].annotation
    return list(model.model_fields)
