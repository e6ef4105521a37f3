"""A Ray cluster of this machine that lives exactly as long as whoever started it: `with RayHead(...) as address`.

Ray's own processes die with the driver that called `ray.init`, except its agents, which stay for minutes when that is killed (Ray 2.60).
So the cluster runs under a small process that adopts them all, notices by a closed pipe that its starter is gone, and kills what is left.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from types import TracebackType

import psutil

from harness.errors import ExecutorError

OBJECT_STORE_BYTES = 80 * 10**6
"""Nothing large travels through Ray; 75 MB is the least it takes."""
_PR_SET_CHILD_SUBREAPER = 36


class RayHead:
    """Starts a cluster on entering and returns its address; on leaving, none of its processes is left.

    Args:
        cpus: what stages may hold together.
        gpus: devices as CUDA_VISIBLE_DEVICES names them.
        environment: variables that workers have beside those of this process. Inherited, where an environment told to Ray with the driver
            or a task makes it start other workers than those that are ready (two seconds).
    """

    def __init__(self, *, cpus: int, gpus: tuple[str, ...] = (), environment: Mapping[str, str] | None = None) -> None:
        self._cpus, self._gpus, self._environment = cpus, gpus, environment or {}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> str:
        """Raises:
        ExecutorError: Ray did not start; says what it printed.
        """
        authenticate()
        environment = {
            **os.environ,
            **self._environment,
            "RAY_USAGE_STATS_ENABLED": "0",
            **({"CUDA_VISIBLE_DEVICES": ",".join(self._gpus)} if self._gpus else {}),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.study.ray_head", str(self._cpus), str(len(self._gpus))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert self._process.stdout is not None
        address = self._process.stdout.readline().strip()
        if not address:
            _, printed = self._process.communicate()
            last = printed.strip().splitlines()[-1:] or ["it said nothing"]
            raise ExecutorError(f"Ray did not start on this machine: {last[0]}")
        return address

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        self._process.communicate()  # closes its pipe, at which it ends


def authenticate() -> None:
    """Gives this process and its children a token that a cluster of its own asks for; before Ray is first imported, which reads it then."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def main(cpus: int, gpus: int) -> None:
    """The process above the cluster: prints the address, waits until standard input is closed, ends everything."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets lie in it, whose paths must be short
    try:
        import ray

        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        print(ray.get_runtime_context().gcs_address, flush=True)
        sys.stdin.read()
    finally:
        _kill_descendants()
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # Ray's own way out would wait for what was killed


def _kill_descendants() -> None:
    # Again and again, because what is killed may have started something just before.
    while children := [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]:
        for child in children:
            child.kill()
        psutil.wait_procs(children, timeout=5)


if __name__ == "__main__":
    main(*(json.loads(argument) for argument in sys.argv[1:]))
