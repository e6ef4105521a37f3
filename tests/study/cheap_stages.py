"""Stages that need no model: what they do is in their content, so that an executor's behaviour can be seen in a second."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.store import Meta, RunStore
from harness.study.plan import Stage

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "PYTHONHASHSEED", "CUDA_VISIBLE_DEVICES")


def stage(name: str, *inputs: str, does: str = "", kind: str = "train") -> Stage:
    """A stage whose id is its name."""
    return Stage(name, kind, name, 0, inputs, {"does": does})  # type: ignore[arg-type]


@dataclass(frozen=True)
class CheapTask:
    """Done in `run`, which writes its inputs' texts and its own name to result.txt.

    `does`: "fail", "disk full", "starve" (the allocator refuses), "starve once", "kill" (its own worker, always), "kill once", "wait"
    (until the file `gate` is gone), or nothing.
    What was begun stands in <place>/<stage>.begun, a line for each attempt with the worker's pid.
    """

    run_dir: Path
    stage: Stage
    place: Path

    def run(self) -> Meta:
        does, store = self.stage.content["does"], RunStore(self.run_dir)
        with (self.place / f"{self.stage.id}.begun").open("a") as begun:
            begun.write(f"{os.getpid()}\n")
        print(f"I am {self.stage.id}", flush=True)
        os.system("echo and so says C")
        if does == "fail":
            raise RuntimeError("no such luck")
        if does == "disk full":
            raise RuntimeError("while saving") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if does == "starve" or (does == "starve once" and self.begun() == 1):
            raise MemoryError("no room")
        if does == "kill" or (does == "kill once" and self.begun() == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        while does == "wait" and (self.place / "gate").exists():
            time.sleep(0.05)

        def fill(folder: Path) -> Meta:
            texts = [(store.folder(upstream) / "result.txt").read_text() for upstream in self.stage.inputs]
            (folder / "inner").mkdir()
            (folder / "inner" / "empty").touch()
            (folder / "result.txt").write_text("".join(texts) + f"{self.stage.id}\n")
            environment = {name: os.environ.get(name) for name in THREAD_VARIABLES}
            return {"wall_s": 0.0, "host": "", "spent": {"train": 0.0}, "environment": environment, "pid": os.getpid()}

        return store.write_stage(self.stage.id, fill)

    def begun(self) -> int:
        return len((self.place / f"{self.stage.id}.begun").read_text().splitlines())


@dataclass
class Watcher:
    """An observer that writes down what it is told, and may raise at the next tick."""

    told: list[tuple[str, str]] = field(default_factory=list)
    raises: type[BaseException] | None = None

    def started(self, stage: Stage) -> None:
        self.told.append(("started", stage.id))

    def finished(self, stage: Stage, meta: dict[str, Any]) -> None:
        self.told.append(("finished", stage.id))

    def killed(self, stage: Stage, reason: str, *, retry: bool) -> None:
        self.told.append(("killed", stage.id))

    def retried(self, stage: Stage, reason: str) -> None:
        self.told.append(("retried", stage.id))

    def failed(self, stage: Stage, message: str, log: Path) -> None:
        self.told.append(("failed", stage.id))

    def tick(self) -> None:
        if self.raises is not None:
            raise self.raises
