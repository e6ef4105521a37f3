"""Stages as Ray tasks: on a cluster of this machine's own, or on one that runs already. Lost workers and nodes are Ray's to retry."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from harness.core.store import RunStore
from harness.errors import ExecutorError, SpecError, StoreError
from harness.study.plan import Setting, Stage
from harness.study.ray_head import RayHead
from harness.study.remote import Probe, RemoteTask, call
from harness.study.schedule import MAX_KILLS, Ended, Executor, worker_environment
from harness.study.share import Share
from harness.study.worker import StageResult

INSTALL = "pip install -e '.[ray]'"
_NODES_EVERY_S = 5.0
_CONNECT_S = 10.0


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
        self._options: dict[str, Any] = {}
        self._room = (0, 0.0)
        self._environment = worker_environment(threads) | ({} if use_gpus else {"CUDA_VISIBLE_DEVICES": ""})

    @contextmanager
    def session(self) -> Iterator[None]:
        """Joins the cluster, after starting it if it is to be our own; at the end our tasks are cancelled and an own cluster is gone."""
        with ExitStack() as stack:
            address = self.address or stack.enter_context(RayHead(cpus=(self.workers or 1) * self.threads, gpus=self.gpus))
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
        """Device and number format on the cluster's machines, by asking one."""
        ray = load_ray()
        with self.session():
            found: Setting = ray.get(ray.remote(call).options(**self._options).remote(Probe(self.threads, os.getcwd())))
        return found

    def free(self, ready: int) -> int:
        """Room left on the machines that are up; one stage at least is handed out, for Ray to place when a machine comes back."""
        capacity = max(1, self._capacity())
        return max(0, min(capacity, self.workers or capacity) - len(self._running))

    def submit(self, stage: Stage, task: Any) -> None:
        """Makes the stage a Ray task; its inputs are copied to the share if there is one."""
        ray = load_ray()
        if self.share is not None:
            for upstream in stage.inputs:
                self.share.publish(upstream, self.store)
        remote = RemoteTask(task, os.getcwd(), self._environment, self.share)
        self._running[ray.remote(call).options(**self._options, name=stage.name).remote(remote)] = stage

    def collect(self, timeout_s: float) -> list[Ended]:
        """Tasks that have ended; those whose worker died did so after Ray tried them again."""
        ray = load_ray()
        if not self._running:
            return []
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout_s, fetch_local=False)
        return [self._ended(ray, reference, self._running.pop(reference)) for reference in ready]

    def _ended(self, ray: Any, reference: Any, stage: Stage) -> Ended:
        try:
            result: StageResult = ray.get(reference)
        except ray.exceptions.RayTaskError as error:  # the share failed, or this machine's packages are not the driver's
            return Ended(stage.id, StageResult(stage.id, None, f"{type(error.cause).__name__}: {error.cause}", str(error)))
        except ray.exceptions.RayError as error:
            return Ended(stage.id, None, _death(error))
        if self.share is not None:
            self.share.fetch_log(stage.id, self.store.logs / f"{stage.id}.log")
            if result.meta is not None:
                try:
                    self.share.fetch(stage.id, self.store)
                except StoreError as error:
                    return Ended(stage.id, StageResult(stage.id, None, str(error), str(error)))
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
        fits = node["Resources"].get("CPU", 0) // self._options["num_cpus"]
        if each := self._options["num_gpus"]:
            fits = min(fits, node["Resources"].get("GPU", 0) // each)
        return int(fits)

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
    return importlib.import_module("ray")


@contextmanager
def joined(address: str, environment: dict[str, str]) -> Iterator[None]:
    """This process as a driver of the cluster at `address`, whose workers have `environment`.

    Raises:
        ExecutorError: no cluster answers there.
    """
    ray = load_ray()
    _knock(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": environment},
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


def _death(error: Any) -> str:
    name = type(error).__name__
    if name == "OutOfMemoryError":
        return "its worker was killed because the machine ran out of memory"
    if name in ("NodeDiedError", "LocalRayletDiedError", "ObjectLostError", "OwnerDiedError"):
        return "its machine was lost"
    return f"its worker was killed ({name}; out of memory?)"
