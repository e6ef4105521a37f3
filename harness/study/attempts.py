"""How often an engine that tries again by itself has begun a stage: each attempt leaves a note where the driver finds it.

Ray, for one, does a task again whose worker or machine was lost and tells its driver nothing of it. A worker that was lost before it could
leave its note is not counted.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import fsspec


@dataclass(frozen=True)
class Attempts:
    """The notes of one stage, in a folder `uri` that driver and workers reach through fsspec."""

    uri: str

    def begin(self) -> None:
        """Leaves a note; called by the worker."""
        with suppress(Exception):  # a full disk, a place that does not answer: the stage itself fails next, and says so
            files, root = self._files()
            files.makedirs(root, exist_ok=True)
            files.pipe_file(f"{root}/{uuid.uuid4().hex}", b"begun")

    def taken(self) -> int:
        """How many attempts were begun since the last call, whose notes go; 0 where they cannot be read."""
        count = 0
        with suppress(Exception):  # no note yet, or a place that does not answer, which what the stage itself does there tells
            files, root = self._files()
            count = len(files.ls(root, detail=False))
            files.rm(root, recursive=True)
        return count

    def _files(self) -> tuple[Any, str]:
        files, root = fsspec.core.url_to_fs(self.uri, use_listings_cache=False)
        return files, root.rstrip("/")


@dataclass(frozen=True)
class Noted:
    """Work that leaves a note each time it is begun."""

    work: Any
    attempts: Attempts

    def __call__(self) -> Any:
        """The work's own result."""
        self.attempts.begin()
        return self.work()
