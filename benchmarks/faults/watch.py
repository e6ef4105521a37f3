"""One attempt at a run, seen from outside: its processes, how far it is, when to strike, and what it left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from harness.core.store import META, RunStore
from harness.study.progress import read_progress

MARK = "SELFTEACH_FAULTS_ATTEMPT"
POLL_S = 0.002


@dataclass
class Attempt:
    """A `selfteach run` in a session of its own; every process that comes of it carries MARK in its environment.

    `program`: what Python is given to be `selfteach`; `environment`: variables beside this process's own.
    """

    program: list[str]
    command: list[str]
    run_dir: Path
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.store = RunStore(self.run_dir)
        self._began = time.monotonic()
        self._finished_before = len(self.finished())
        self._starts_before = self._starts()
        with self.log.open("wb") as log:
            self.driver = subprocess.Popen(
                [sys.executable, *self.program, "run", *self.command],
                env={**os.environ, **self.environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._began

    def processes(self) -> list[psutil.Process]:
        """Every process of this attempt that lives, wherever it hangs in the tree."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
                continue
        return found

    def finished(self) -> set[str]:
        """Ids of the stages that lie finished in the run folder."""
        return {path.parent.name for path in self.store.stages.glob(f"[!.]*/{META}")}

    def writing(self) -> bool:
        """Whether a stage has begun to write files."""
        return any(any(folder.iterdir()) for folder in self._unfinished())

    def sealing(self) -> bool:
        """Whether a stage is about to be published, or one has been since the start."""
        return any((folder / META).exists() for folder in self._unfinished()) or len(self.finished()) > self._finished_before

    def phase(self, planned: int) -> str:
        """What the run is doing, in a word or two; `planned`: how many stages the study has."""
        if self._starts() == self._starts_before:
            return "driver starting"
        if len(self.finished()) >= planned:
            return "judging and reporting"
        if any((folder / META).exists() for folder in self._unfinished()):
            return "sealing a stage"
        if self.writing():
            return "writing a stage"
        kinds = {row.kind if row.phase != "loading" else "loading" for row in read_progress(self.store.progress)}
        return next((kind for kind in ("score", "train", "loading") if kind in kinds), "workers starting")

    def _unfinished(self) -> list[Path]:
        return [path for path in self.store.stages.glob(".tmp-*") if path.is_dir()]

    def _starts(self) -> int:
        return sum(event["event"] == "run_started" for event in self.store.journal.events())

    def wait_gone(self, limit_s: float) -> tuple[float, list[str]]:
        """Seconds until none of its processes lived any more, and the command lines of those that still do after `limit_s`."""
        began = time.monotonic()
        while (left := self.processes()) and time.monotonic() - began < limit_s:
            time.sleep(0.01)
        return time.monotonic() - began, [" ".join(process.cmdline())[:200] for process in left if process.is_running()]
