"""What Ray and Slurm are sent: one stage, done in a process that the driver did not start and perhaps on another machine.

Such an engine may do a stage twice (a machine believed lost comes back, a result is lost on its way): what is there is not done again.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.store import Meta, RunStore
from harness.errors import ExecutorError, StoreError
from harness.study.worker import StageResult, attempt

if TYPE_CHECKING:
    from harness.study.plan import Setting, Stage
    from harness.study.share import Share


@dataclass(frozen=True)
class RemoteTask:
    """A task as a callable that the engine pickles.

    Without `share` its run folder is the driver's, at the same path. With it the stage is done in a temporary folder, its inputs come
    from the share, and result and output go there.

    Args:
        task: a dataclass with the fields and methods of harness.study.worker.Task.
        cwd: the driver's folder, which relative paths in a study start from; used where it exists.
        environment: what the worker process must have been started with.
    """

    task: Any
    cwd: str
    environment: dict[str, str]
    share: Share | None = None

    @property
    def stage(self) -> Stage:
        found: Stage = self.task.stage
        return found

    @property
    def run_dir(self) -> Path:
        found: Path = self.task.run_dir
        return found

    def __call__(self) -> StageResult:
        """Does the stage; its output goes to logs/<stage>.log of the run."""
        _enter(self.cwd)
        if self.share is None:
            return self._attempt()
        with tempfile.TemporaryDirectory(prefix="selfteach-") as folder:
            own = replace(self, task=replace(self.task, run_dir=Path(folder)))
            try:
                return own._attempt()
            finally:
                with suppress(StoreError):  # a stage is worth more than its log
                    self.share.publish_log(self.stage.id, Path(folder) / "logs" / f"{self.stage.id}.log")

    def checkpoint(self) -> Any:
        """Called by submitit before a preempted job goes back into the queue: the stage starts anew."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def run(self) -> Meta:
        """Does the stage unless it is there already; returns its meta.json."""
        store = RunStore(self.run_dir)
        if store.finished(self.stage.id):
            try:
                store.verify(self.stage.id)
                return store.meta(self.stage.id)
            except StoreError as error:
                print(f"computed again: {error}", flush=True)
                store.discard(self.stage.id)
        wrong = [f"{name}={os.environ.get(name)}" for name, value in self.environment.items() if os.environ.get(name) != value]
        if wrong:
            raise ExecutorError(f"the worker was not started with the environment that stages need; it has {', '.join(wrong)}")
        if self.share is None:
            return self._run_task()
        if self.share.has(self.stage.id):
            try:
                return self.share.fetch(self.stage.id, store)
            except StoreError as error:
                print(f"computed again: {error}", flush=True)
        for upstream in self.stage.inputs:
            self.share.fetch(upstream, store)
        meta = self._run_task()
        self.share.publish(self.stage.id, store)
        return meta

    def _run_task(self) -> Meta:
        meta: Meta = self.task.run()
        return meta

    def _attempt(self) -> StageResult:
        store = RunStore(self.run_dir)
        store.make()
        with _output_to(store.logs / f"{self.stage.id}.log"):
            return attempt(self)


@dataclass(frozen=True)
class Probe:
    """Asks a worker what setting stages have there: a study is planned for one."""

    threads: int
    cwd: str

    def __call__(self) -> Setting:
        """Device, number format and threads of the process that this is called in."""
        from harness.study.plan import local_setting

        _enter(self.cwd)
        return local_setting(self.threads)

    def checkpoint(self) -> Any:
        """As RemoteTask's."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def call(work: Any) -> Any:
    """What a Ray task runs: `work` is a RemoteTask or a Probe."""
    return work()


def _enter(folder: str) -> None:
    if Path(folder).is_dir():
        os.chdir(folder)


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Appends what the process prints, from C too, to a file; a stage that is tried again goes on in the same one."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(1), os.dup(2)]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, kept in enumerate(before, start=1):
            os.dup2(kept, number)
            os.close(kept)
