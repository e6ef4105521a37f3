"""The journal of a run: append-only JSON lines, each fsynced before the run goes on.

State is whatever replaying the lines gives. A machine that died mid-write leaves a torn last line, which reading drops and the next
append starts anew after; a damaged line anywhere else is an error.
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
        with self.path.open("ab") as file:
            if file.tell() and not self._ends_with_newline():
                file.write(b"\n")
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

    def _ends_with_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def _was_torn(lines: list[str], number: int) -> bool:
    """Whether line `number` (from 1) is the last one that a killed driver wrote: the next event is the start of another run."""
    following = next((line for line in lines[number:] if line.strip()), "")
    try:
        event = json.loads(following)
    except json.JSONDecodeError:
        return not following
    return isinstance(event, dict) and event.get("event") == "run_started"
