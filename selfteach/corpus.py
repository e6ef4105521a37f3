"""The corpus: every evolved instruction, kept or rejected with its reason, as JSON lines; and what it adds up to."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.core.records import Constraint
from harness.errors import StoreError
from selfteach.roles import VerifiedBy


@dataclass(frozen=True)
class LineageStep:
    """One instruction on the way from the seed; the seed's own operation is "seed"."""

    operation: str
    text: str


@dataclass(frozen=True)
class Reward:
    """validity × novelty × learnability, each in [0, 1]."""

    validity: float = 0.0
    novelty: float = 0.0
    learnability: float = 0.0

    @property
    def total(self) -> float:
        """The product."""
        return self.validity * self.novelty * self.learnability


@dataclass(frozen=True)
class Entry:
    """One row of corpus.jsonl (docs/architecture.md).

    `verified` is None when nobody answered; `step` is the policy update that the entry belongs to.
    """

    id: str
    seed_id: str
    parent_id: str
    lineage: tuple[LineageStep, ...]
    operation: str
    family: str
    instruction: str
    constraints: tuple[Constraint, ...]
    response: str | None
    verified: bool | None
    verified_by: VerifiedBy | None
    kept: bool
    reject_reason: str | None
    reward: Reward
    samples: int
    pass_rate: float | None
    step: int

    def row(self) -> dict[str, Any]:
        """The entry as plain JSON values."""
        return asdict(self) | {"reward": asdict(self.reward) | {"total": self.reward.total}}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Entry:
        """Rebuilds what `row` gave."""
        reward = {name: value for name, value in row["reward"].items() if name != "total"}
        return cls(
            **row
            | {
                "lineage": tuple(LineageStep(**step) for step in row["lineage"]),
                "constraints": tuple(Constraint(**constraint) for constraint in row["constraints"]),
                "reward": Reward(**reward),
            }
        )


def write_corpus(entries: Iterable[Entry], path: Path) -> None:
    """Writes corpus.jsonl atomically."""
    _write(path, "".join(json.dumps(entry.row(), allow_nan=False) + "\n" for entry in entries))


def read_corpus(path: Path) -> list[Entry]:
    """Loads corpus.jsonl.

    Raises:
        StoreError: a line is not a corpus row; names file and line.
    """
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line:
            try:
                entries.append(Entry.from_row(json.loads(line)))
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise StoreError(f"{path}:{number}: not a corpus row ({error})") from error
    return entries


def manifest(entries: Sequence[Entry]) -> dict[str, Any]:
    """Counts of a corpus: kept, rejected by reason (figures stripped off), by operation and family, means over the answered."""
    answered = [entry for entry in entries if entry.pass_rate is not None]
    return {
        "entries": len(entries),
        "kept": sum(entry.kept for entry in entries),
        "answered": len(answered),
        "response_samples": sum(entry.samples for entry in answered),
        "mean_pass_rate": _mean([entry.pass_rate for entry in answered if entry.pass_rate is not None]),
        "mean_reward": _mean([entry.reward.total for entry in entries]),
        "rejected": _counts(entry.reject_reason.split(":")[0] for entry in entries if entry.reject_reason),
        "operations": _counts(entry.operation for entry in entries),
        "kept_operations": _counts(entry.operation for entry in entries if entry.kept),
        "families": _counts(entry.family for entry in entries),
        "kept_families": _counts(entry.family for entry in entries if entry.kept),
    }


def write_manifest(counts: dict[str, Any], path: Path) -> None:
    """Writes a manifest as JSON, atomically."""
    _write(path, json.dumps(counts, indent=2, allow_nan=False) + "\n")


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".partial")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
