"""Runs a plan's stages on this machine: worker processes that each do one stage at a time, longest chains first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from harness.core.store import RunStore
from harness.errors import StoreError
from harness.study.plan import Stage
from harness.study.worker import StageResult, worker_main

POLL_S = 0.5
MAX_KILLS = 2
"""A stage whose worker is killed (out of memory, kill -9) this often has failed."""


class Observer(Protocol):
    """What the executor tells as it goes; called from the driver's thread only."""

    def started(self, stage: Stage) -> None: ...

    def finished(self, stage: Stage, meta: dict[str, Any]) -> None: ...

    def killed(self, stage: Stage, reason: str, *, retry: bool) -> None: ...

    def failed(self, stage: Stage, message: str, log: Path) -> None: ...

    def tick(self) -> None:
        """Called about twice a second."""
        ...


@dataclass
class Outcome:
    """Ids of the stages that finished, that failed, and that were not tried because an input failed."""

    finished: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    stage: Stage | None = None


class LocalExecutor:
    """At most `workers` processes with `threads` threads each; they live until the last stage ends."""

    def __init__(self, store: RunStore, *, workers: int, threads: int) -> None:
        assert workers >= 1, workers
        assert threads >= 1, threads
        self.store, self.workers, self.threads = store, workers, threads
        self._context = multiprocessing.get_context("spawn")
        self._pool: list[_Worker] = []
        self._spawned = 0

    def run(
        self,
        stages: Sequence[Stage],
        *,
        done: set[str],
        seconds: Mapping[str, float],
        task_for: Callable[[Stage], Any],
        observer: Observer,
    ) -> Outcome:
        """Does `stages` in dependency order.

        Args:
            done: ids that are finished already.
            seconds: predicted duration by stage id; chains with the most work left go first.
            task_for: makes the StageTask that a worker is sent.
        Raises:
            StoreError: the disk is full; running stages are stopped.
        """
        pending = {stage.id: stage for stage in stages}
        kills = dict.fromkeys(pending, 0)
        priority = _chain_seconds(stages, seconds)
        outcome = Outcome(finished=set(done))
        try:
            with _environment(self.threads), _ctrl_c_noted() as stop:
                while pending or any(worker.stage for worker in self._pool):
                    if stop.is_set():
                        raise KeyboardInterrupt
                    _block(pending, outcome)
                    self._hand_out(pending, outcome, priority, task_for, observer)
                    self._collect(pending, outcome, kills, observer)
                    observer.tick()
        finally:
            self._stop()
        return outcome

    def _hand_out(
        self,
        pending: dict[str, Stage],
        outcome: Outcome,
        priority: Mapping[str, float],
        task_for: Callable[[Stage], Any],
        observer: Observer,
    ) -> None:
        ready = [stage for stage in pending.values() if set(stage.inputs) <= outcome.finished]
        for stage in sorted(ready, key=lambda stage: (-priority[stage.id], stage.id)):
            worker = next((worker for worker in self._pool if worker.stage is None), None)
            if worker is None:
                if len(self._pool) >= self.workers:
                    return
                worker = self._spawn()
            worker.stage = pending.pop(stage.id)
            observer.started(stage)
            try:
                worker.connection.send(task_for(stage))
            except BrokenPipeError:
                continue  # the worker is dead: `_collect` finds it and puts the stage back

    def _collect(self, pending: dict[str, Stage], outcome: Outcome, kills: dict[str, int], observer: Observer) -> None:
        busy = [worker for worker in self._pool if worker.stage is not None]
        wait([worker.connection for worker in busy], timeout=POLL_S)
        for worker in busy:
            stage = worker.stage
            assert stage is not None
            try:
                if not worker.connection.poll():
                    continue
                result: StageResult = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                self._bury(worker)
                kills[stage.id] += 1
                reason, retry = _death(worker.process.exitcode), kills[stage.id] < MAX_KILLS
                observer.killed(stage, reason, retry=retry)
                if retry:
                    pending[stage.id] = stage
                else:
                    self._fail(stage, f"{reason}, {kills[stage.id]} times", f"{stage.name}: {reason}\n", outcome, observer)
                continue
            worker.stage = None
            if result.meta is not None:
                outcome.finished.add(stage.id)
                observer.finished(stage, result.meta)
            elif result.disk_full:
                raise StoreError(disk_full_message(self.store.root))
            else:
                self._fail(stage, result.error, result.traceback, outcome, observer)

    def _fail(self, stage: Stage, message: str, text: str, outcome: Outcome, observer: Observer) -> None:
        log = self.store.failed / f"{stage.id}.log"
        log.write_text(text)
        outcome.failed[stage.id] = message
        observer.failed(stage, message, log)

    def _spawn(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        self._spawned += 1
        log = self.store.logs / f"worker-{self._spawned}.log"
        process = self._context.Process(target=worker_main, args=(theirs, os.getpid(), log), daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._pool.append(worker)
        return worker

    def _bury(self, worker: _Worker) -> None:
        self._pool.remove(worker)
        worker.connection.close()
        worker.process.join()

    def _stop(self) -> None:
        # Killed, idle or not: a stage exists whole or not at all, and an interpreter with torch takes seconds to leave by itself.
        for worker in self._pool:
            worker.process.kill()
        for worker in self._pool:
            worker.process.join()
            worker.connection.close()
        self._pool.clear()


def disk_full_message(root: Path) -> str:
    """What to tell a user whose disk is full."""
    return f"the disk that holds {root} is full; finished stages are untouched: free some space and run the same command again"


def _chain_seconds(stages: Sequence[Stage], seconds: Mapping[str, float]) -> dict[str, float]:
    """Predicted seconds of a stage and the longest chain of stages after it."""
    after: dict[str, float] = {}
    for stage in reversed(stages):
        own = seconds[stage.id] + after.get(stage.id, 0.0)
        for upstream in stage.inputs:
            after[upstream] = max(after.get(upstream, 0.0), own)
        after[stage.id] = own
    return {stage.id: after[stage.id] for stage in stages}


def _block(pending: dict[str, Stage], outcome: Outcome) -> None:
    while True:
        hopeless = {i for i, stage in pending.items() if any(j in outcome.failed or j in outcome.blocked for j in stage.inputs)}
        if not hopeless:
            return
        outcome.blocked |= hopeless
        for stage_id in hopeless:
            del pending[stage_id]


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"its worker was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its worker ended with exit code {exitcode}"


@contextmanager
def _ctrl_c_noted() -> Iterator[threading.Event]:
    """Notes the first Ctrl-C for the loop to act on between two steps, where no step is left half done; a second one interrupts at once."""
    stop = threading.Event()

    def note(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Environment that workers inherit. Threads must not spin while others compute; hashing must not differ between workers."""
    wanted = {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONHASHSEED": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        # Python's tracker of shared semaphores warns about those of killed workers, which it has just cleaned up.
        "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker:UserWarning"])),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
