"""Claim files: what somebody claimed, written down as estimands before the run. Strict to the last key.

A claim may be read in several ways; each reading is one estimand with comparators, and exactly one is primary. A reading with several
comparators claims to beat all of them. Thresholds stand on the scale of the effect: −0.40 for "40 % less"; no effect (0, or a ratio of 1)
for "better" without a number. A claim of no difference has `direction: equal` and a `margin`.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.core.yaml_file import YamlFile
from harness.errors import SpecError

Measure = Literal["relative", "absolute", "ratio"]
Direction = Literal["higher", "lower", "equal"]
NO_EFFECT: dict[str, float] = {"relative": 0.0, "absolute": 0.0, "ratio": 1.0}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Estimand(_Strict):
    """The quantity compared.

    Kinds: `score` mean score over the tasks of a suite (equal weight per task); `drop` clean − perturbed; `retention` perturbed / clean;
    `reject_share` share of outputs without full score, i.e. rejected by the verifier; `cost_usd`, `human_s`, `labels` (demonstrations +
    comparisons), `queries` (calls of an external model) per training run; `curve` mean of a training curve over its last part;
    `cost_at_equal_quality` (on `axis`), `queries_at_equal_quality` what is spent until the comparator's final quality is reached, in
    studies that keep checkpoints; `membership_auc` of a membership-inference attack on each trained student (suite holistic).
    `leave_one_family_out` on the families that a study with `folds` leaves out of training, one after another.
    `transfer` needs runs that no study makes yet.
    """

    kind: Literal[
        "score", "drop", "retention", "reject_share", "cost_usd", "human_s", "labels", "queries", "curve", "cost_at_equal_quality",
        "queries_at_equal_quality", "leave_one_family_out", "transfer", "membership_auc",
    ]  # fmt: skip
    suite: str | None = None
    tasks: list[str] | None = None
    view: str = "clean"
    """"clean", "perturbed" (mean over the study's perturbations of each item) or one perturbation's name; for score and reject_share."""
    above_chance_only: bool = False
    """Leaves out tasks on which treatment and comparator together are not clearly above chance: nothing can be lost there."""
    curve: str | None = None
    """Kind `curve`: which one, such as "reward"."""
    axis: Literal["usd", "flops", "seconds", "tokens", "labels"] = "usd"
    """Kind `cost_at_equal_quality`: what is spent."""
    last_share: float | None = Field(default=None, gt=0, le=1)
    """Kind `curve`: share of the curve's points, at its end, that are averaged; by default the last quarter."""

    @model_validator(mode="after")
    def _check(self) -> Estimand:
        if (self.curve is not None) != (self.kind == "curve"):
            raise ValueError("kind curve, and no other, names a curve")
        if self.axis != "usd" and self.kind != "cost_at_equal_quality":
            raise ValueError(f"axis means nothing to kind {self.kind}")
        if self.last_share is not None and self.kind != "curve":
            raise ValueError(f"last_share means nothing to kind {self.kind}")
        return self

    @property
    def scored(self) -> bool:
        """Whether it is a mean over scored items (others exist once a training run)."""
        return self.kind in ("score", "drop", "retention", "reject_share")

    @property
    def at_equal_quality(self) -> bool:
        """Whether it is a cost of reaching the comparator's final quality."""
        return self.kind in ("cost_at_equal_quality", "queries_at_equal_quality")


class Reading(_Strict):
    """One way to make the sentence testable."""

    name: str
    measure: Measure
    estimand: Estimand
    comparators: list[str] = Field(min_length=1)
    threshold: float = Field(allow_inf_nan=False)
    """For direction `equal` the upper end of the margin, filled in."""
    direction: Direction = "higher"
    margin: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """For direction `equal`: effects up to this far from none count as none, on the scale of the effect."""
    primary: bool = False
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def _margin_to_threshold(cls, content: Any) -> Any:
        if not isinstance(content, dict) or content.get("direction") != "equal":
            return content
        margin, none = content.get("margin"), NO_EFFECT.get(str(content.get("measure")), 0.0)
        if "threshold" in content:
            raise ValueError("direction equal has a margin, no threshold")
        if margin is None:
            raise ValueError("direction equal needs a margin: how far from no effect still counts as equal")
        return {**content, "threshold": none + margin} if isinstance(margin, int | float) else content | {"threshold": 0.0}

    @model_validator(mode="after")
    def _check(self) -> Reading:
        beyond = self.threshold - NO_EFFECT[self.measure]
        if self.direction != "equal":
            if self.margin is not None:
                raise ValueError("only direction equal has a margin")
            if beyond != 0 and (beyond > 0) != (self.direction == "higher"):
                raise ValueError(
                    f"threshold {self.threshold:g} of a {self.measure} reading does not lie on the side of direction {self.direction!r}"
                )
            if self._of_amounts and 1 + beyond <= 0:
                raise ValueError(
                    f"threshold {self.threshold:g} of a {self.measure} reading: {self.estimand.kind} cannot fall by 100 % or more; "
                    f"40 % less is {'-0.4' if self.measure == 'relative' else '0.6'}"
                )
        elif (self.measure == "ratio" or self._of_amounts) and beyond >= 1:
            raise ValueError(f"the margin of a {'ratio' if self.measure == 'ratio' else 'relative difference'} lies below 1")
        if self.estimand.at_equal_quality and (self.measure == "absolute" or self.direction == "equal"):
            raise ValueError(f"{self.estimand.kind} is compared as a ratio or a relative difference, higher or lower")
        if len(set(self.comparators)) < len(self.comparators):
            raise ValueError("a comparator is listed twice")
        return self

    @property
    def _of_amounts(self) -> bool:
        """Whether it is a ratio, or relative difference, of what lies above 0; losses and curves may be negative."""
        return self.measure != "absolute" and self.estimand.kind not in ("drop", "curve")

    @property
    def region(self) -> tuple[float, float]:
        """For direction `equal`: the effects that count as none."""
        none = NO_EFFECT[self.measure]
        return (2 * none - self.threshold, self.threshold)

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
        SpecError: the first mistake, with file and line, key, value, what was expected and the nearest valid name.
    """
    file = YamlFile(Path(path), "claim")
    content = file.read()
    if not isinstance(content, dict):
        raise SpecError("a claim file must be a mapping with the keys alpha, power, claims", file=path)
    return file.validated(ClaimFile, content)


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
