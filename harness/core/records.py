"""The nouns that travel between modules and files. Data only; no torch, no behaviour beyond derived values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Message = dict[str, str]
"""One chat turn: {"role": "system" | "user" | "assistant", "content": text}."""


class Status(StrEnum):
    """Whether a sample has a score. A sample without one is never NaN or 0: it says why."""

    SCORED = "scored"
    UNPARSED = "unparsed"
    ERROR = "error"
    SKIPPED = "skipped"


CLEAN = "clean"
"""The `perturbation` of an unperturbed sample."""

SAMPLE_COLUMNS = (
    "suite",
    "task",
    "perturbation",
    "sample_id",
    "cluster",
    "metric",
    "value",
    "status",
    "prompt",
    "target",
    "output",
    "generated_tokens",
)
"""Columns of samples.parquet: one row per (task, perturbation, sample_id, metric). `value` is null unless status is "scored";
`sample_id` is equal for the clean and perturbed versions of an item; `cluster` groups dependent items (default: the sample_id)."""


@dataclass(frozen=True)
class Completion:
    """One generated reply."""

    text: str
    tokens: int
    finished: bool
    """False when the token limit cut it off."""
    ids: tuple[int, ...] = ()
    """The sampled token ids, the end token included where one was made; () where the engine does not tell."""


@dataclass(frozen=True)
class Constraint:
    """One checkable requirement on a response; `kind` names an entry of harness.instructions.constraints."""

    kind: str
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Instruction:
    """A structured instruction: text for the student, and what a verifier needs to check a response to it.

    `body` is the request without its constraints; `text` is what is shown. A generator-backed instruction carries its generator's name,
    config, seed, index and gold answer in `payload`; a constrained one has `constraints`. With neither it is not verifiable.
    """

    id: str
    pool: str
    family: str
    body: str
    text: str
    constraints: tuple[Constraint, ...] = ()
    payload: dict[str, Any] = field(default_factory=dict)
    seed_id: str = ""
    parent_id: str = ""
    operation: str = ""
    step: int = 0

    @property
    def verifiable(self) -> bool:
        """Whether a rule can check a response."""
        return bool(self.constraints or self.payload)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Instruction:
        """What `dataclasses.asdict` and JSON made of one, as it was."""
        return cls(**{**row, "constraints": tuple(Constraint(**one) for one in row["constraints"])})


@dataclass(frozen=True)
class Demonstration:
    """An instruction with a response to imitate."""

    instruction: Instruction
    response: str


@dataclass(frozen=True)
class Preference:
    """A comparison of two responses by a (simulated or real) annotator."""

    instruction: Instruction
    chosen: str
    rejected: str
    annotator: str = ""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Preference:
        """What `dataclasses.asdict` and JSON made of one, as it was."""
        return cls(**{**row, "instruction": Instruction.from_row(row["instruction"])})


@dataclass(frozen=True)
class Verification:
    """A rule's judgement of a response: all parts satisfied, and the share of parts satisfied in [0, 1]."""

    passed: bool
    share: float
    detail: str = ""


@dataclass(frozen=True)
class TrainingRecord:
    """What a membership-inference attack needs: texts the student was trained on, and texts of the same families that it never saw.

    Both are (prompt as the student reads it, response) pairs; an empty list means that there are none to compare.
    """

    members: list[tuple[str, str]] = field(default_factory=list)
    nonmembers: list[tuple[str, str]] = field(default_factory=list)
