"""The journal of a run: append-only JSON lines, each fsynced before the run goes on.

State is whatever replaying the lines gives. A machine that died mid-write leaves a torn last line (or the zeros that a file system puts
where data never arrived), which reading drops and the next append cuts off; a damaged line anywhere else is an error.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from harness.errors import StoreError

Event = dict[str, Any]


class Journal:
    """Events of a run in `path`; only the driver, who holds the run's lock, appends."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: str, **details: Any) -> Event:
        """Writes one event with the present time (`t`, Unix seconds) and waits until it is on disk.

        Raises:
            OSError: the disk is full or not writable.
        """
        row = {"t": round(time.time(), 3), "event": event, **details}
        line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        self._cut_torn_line()
        with self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        return row

    def events(self) -> list[Event]:
        """Every event, oldest first; lines torn by a crash are dropped.

        Raises:
            StoreError: a complete line is not JSON.
        """
        if not self.path.exists():
            return []
        text = self.path.read_bytes().decode("utf-8", errors="replace")
        lines = text.split("\n")
        events: list[Event] = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                event = None
            if not isinstance(event, dict):
                torn = number == len(lines) or _was_torn(lines, number)
                if torn:
                    continue
                raise StoreError(f"{self.path}: line {number} is damaged; move the file away to continue without its history") from None
            events.append(event)
        return events

    def _cut_torn_line(self) -> None:
        """Ends the file after its last whole line; a last line that lacks nothing but its end gets it."""
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            if file.read(1) in (b"\n", b""):
                return
            file.seek(0)
            tail = file.read().rpartition(b"\n")[2]
            if _is_event(tail):
                file.write(b"\n")
            else:
                file.truncate(size - len(tail))


def _is_event(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _was_torn(lines: list[str], number: int) -> bool:
    """Whether line `number` (from 1) is the last one that a killed driver wrote: the next event is the start of another run."""
    following = next((line for line in lines[number:] if line.strip()), "")
    try:
        event = json.loads(following)
    except json.JSONDecodeError:
        return not following
    return isinstance(event, dict) and event.get("event") == "run_started"
