"""A worker process: does stages one after another, so that imports are paid once, and dies with its driver."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.core.store import Meta, is_disk_full
from harness.errors import SelfteachError

if TYPE_CHECKING:
    from harness.study.plan import Stage

_PR_SET_PDEATHSIG = 1


class Task(Protocol):
    """What a worker is sent: a stage, and how to do it. It is pickled, and must import torch no sooner than in `run`."""

    @property
    def run_dir(self) -> Path: ...

    @property
    def stage(self) -> Stage: ...

    def run(self) -> Meta:
        """Does the stage, publishes its folder and returns its meta.json."""
        ...


@dataclass(frozen=True)
class StageResult:
    """What a worker sends back: the stage's meta.json, or why there is none."""

    stage: str
    meta: dict[str, Any] | None
    error: str = ""
    traceback: str = ""
    disk_full: bool = False
    out_of_memory: bool = False


def worker_main(connection: Connection, driver_pid: int, log: Path) -> None:
    """Receives Tasks until the driver closes the pipe; answers each with a StageResult."""
    _die_with_driver(driver_pid)
    for number in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C and a closed terminal are the driver's to handle
        signal.signal(number, signal.SIG_IGN)
    _redirect_output(log)
    while True:
        try:
            task: Task = connection.recv()
        except EOFError:
            return
        connection.send(attempt(task))
        gc.collect()


def attempt(task: Task) -> StageResult:
    """Does a task; whatever it raises is in the result."""
    # The one broad except of the engine: whatever a stage raises is that stage's failure, and the study goes on.
    try:
        print(f"\n=== {task.stage.name} ({task.stage.id})", flush=True)
        return StageResult(task.stage.id, task.run())
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        with suppress(OSError):  # the disk that is full may hold the log as well
            print(text, flush=True)
        message = str(error) if isinstance(error, SelfteachError) else f"{type(error).__name__}: {error}"
        return StageResult(task.stage.id, None, " ".join(message.split())[:500], text, is_disk_full(error), is_out_of_memory(error))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the machine's memory did not suffice (torch's CPU allocator says so in text only)."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def _die_with_driver(driver_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != driver_pid:
        os._exit(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _redirect_output(log: Path) -> None:
    # Libraries print from C as well, so the descriptors are replaced, not sys.stdout alone.
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except OSError:  # a full disk, say: the stage will meet it too, and can say so
        descriptor = os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
