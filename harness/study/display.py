"""What a user sees while a study runs: bars on a terminal, plain lines elsewhere; and the journal entries of every event."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from harness.core.store import RunStore, computed
from harness.study.plan import Stage
from harness.study.progress import StageProgress, amount_note, duration, read_progress

__all__ = ["RunDisplay", "amount_note", "duration"]

LINE_EVERY_S = 30.0


class RunDisplay:
    """Observer of an executor: keeps the journal and shows progress. A context manager around the executor's run."""

    def __init__(
        self, console: Console, store: RunStore, *, stages: Mapping[str, Stage], seconds: Mapping[str, float], threads: int
    ) -> None:
        self._console, self._store, self._threads = console, store, threads
        self._stages, self._seconds = stages, seconds
        self._total_s = sum(seconds[stage] for stage in stages) or 1.0
        self._finished_s, self._closed = 0.0, 0
        self._began = self._lined = time.monotonic()
        self._live = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not self._live,
            transient=True,
        )
        self._overall = self._progress.add_task("study", total=1.0, note="")
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> RunDisplay:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def started(self, stage: Stage) -> None:
        self._store.journal.append("stage_started", stage=stage.id, kind=stage.kind, label=stage.label, seed=stage.seed)
        self._bars[stage.id] = self._progress.add_task(escape(stage.name), total=1.0, note="starting")
        if not self._live:
            self._say(f"started  {stage.name}")

    def finished(self, stage: Stage, meta: dict[str, Any]) -> None:
        flops, wall_s = computed(meta)
        self._store.journal.append(
            "stage_finished",
            stage=stage.id,
            kind=stage.kind,
            label=stage.label,
            seed=stage.seed,
            wall_s=round(wall_s, 3),
            flops=flops,
            **({"shared": meta["shared"]} if "shared" in meta else {}),
            items=meta.get("items", 0),
            host=meta["host"],
            threads=self._threads,
        )
        amount = f"{flops:.3g} FLOPs" if stage.kind in ("train", "prepare") else f"{meta.get('items', 0)} items"
        self._close(stage)
        self._say(f"finished {stage.name}: {amount}, {duration(wall_s)}  ({self._closed} of {len(self._stages)} stages)")
        for note in meta.get("notes", []):
            self._say(f"note     {stage.name}: {note}")

    def killed(self, stage: Stage, reason: str, *, retry: bool) -> None:
        self._store.journal.append("stage_killed", stage=stage.id, reason=reason, retry=retry)
        self._remove_bar(stage)
        if retry:
            self._say(f"{stage.name}: {reason}; trying once more")

    def retried(self, stage: Stage, reason: str) -> None:
        self._store.journal.append("stage_killed", stage=stage.id, reason=reason, retry=True)
        self._say(f"{stage.name}: {reason}; it was tried once more")

    def failed(self, stage: Stage, message: str, log: Path) -> None:
        self._store.journal.append("stage_failed", stage=stage.id, kind=stage.kind, label=stage.label, seed=stage.seed, error=message)
        self._close(stage)
        self._say(f"FAILED   {stage.name}: {message}  (details: {log})")

    def tick(self) -> None:
        running = {row.stage: row for row in read_progress(self._store.progress)}
        share, left_s = self._state(running)
        left = f"about {duration(left_s)} left" if left_s is not None else ""
        self._progress.update(self._overall, completed=share, note=f"{self._closed} of {len(self._stages)} stages  {left}")
        for stage, bar in self._bars.items():
            if stage in running:
                self._progress.update(bar, completed=running[stage].share, note=amount_note(running[stage]))
        if not self._live and time.monotonic() - self._lined >= LINE_EVERY_S:
            self._lined = time.monotonic()
            parts = [f"{row.kind} {row.label} {row.share:.0%} ({amount_note(row)})" for row in running.values()]
            self._say(f"{share:.0%} done, {left or 'time left unknown'}; running: {'; '.join(parts) or 'starting'}")

    def _state(self, running: Mapping[str, StageProgress]) -> tuple[float, float | None]:
        """Share of the work that is done, and seconds left (None until there is something to go by)."""
        under_way_s = sum(running[stage].share * self._seconds[stage] for stage in self._bars if stage in running)
        share = min(1.0, (self._finished_s + under_way_s) / self._total_s)
        elapsed_s = time.monotonic() - self._began
        # Early on the measured pace says more about imports than about the work.
        return share, elapsed_s * (1 - share) / share if share > 0.03 else None

    def _close(self, stage: Stage) -> None:
        self._finished_s += self._seconds[stage.id]
        self._closed += 1
        self._remove_bar(stage)

    def _remove_bar(self, stage: Stage) -> None:
        if stage.id in self._bars:
            self._progress.remove_task(self._bars.pop(stage.id))

    def _say(self, text: str) -> None:
        stamp = "" if self._live else f"[{duration(time.monotonic() - self._began):>8}] "
        self._progress.console.print(escape(stamp + text), highlight=False, soft_wrap=True)
