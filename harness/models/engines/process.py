"""A child process that answers one request at a time in JSON over its pipes (the protocol stands in vllm_worker.py)."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import EngineError

_TAIL_LINES = 6


class WorkerProcess:
    """Started at once; killed with `close`, when it is forgotten, and when this process ends. A child whose parent was killed ends itself.

    Args:
        log: file that takes what the child prints; removed by `close`, kept where the child failed.
        start_timeout_s: longest wait for its first message.
    Raises:
        EngineError: it ended or fell silent before its first message.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path, start_timeout_s: float) -> None:
        self.log = log
        with log.open("wb") as stream:
            # A session of its own: Ctrl-C is the parent's to handle, and whatever it starts can be killed with it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=dict(environment),
                bufsize=0,
                start_new_session=True,
            )
        self._end = weakref.finalize(self, _end, self._process, log)
        self.ready = self._receive(start_timeout_s)

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Sends one request and waits for its answer.

        Raises:
            EngineError: the process ended instead.
        """
        body = json.dumps({"call": name, **arguments}).encode()
        assert self._process.stdin is not None
        try:
            _write(self._process.stdin.fileno(), struct.pack(">I", len(body)) + body)
        except BrokenPipeError:
            self._fail("has ended")
        return self._receive(None)

    def close(self) -> None:
        """Kills the process and removes its log."""
        self._end()

    def _receive(self, timeout_s: float | None) -> dict[str, Any]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        (length,) = struct.unpack(">I", self._read(4, deadline))
        answer: dict[str, Any] = json.loads(self._read(length, deadline))
        return answer

    def _read(self, length: int, deadline: float | None) -> bytes:
        assert self._process.stdout is not None
        descriptor, read = self._process.stdout.fileno(), b""
        while len(read) < length:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], left_s)[0]:
                self._fail("did not start in time")
            part = os.read(descriptor, length - len(read))
            if not part:
                self._fail("has ended")
            read += part
        return read

    def _fail(self, what: str) -> None:
        self._end.detach()
        _kill(self._process)
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        said = " | ".join(lines[-_TAIL_LINES:]) or "it said nothing"
        raise EngineError(f"the vLLM process {what}: {said} (all of it in {self.log})")


def _write(descriptor: int, message: bytes) -> None:
    while message:
        message = message[os.write(descriptor, message) :]


def _end(process: subprocess.Popen[bytes], log: Path) -> None:
    _kill(process)
    log.unlink(missing_ok=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
