"""The run folder: a lock, a journal, and stages that exist only when they are whole.

A stage is written to `stages/.tmp-<id>-<pid>/`, its files are checksummed into meta.json and fsynced, then the folder is renamed to
`stages/<id>/`. Nothing changes it afterwards. What a killed run left behind is removed by the next run, under the lock.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.core.journal import Journal
from harness.errors import StoreError

Meta = dict[str, Any]
META = "meta.json"


class RunStore:
    """The files of one run under `root` (normally `results/runs/<study>/`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stages = root / "stages"
        self.failed = self.stages / "failed"
        self.progress = root / "progress"
        self.logs = root / "logs"
        self.journal = Journal(root / "journal.jsonl")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and holds its lock; leftovers of killed runs are removed first.

        Raises:
            StoreError: another process holds the lock (named by its pid), or the folder cannot be made.
        """
        try:
            self.failed.mkdir(parents=True, exist_ok=True)
            self.progress.mkdir(exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            lock = (self.root / "lock").open("a+")
        except OSError as error:
            raise StoreError(f"cannot use {self.root} as a run folder: {error.strerror}") from error
        with lock:
            if not _acquire(lock.fileno()):
                raise StoreError(
                    f"{self.root} is in use by another run (pid {self.holder() or 'unknown'}); "
                    "wait for it or stop it; `selfteach status` shows how far it is"
                )
            lock.seek(0)
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            self._clean()
            try:
                yield
            finally:
                self._clean()

    def holder(self) -> int | None:
        """The pid of the process that holds the lock, or None if the run is not running."""
        path = self.root / "lock"
        if not path.exists():
            return None
        with path.open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = lock.read().strip()
                return int(pid) if pid.isdigit() else 0
        return None

    def folder(self, stage: str) -> Path:
        """Where the finished stage lies."""
        return self.stages / stage

    def finished(self, stage: str) -> bool:
        """Whether the stage was completed (its files may have been damaged since: see `verify`)."""
        return (self.stages / stage / META).exists()

    def meta(self, stage: str) -> Meta:
        """The stage's meta.json.

        Raises:
            StoreError: it is missing or damaged.
        """
        path = self.stages / stage / META
        try:
            meta: Meta = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise StoreError(f"stage {stage}: {path} cannot be read ({error})") from error
        return meta

    def verify(self, stage: str) -> None:
        """Compares every file of a finished stage with its checksum.

        Of a published stage (harness.core.published) also the files that it shares with others; weights that were left out may be missing,
        but if they are there they must be those.

        Raises:
            StoreError: a file is missing or differs; names it.
        """
        meta, folder = self.meta(stage), self.folder(stage)
        if meta.get("checksum") != _seal(meta):
            raise StoreError(f"stage {stage}: {folder / META} was changed after the stage finished")
        needed = {folder / name: checksum for name, checksum in meta["files"].items()}
        needed |= {self.root / name: checksum for name, checksum in meta.get("shared", {}).items()}
        before = (meta.get("published") or {}).get("files", {})
        gone = {name: checksum for name, checksum in before.items() if name not in meta["files"] and name.endswith(".safetensors")}
        extra = {folder / name: checksum for name, checksum in gone.items() if (folder / name).is_file()}
        for path, expected in (needed | extra).items():
            if not path.is_file():
                raise StoreError(f"stage {stage}: {path} is missing")
            if file_sha256(path) != expected:
                raise StoreError(f"stage {stage}: {path} does not match its checksum")

    def discard(self, stage: str) -> None:
        """Removes a damaged stage so that it is computed again."""
        doomed = self.stages / f".tmp-{stage}-{os.getpid()}-damaged"
        os.replace(self.folder(stage), doomed)
        shutil.rmtree(doomed)

    def write_stage(self, stage: str, fill: Callable[[Path], Meta]) -> Meta:
        """Runs `fill` on a temporary folder, then seals and publishes the folder as the finished stage.

        Args:
            fill: writes the stage's files into the folder it is given and returns what goes into meta.json.
        Returns:
            meta.json as written: `fill`'s keys plus "files" (name → sha256) and "checksum".
        """
        folder = self.stages / f".tmp-{stage}-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            meta = fill(folder)
            names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            meta = sealed({**meta, "files": {name: file_sha256(folder / name) for name in names}})
            write_json(folder / META, meta)
            for name in names:
                _fsync(folder / name)
            for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
                _fsync(inner)
            os.replace(folder, self.folder(stage))
            _fsync(self.stages)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return meta

    def _clean(self) -> None:
        for leftover in self.stages.glob(".tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.progress.iterdir():
            leftover.unlink(missing_ok=True)


def _acquire(descriptor: int) -> bool:
    # Tried for a moment because `holder` takes a shared lock for an instant.
    for _ in range(10):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def write_text(path: Path, text: str) -> None:
    """Replaces a file in one step: readers see the old text or the new one, after a crash too."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """`write_text` of indented JSON; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def file_sha256(path: Path) -> str:
    """The file's sha256 as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or one it was raised from, says that the disk is full (safetensors and Arrow hide the errno in text)."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def sealed(meta: Meta) -> Meta:
    """meta.json with the checksum over all else that is in it."""
    return {**meta, "checksum": _seal(meta)}


def _seal(meta: Meta) -> str:
    content = {key: value for key, value in meta.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
