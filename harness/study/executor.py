"""Stages on this machine: worker processes that each do one stage at a time and live until the last stage ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from harness.core.store import RunStore
from harness.study.plan import Stage
from harness.study.schedule import Ended, Executor, worker_environment
from harness.study.worker import StageResult, worker_main


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    gpu: str | None
    stage: Stage | None = None


class LocalExecutor(Executor):
    """At most `workers` processes with `threads` threads each.

    Args:
        gpus: devices to lease, as CUDA_VISIBLE_DEVICES names them; each worker keeps one for life. Empty: workers see what the driver sees.
    """

    def __init__(self, store: RunStore, *, workers: int, threads: int, gpus: tuple[str, ...] = ()) -> None:
        super().__init__(store, threads=threads)
        assert workers >= 1, workers
        self.workers, self.gpus = workers, gpus
        self._context = multiprocessing.get_context("spawn")
        self._pool: list[_Worker] = []
        self._spawned = 0

    @contextmanager
    def session(self) -> Iterator[None]:
        """Sets the environment that workers inherit; kills them all at the end."""
        # Python's tracker of shared semaphores warns about those of killed workers, which it has just cleaned up.
        warnings = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker:UserWarning"]))
        with _environment(worker_environment(self.threads) | {"PYTHONWARNINGS": warnings}):
            try:
                yield
            finally:
                self._stop()

    def free(self, ready: int) -> int:
        """Idle workers and those that may still be started."""
        return self.workers - sum(worker.stage is not None for worker in self._pool)

    def submit(self, stage: Stage, task: Any) -> None:
        """Sends the stage to an idle worker, or to a new one."""
        worker = next((worker for worker in self._pool if worker.stage is None), None) or self._spawn()
        worker.stage = stage
        try:
            worker.connection.send(task)
        except BrokenPipeError:
            return  # the worker is dead: `collect` finds it and gives the stage back

    def collect(self, timeout_s: float) -> list[Ended]:
        """Results that workers sent, and stages whose worker died."""
        busy = [worker for worker in self._pool if worker.stage is not None]
        wait([worker.connection for worker in busy], timeout=timeout_s)
        ended = []
        for worker in busy:
            stage = worker.stage
            assert stage is not None
            try:
                if not worker.connection.poll():
                    continue
                result: StageResult = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                self._bury(worker)
                ended.append(self.dead(stage.id, _death(worker.process.exitcode)))
                continue
            if result.out_of_memory:
                worker.process.kill()  # what it still holds would be missing at the second attempt
                self._bury(worker)
            worker.stage = None
            ended.append(Ended(stage.id, result))
        return ended

    def _spawn(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        self._spawned += 1
        log = self.store.logs / f"worker-{self._spawned}.log"
        leased = [worker.gpu for worker in self._pool]
        gpu = min(self.gpus, key=leased.count) if self.gpus else None
        with _environment({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {}):
            process = self._context.Process(target=worker_main, args=(theirs, os.getpid(), log), daemon=True)
            process.start()
        theirs.close()
        worker = _Worker(process, ours, gpu)
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


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"its worker was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its worker ended with exit code {exitcode}"


@contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """Environment that processes started inside the block inherit."""
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
