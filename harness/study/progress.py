"""How far running stages are: small JSON files that workers replace and the driver, or `selfteach status`, reads."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class StageProgress:
    """One running stage: `done` of `total` in `unit` (FLOPs for training, items for scoring).

    `elapsed_s`, at the last report, does not depend on the clock; `started` and `t` are Unix seconds by the clock as it was set then.
    """

    stage: str
    label: str
    kind: str
    unit: str
    done: float
    total: float
    phase: str
    pid: int
    started: float
    t: float
    elapsed_s: float = 0.0

    @property
    def share(self) -> float:
        """Completed share in [0, 1]."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0


class ProgressWriter:
    """Reports one stage's progress from a worker into `folder/<stage>.json`, at most twice a second."""

    def __init__(self, folder: Path, *, stage: str, label: str, kind: str, unit: str, total: float) -> None:
        self._path = folder / f"{stage}.json"
        self._fixed = {"stage": stage, "label": label, "kind": kind, "unit": unit, "pid": os.getpid(), "started": time.time()}
        self._total = total
        self._began = time.monotonic()
        self._written: float | None = None

    def report(self, done: float, total: float | None = None, phase: str = "") -> None:
        """Replaces the file, unless it was replaced less than half a second ago and the stage is not at its end."""
        self._total = self._total if total is None else total
        now = time.monotonic()
        if self._written is not None and now - self._written < 0.5 and done < self._total:
            return
        self._written = now
        elapsed_s = round(now - self._began, 1)
        row = {**self._fixed, "done": done, "total": self._total, "phase": phase, "t": time.time(), "elapsed_s": elapsed_s}
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(row))
        os.replace(temporary, self._path)

    def close(self) -> None:
        """Removes the file."""
        self._path.unlink(missing_ok=True)


def read_progress(folder: Path) -> list[StageProgress]:
    """The stages that report now, by label."""
    rows = []
    for path in folder.glob("*.json"):
        try:
            rows.append(StageProgress(**json.loads(path.read_text())))
        except (OSError, ValueError, TypeError):  # the stage ended between listing and reading, or a crash left half a file
            continue
    return sorted(rows, key=lambda row: (row.label, row.kind))


def as_rows(progress: list[StageProgress]) -> list[dict[str, object]]:
    """The same as JSON rows."""
    return [asdict(row) for row in progress]


def amount_note(row: StageProgress) -> str:
    """Spend against budget, or items against total, with the phase under way."""
    phase = f"{row.phase}, " if row.phase else ""
    if row.unit == "FLOPs":
        return f"{phase}{row.done:.3g} of {row.total:.3g} FLOPs"
    return f"{phase}{row.done:.0f} of {row.total:.0f} items" if row.total else f"{phase}{row.done:.0f} items"


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
