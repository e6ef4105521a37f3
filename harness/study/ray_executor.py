"""Stages as Ray tasks: on a cluster of this machine's own, or on one that runs already. Lost workers and nodes are Ray's to retry.

Ray tells a driver nothing of a retry, so workers note each attempt (harness.study.attempts), and the journal has it when the stage ends.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

from harness.core.store import RunStore, is_disk_full
from harness.errors import ExecutorError, SpecError, StoreError
from harness.study.attempts import Attempts, Noted
from harness.study.plan import Setting, Stage
from harness.study.ray_head import RayHead
from harness.study.remote import Probe, RemoteTask, call
from harness.study.schedule import MAX_KILLS, Ended, Executor, worker_environment
from harness.study.share import Share
from harness.study.worker import StageResult

INSTALL = "pip install -e '.[ray]'"
SHARE_REMEDY = "a place that damages files cannot be a --share"
_NODES_EVERY_S = 5.0
_CONNECT_S = 10.0
_LOST = "its worker was lost, with its machine or alone (out of memory?)"


class RayExecutor(Executor):
    """Hands out as many stages as the cluster has room for; what it does with them is Ray's.

    Args:
        workers: stages at a time; None: as many as the cluster holds.
        address: a cluster that runs ("host:6379" or "auto"); None starts one on this machine, which ends with the session.
        gpus: devices of the own cluster, as CUDA_VISIBLE_DEVICES names them, shared evenly by `workers`.
        use_gpus: whether stages on a joined cluster take a GPU each, where it has any.
        share: where stages are copied, if workers do not see the run folder at its path.
    """

    def __init__(
        self,
        store: RunStore,
        *,
        workers: int | None,
        threads: int,
        address: str | None = None,
        gpus: tuple[str, ...] = (),
        use_gpus: bool = True,
        share: Share | None = None,
    ) -> None:
        super().__init__(store, threads=threads)
        assert address is not None or workers is not None
        self.workers, self.address, self.gpus, self.use_gpus, self.share = workers, address, gpus, use_gpus, share
        self._running: dict[Any, Stage] = {}
        self._unsent: list[Ended] = []
        """Stages whose inputs could not be copied to the share."""
        self._options: dict[str, Any] = {}
        self._room = (0, 0.0)
        self._environment = worker_environment(threads) | ({} if use_gpus else {"CUDA_VISIBLE_DEVICES": ""})

    @contextmanager
    def session(self) -> Iterator[None]:
        """Joins the cluster, after starting it if it is to be our own; at the end our tasks are cancelled and an own cluster is gone."""
        with ExitStack() as stack:
            if self.address is None:
                head = RayHead(cpus=(self.workers or 1) * self.threads, gpus=self.gpus, environment=self._environment)
                address = stack.enter_context(head)
                stack.enter_context(joined(address))
            else:
                address = self.address
                stack.enter_context(joined(address, self._environment))
            self._options = {"num_cpus": self.threads, "num_gpus": self._gpus_each(), "max_retries": MAX_KILLS - 1}
            if self._capacity() == 0:
                raise SpecError(
                    f"no machine of the Ray cluster at {address} has {self.threads} CPUs"
                    + (" and a GPU" if self._options["num_gpus"] else ""),
                    key="--threads",
                    value=self.threads,
                )
            try:
                yield
            finally:
                self._stop()

    def setting(self) -> Setting:
        """Device and number format on the cluster's machines, by asking one.

        Raises:
            ExecutorError: it cannot say: this package is not there, or its worker did not start.
        """
        ray = load_ray()
        with self.session():
            try:
                found: Setting = ray.get(ray.remote(call).options(**self._options).remote(Probe(self.threads, os.getcwd())))
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                reason = next((line for line in reversed(str(cause).splitlines()) if line.strip()), type(cause).__name__).strip()
                advice = "every node needs this package and the study's plug-ins in the driver's versions"
                raise ExecutorError(f"a node of the Ray cluster cannot say what device it has ({reason[:300]}); {advice}") from error
        return found

    def free(self, ready: int) -> int:
        """Room left on the machines that are up; one stage at least is handed out, for Ray to place when a machine comes back."""
        capacity = max(1, self._capacity())
        return max(0, min(capacity, self.workers or capacity) - len(self._running))

    def submit(self, stage: Stage, task: Any) -> None:
        """Makes the stage a Ray task; its inputs are copied to the share if there is one."""
        ray = load_ray()
        if self.share is not None:
            try:
                for upstream in stage.inputs:
                    self.share.publish(upstream, self.store)
            except StoreError as error:
                self._unsent.append(Ended(stage.id, _failed(stage, error)))
                return
        attempts = self._attempts(stage)
        attempts.taken()  # those under a driver that was killed
        remote = Noted(RemoteTask(task, os.getcwd(), self._environment, self.share), attempts)
        options = self._options | {"name": stage.name}
        if deaths := self._deaths.get(stage.id):
            # Another environment is another process: what the first attempt's still holds would be missing at the second.
            options["runtime_env"] = {"env_vars": self._environment | {"SELFTEACH_DEATHS": str(deaths)}}
        self._running[ray.remote(call).options(**options).remote(remote)] = stage

    def collect(self, timeout_s: float) -> list[Ended]:
        """Tasks that have ended; those whose worker died did so after Ray tried them again."""
        ray = load_ray()
        if self._unsent or not self._running:
            unsent, self._unsent = self._unsent, []
            return unsent
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout_s, fetch_local=False)
        ended = []
        for reference in ready:
            stage = self._running.pop(reference)
            retries = max(0, self._attempts(stage).taken() - 1)
            ended.append(replace(self._ended(ray, reference, stage), retried=(_LOST,) * retries))
        return ended

    def _attempts(self, stage: Stage) -> Attempts:
        place = f"file://{self.store.queue.absolute()}" if self.share is None else f"{self.share.uri.rstrip('/')}/begun"
        return Attempts(f"{place}/{stage.id}")

    def _ended(self, ray: Any, reference: Any, stage: Stage) -> Ended:
        try:
            result: StageResult = ray.get(reference)
        except ray.exceptions.RayTaskError as error:  # the share failed, or this machine's packages are not the driver's
            return Ended(stage.id, StageResult(stage.id, None, f"{type(error.cause).__name__}: {error.cause}", str(error)))
        except ray.exceptions.RayError as error:
            return Ended(stage.id, None, _death(error))
        try:
            return self._fetched(stage, result)
        except StoreError as error:
            return Ended(stage.id, _failed(stage, error))

    def _fetched(self, stage: Stage, result: StageResult) -> Ended:
        """The result of a stage that, if it was done on the share, is now in the run's folder."""
        if self.share is None:
            return Ended(stage.id, result)
        with suppress(StoreError):  # a stage is worth more than its log
            self.share.fetch_log(stage.id, self.store.logs / f"{stage.id}.log")
        if result.meta is not None:
            self.share.fetch(stage.id, self.store)
        elif damaged := [upstream for upstream in stage.inputs if not self.share.has(upstream)]:
            # The worker found it so; `submit` copies it there once more.
            return self.dead(stage.id, f"of its inputs {', '.join(damaged)} was damaged at {self.share.uri}", SHARE_REMEDY)
        return Ended(stage.id, result)

    def _gpus_each(self) -> float:
        if self.address is None:
            # Ray gives out parts of one device only as long as they fit it: 1/n, not gpus/workers.
            return 1 / -(-(self.workers or 1) // len(self.gpus)) if self.gpus else 0
        return 1 if self.use_gpus and load_ray().cluster_resources().get("GPU") else 0

    def _capacity(self) -> int:
        """Stages that the machines hold at once, asked every few seconds."""
        counted, at = self._room
        if time.monotonic() - at > _NODES_EVERY_S:
            counted, at = sum(map(self._fits, load_ray().nodes())), time.monotonic()
            self._room = counted, at
        return int(counted)

    def _fits(self, node: dict[str, Any]) -> int:
        if not node["Alive"]:
            return 0
        fits = _times(node["Resources"].get("CPU", 0), self._options["num_cpus"])
        if each := self._options["num_gpus"]:
            fits = min(fits, _times(node["Resources"].get("GPU", 0), each))
        return fits

    def _stop(self) -> None:
        ray = load_ray()
        for reference in self._running:
            ray.cancel(reference, force=True)
        # What is cancelled may still write into the run folder until its worker is gone.
        if self._running:
            ray.wait(list(self._running), num_returns=len(self._running), timeout=10, fetch_local=False)
        self._running.clear()


def check_ray() -> None:
    """Raises:
    ExecutorError: the package `ray` is not installed.
    """
    # Not imported yet: see harness.study.ray_head.authenticate.
    if importlib.util.find_spec("ray") is None:
        raise ExecutorError(f"--executor ray needs the package ray, which is not installed: {INSTALL}")


def load_ray() -> Any:
    """The package `ray`, imported when it is first needed."""
    # Ray prints each lost worker and retry on standard output, where --json must stay alone; the stage's log and the journal tell of them.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    # Ray tries a stage that its memory monitor killed for ever, unless told otherwise. The driver counts; it reads this on importing Ray.
    os.environ.setdefault("RAY_task_oom_retries", str(MAX_KILLS - 1))
    return importlib.import_module("ray")


@contextmanager
def joined(address: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    """This process as a driver of the cluster at `address`, whose workers have `environment` beside the cluster's own.

    Raises:
        ExecutorError: no cluster answers there.
    """
    ray = load_ray()
    _knock(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": environment} if environment else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        ray.shutdown()
        if "uthenticat" in f"{error} {error.__cause__}":
            advice = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or ~/.ray/auth_token) as they are on the cluster"
            raise ExecutorError(f"--address: the Ray cluster at {address!r} wants a token: {advice}") from error
        reason = " ".join(str(error).split())[:300]
        raise ExecutorError(f"--address: no Ray cluster answers at {address!r} ({reason})") from error
    finally:
        _restore(before)
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself goes on trying for a minute, and then ends the process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return  # "auto", or a name that Ray resolves
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise ExecutorError(f"--address: no Ray cluster answers at {address!r} ({error})") from error


def _restore(handler: Any) -> None:
    try:
        signal.signal(signal.SIGTERM, handler)
    except ValueError:
        return  # only the main thread may, and Ray set none elsewhere


def _times(whole: float, part: float) -> int:
    """How often a part fits; 1 / 5 does five times into 1, which floor division denies."""
    return math.floor(whole / part + 1e-9)


def _failed(stage: Stage, error: StoreError) -> StageResult:
    return StageResult(stage.id, None, str(error), str(error), disk_full=is_disk_full(error))


def _death(error: Any) -> str:
    name = type(error).__name__
    if name == "OutOfMemoryError":
        return "its worker was killed because the machine ran out of memory"
    if name in ("NodeDiedError", "LocalRayletDiedError", "ObjectLostError", "OwnerDiedError"):
        return "its machine was lost"
    return f"its worker was killed ({name}; out of memory?)"
