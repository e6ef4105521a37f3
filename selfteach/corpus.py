"""The corpus: every evolved instruction, kept or rejected with its reason, as JSON lines; and what it adds up to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import corpus_export
from harness.core.corpus import encodable, read_rows, reason_kind, write_rows
from harness.core.records import Constraint
from harness.core.store import write_text
from selfteach.roles import VerifiedBy

if TYPE_CHECKING:
    from datasets import Dataset


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

    `verified` is None when nobody answered; `step` is the policy update that the entry belongs to; `rejected_samples` counts by reason the
    responses that were not accepted.
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
    rejected_samples: dict[str, int] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The entry as plain JSON values; lone surrogates, which no file can hold, become U+FFFD."""
        row: dict[str, Any] = encodable(asdict(self))
        return row | {"reward": row["reward"] | {"total": self.reward.total}}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Entry:
        """Rebuilds what `row` gave; a row of harness.core.corpus has every key that is needed."""
        own = {known.name: row[known.name] for known in fields(cls)}
        return cls(
            **own
            | {
                "lineage": tuple(LineageStep(step["operation"], step["text"]) for step in row["lineage"]),
                "constraints": tuple(Constraint(one["kind"], one.get("params") or {}) for one in row["constraints"]),
                "reward": Reward(**{part.name: row["reward"].get(part.name, 0.0) for part in fields(Reward)}),
            }
        )


def write_corpus(entries: Iterable[Entry], path: Path) -> None:
    """Writes corpus.jsonl atomically."""
    write_rows((entry.row() for entry in entries), path)


def read_corpus(path: Path) -> list[Entry]:
    """Loads corpus.jsonl.

    Raises:
        StoreError: a line is not a corpus row; names file and line.
    """
    return [Entry.from_row(row) for row in read_rows(path)]


def as_dataset(path: Path) -> Dataset:
    """corpus.jsonl as a `datasets` data set, its column types the same whatever the rows hold.

    Raises:
        StoreError: as `read_corpus`.
    """
    return corpus_export.as_dataset(read_rows(path))


def manifest(entries: Sequence[Entry]) -> dict[str, Any]:
    """Counts of a corpus: kept, rejected by reason (figures stripped off), by operation and family, means over the answered."""
    answered = [entry for entry in entries if entry.pass_rate is not None]
    rejected = [(entry.operation, reason_kind({"reject_reason": entry.reject_reason})) for entry in entries if not entry.kept]
    return {
        "entries": len(entries),
        "kept": sum(entry.kept for entry in entries),
        "answered": len(answered),
        "response_samples": sum(entry.samples for entry in answered),
        "rejected_samples": dict(sorted(sum((Counter(entry.rejected_samples) for entry in answered), Counter()).items())),
        "mean_pass_rate": _mean([entry.pass_rate for entry in answered if entry.pass_rate is not None]),
        "mean_reward": _mean([entry.reward.total for entry in entries]),
        "verified_by": _counts(entry.verified_by or "not recorded" for entry in entries if entry.verified),
        "rejected": _counts(reason for _, reason in rejected),
        "rejected_by_operation": {
            operation: _counts(reason for other, reason in rejected if other == operation)
            for operation in sorted({name for name, _ in rejected})
        },
        "operations": _counts(entry.operation for entry in entries),
        "kept_operations": _counts(entry.operation for entry in entries if entry.kept),
        "families": _counts(entry.family for entry in entries),
        "kept_families": _counts(entry.family for entry in entries if entry.kept),
    }


def write_manifest(counts: dict[str, Any], path: Path) -> None:
    """Writes a manifest as JSON, atomically."""
    write_text(path, json.dumps(counts, indent=2, allow_nan=False) + "\n")


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
