"""The order in which a plan's stages run, whatever engine runs them: inputs first, longest chains first, nothing after a failure.

An engine (this machine's processes, Ray, Slurm) is an `Executor`: it takes stages and tells which have ended. Retries and lost machines are
the engine's; a stage may be done twice without harm, because it appears whole or not at all and equal stages give equal results.
"""

from __future__ import annotations

import heapq
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from harness.core.store import RunStore
from harness.errors import StoreError
from harness.study.plan import Stage
from harness.study.worker import StageResult

POLL_S = 0.5
MAX_KILLS = 2
"""A stage whose worker is killed (out of memory, kill -9, a lost machine) this often has failed."""
KILLED_REMEDY = "where memory is short, fewer --workers or a smaller student need less of it (`free -h` and `dmesg` say whether it was)"
ABSENT_REMEDY = "workers must see the run's folder at the path that it has here"


class Observer(Protocol):
    """What an executor tells as it goes; called from the driver's thread only."""

    def started(self, stage: Stage) -> None: ...

    def finished(self, stage: Stage, meta: dict[str, Any]) -> None: ...

    def killed(self, stage: Stage, reason: str, *, retry: bool) -> None: ...

    def retried(self, stage: Stage, reason: str) -> None:
        """A worker died, and the engine itself did the stage again; told once the stage has ended."""
        ...

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


@dataclass(frozen=True)
class Ended:
    """A stage that an engine is done with: its result, or why its worker died.

    `again`: the stage is to be handed out once more. `remedy`: what to tell the user if it is not. `retried`: why workers died after which
    the engine itself did the stage again.
    """

    stage_id: str
    result: StageResult | None
    death: str = ""
    again: bool = False
    retried: tuple[str, ...] = ()
    remedy: str = KILLED_REMEDY


class Executor(ABC):
    """Runs stages on some engine. `run` is the same for all; an engine gives the methods below it."""

    def __init__(self, store: RunStore, *, threads: int) -> None:
        assert threads >= 1, threads
        self.store, self.threads = store, threads
        self._deaths: dict[str, int] = {}

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
        queue, running = _Queue(stages, done, _chain_seconds(stages, seconds)), dict[str, Stage]()
        outcome = Outcome(finished=set(done))
        with self.session(), ctrl_c_noted() as stop:
            while queue.waiting or running:
                if stop.is_set():
                    raise KeyboardInterrupt
                for stage in queue.take(self.free(len(queue.ready))):
                    running[stage.id] = stage
                    observer.started(stage)
                    self.submit(stage, task_for(stage))
                for ended in self.collect(POLL_S):
                    stage = running.pop(ended.stage_id)
                    if self._settle(stage, ended, outcome, observer):
                        queue.put_back(stage)
                    elif stage.id in outcome.failed:
                        outcome.blocked |= queue.drop_after(stage)
                    else:
                        queue.finished(stage)
                observer.tick()
        return outcome

    def _settle(self, stage: Stage, ended: Ended, outcome: Outcome, observer: Observer) -> bool:
        """Notes how a stage ended; whether it is to be tried again."""
        if ended.result is not None and ended.result.out_of_memory:
            ended = self.dead(stage.id, f"it ran out of memory ({ended.result.error})")
        elif ended.result is not None and ended.result.meta is not None and not self._is_there(stage.id):
            ended = self.dead(stage.id, "it is said to be done, but is not in the run's folder", ABSENT_REMEDY)
        result = ended.result
        for reason in ended.retried:
            observer.retried(stage, reason)
        if result is None:
            observer.killed(stage, ended.death, retry=ended.again)
            if not ended.again:
                message = f"{ended.death}, {MAX_KILLS} times; {ended.remedy}"
                self._fail(stage, message, f"{stage.name}: {message}\n", outcome, observer)
            return ended.again
        if result.meta is not None:
            outcome.finished.add(stage.id)
            observer.finished(stage, result.meta)
        elif result.disk_full:
            raise StoreError(disk_full_message(self.store.root))
        else:
            self._fail(stage, result.error, result.traceback, outcome, observer)
        return False

    def _is_there(self, stage_id: str) -> bool:
        # Listed, where it is not seen at first: a network file system may remember that a file was not there.
        return self.store.finished(stage_id) or stage_id in self.store.all_finished()

    def dead(self, stage_id: str, reason: str, remedy: str = KILLED_REMEDY) -> Ended:
        """What became of a stage whose worker is gone: published just before, or to be tried again, up to MAX_KILLS times."""
        if self.store.finished(stage_id):
            return Ended(stage_id, StageResult(stage_id, self.store.meta(stage_id)))
        self._deaths[stage_id] = self._deaths.get(stage_id, 0) + 1
        return Ended(stage_id, None, reason, again=self._deaths[stage_id] < MAX_KILLS, remedy=remedy)

    def _fail(self, stage: Stage, message: str, text: str, outcome: Outcome, observer: Observer) -> None:
        log = self.store.failed / f"{stage.id}.log"
        log.write_text(text, encoding="utf-8", errors="replace")
        outcome.failed[stage.id] = message
        observer.failed(stage, message, log)

    @abstractmethod
    def session(self) -> AbstractContextManager[None]:
        """Opens the engine; at its end, however it comes, nothing of this run is left running."""

    @abstractmethod
    def free(self, ready: int) -> int:
        """How many of `ready` stages can be handed out now; an engine with a queue of its own takes them all."""

    @abstractmethod
    def submit(self, stage: Stage, task: Any) -> None:
        """Hands a stage out."""

    @abstractmethod
    def collect(self, timeout_s: float) -> list[Ended]:
        """Stages that have ended; waits up to `timeout_s` for the first."""


def disk_full_message(root: Path) -> str:
    """What to tell a user whose disk is full."""
    return f"the disk that holds {root} is full; finished stages are untouched: free some space and run the same command again"


def worker_environment(threads: int) -> dict[str, str]:
    """Variables that every worker starts with. Threads must not spin while others compute; hashing must not differ between workers."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONHASHSEED": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


def _chain_seconds(stages: Sequence[Stage], seconds: Mapping[str, float]) -> dict[str, float]:
    """Predicted seconds of a stage and the longest chain of stages after it."""
    after: dict[str, float] = {}
    for stage in reversed(stages):
        own = seconds[stage.id] + after.get(stage.id, 0.0)
        for upstream in stage.inputs:
            after[upstream] = max(after.get(upstream, 0.0), own)
        after[stage.id] = own
    return {stage.id: after[stage.id] for stage in stages}


class _Queue:
    """Stages not handed out yet; what is ready lies in a heap, so that a plan of any size costs each stage the same.

    Attributes:
        waiting: how many stages are neither handed out nor dropped.
    """

    def __init__(self, stages: Sequence[Stage], done: set[str], priority: Mapping[str, float]) -> None:
        self._priority = priority
        self._held = {stage.id: (stage, set(stage.inputs) - done) for stage in stages}
        self._after: dict[str, list[str]] = {}
        for stage, missing in self._held.values():
            for upstream in missing:
                self._after.setdefault(upstream, []).append(stage.id)
        self.ready: list[tuple[float, str, Stage]] = []
        for stage in [stage for stage, missing in self._held.values() if not missing]:
            self._release(stage)

    @property
    def waiting(self) -> int:
        return len(self._held) + len(self.ready)

    def take(self, count: int) -> list[Stage]:
        """The most urgent stages that are ready, at most `count`."""
        return [heapq.heappop(self.ready)[-1] for _ in range(min(count, len(self.ready)))]

    def put_back(self, stage: Stage) -> None:
        """For a stage that is to be handed out once more."""
        heapq.heappush(self.ready, (-self._priority[stage.id], stage.id, stage))

    def finished(self, stage: Stage) -> None:
        """Makes ready what waited for this stage alone."""
        for held, missing in [self._held[name] for name in self._after.get(stage.id, ()) if name in self._held]:
            missing.discard(stage.id)
            if not missing:
                self._release(held)

    def drop_after(self, failed: Stage) -> set[str]:
        """Takes out all that builds on a stage that failed; returns the ids."""
        dropped: set[str] = set()
        doomed = list(self._after.get(failed.id, ()))
        while doomed:
            name = doomed.pop()
            if self._held.pop(name, None) is not None:
                dropped.add(name)
                doomed += self._after.get(name, ())
        return dropped

    def _release(self, stage: Stage) -> None:
        del self._held[stage.id]
        self.put_back(stage)


@contextmanager
def ctrl_c_noted() -> Iterator[threading.Event]:
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
