"""The run folder: a lock, a journal, and stages that exist only when they are whole.

A stage is written to `stages/.tmp-<id>-<host>-<pid>-<random>/`, its files are checksummed into meta.json and fsynced, then the folder is
renamed to `stages/<id>/`. Nothing changes it afterwards. What a killed run left behind is removed by the next run, under the lock.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.core.journal import Journal
from harness.errors import SpecError, StoreError

Meta = dict[str, Any]
META = "meta.json"
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))


class RunStore:
    """The files of one run under `root` (normally `results/runs/<study>/`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stages = root / "stages"
        self.failed = self.stages / "failed"
        self.progress = root / "progress"
        self.logs = root / "logs"
        self.queue = root / "queue"
        self.journal = Journal(root / "journal.jsonl")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and holds its lock; leftovers of killed runs are removed first.

        Raises:
            StoreError: another process holds the lock (named by its pid), the folder cannot be made, or it holds something else.
        """
        try:
            self._refuse_other_content()
            self.make()
            lock = (self.root / "lock").open("a+")
        except OSError as error:
            raise StoreError(f"cannot use {self.root} as a run folder: {error.strerror}") from error
        with lock:
            if not _acquire(lock.fileno(), self.root):
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

    def _refuse_other_content(self) -> None:
        """A run goes into a folder of its own: a model's or a user's files are not to be mixed with it."""
        ours = (self.stages, self.root / "study.json", self.journal.path)
        if not self.root.is_dir() or any(path.exists() for path in ours):
            return
        others = sorted(path.name for path in self.root.iterdir() if path.name != "lock" and not path.name.startswith("."))
        if others:
            raise StoreError(f"{self.root} is no run folder and not empty ({others[0]}, ...); name another, or one that does not exist yet")

    def make(self) -> None:
        """Makes the folders that workers write into."""
        self.failed.mkdir(parents=True, exist_ok=True)
        self.progress.mkdir(exist_ok=True)
        self.logs.mkdir(exist_ok=True)

    def holder(self) -> int | None:
        """The pid of the process that holds the lock (0 where it cannot be read), or None if the run is not running.

        What the file says counts only while its lock is held: the pid of a dead driver, whoever has it now, is no holder.
        """
        try:
            with (self.root / "lock").open("r", errors="replace") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    pid = lock.read().strip()
                    return int(pid) if pid.isdecimal() else 0
        except OSError:  # no such file, or a file system without locks, on which no run starts
            return None
        return None

    def study(self) -> dict[str, Any]:
        """study.json: the resolved study with its plan.

        Raises:
            SpecError: the folder is not a run's.
            StoreError: the file is damaged.
        """
        path = self.root / "study.json"
        study = read_json(path, None)
        if study is None:
            raise SpecError("not the folder of a run (no study.json in it)", value=str(self.root))
        if not _is_record(study):
            raise StoreError(f"{path} is damaged (not the record of a study); run the study again to make it anew")
        record: dict[str, Any] = study
        return record

    def folder(self, stage: str) -> Path:
        """Where the finished stage lies."""
        return self.stages / stage

    def exists(self, stage: str) -> bool:
        """Whether anything lies in the stage's place, finished or not."""
        return os.path.lexists(self.stages / stage)

    def finished(self, stage: str) -> bool:
        """Whether the stage was completed (its files may have been damaged since: see `verify`)."""
        return (self.stages / stage / META).exists()

    def all_finished(self) -> set[str]:
        """Ids of all completed stages, by one listing: a stage's folder gets its name when it is whole."""
        if not self.stages.is_dir():
            return set()
        return {entry.name for entry in os.scandir(self.stages) if entry.name != self.failed.name and not entry.name.startswith(".")}

    def meta(self, stage: str) -> Meta:
        """The stage's meta.json.

        Raises:
            StoreError: it is missing or damaged.
        """
        return _read_meta(self.folder(stage), stage)

    def verify(self, stage: str, names: Iterable[str] | None = None) -> None:
        """Compares files of a finished stage (all, or those of `names` that were sealed with it) with their checksums.

        Raises:
            StoreError: a file is missing or differs; names it.
        """
        check_stage(self.folder(stage), name=stage, only=names)

    def discard(self, stage: str) -> None:
        """Removes a damaged stage so that it is computed again."""
        doomed = self._temporary(stage)
        os.replace(self.folder(stage), doomed)
        _remove(doomed)

    def write_stage(self, stage: str, fill: Callable[[Path], Meta]) -> Meta:
        """Runs `fill` on a temporary folder, then seals and publishes the folder as the finished stage.

        A stage that is finished already, by a worker that was killed before it could say so, or by another one meanwhile, stays as it is.

        Args:
            fill: writes the stage's files into the folder it is given and returns what goes into meta.json.
        Returns:
            meta.json as it stands: `fill`'s keys plus "files" (name → sha256) and "checksum".
        """
        if self.finished(stage):
            return self.meta(stage)

        def seal(folder: Path) -> Meta:
            meta = fill(folder)
            names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            meta = sealed({**meta, "files": {name: file_sha256(folder / name) for name in names}})
            write_json(folder / META, meta)
            return meta

        return self._publish(stage, seal)

    def adopt(self, stage: str, copy: Callable[[Path], None]) -> Meta:
        """Publishes a stage that was finished elsewhere; returns its meta.json.

        Args:
            copy: copies the stage's files, meta.json among them, into the folder it is given.
        Raises:
            StoreError: the copy does not match its checksums.
        """

        def check(folder: Path) -> Meta:
            copy(folder)
            return check_stage(folder, name=stage)

        return self._publish(stage, check)

    def _publish(self, stage: str, fill: Callable[[Path], Meta]) -> Meta:
        """Fills a temporary folder and renames it to the finished stage, or drops it if a twin on a machine believed lost was faster."""
        folder = self._temporary(stage)
        folder.mkdir(parents=True)
        try:
            meta = fill(folder)
            for path in folder.rglob("*"):
                _fsync(path)
            _fsync(folder)
            os.replace(folder, self.folder(stage))
            _fsync(self.stages)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST) and self.finished(stage):
                return self.meta(stage)
            raise
        return meta

    def _temporary(self, stage: str) -> Path:
        # Twins may have one pid on two hosts, and in two containers of one name.
        return self.stages / f".tmp-{stage}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

    def _clean(self) -> None:
        # What lies in a batch system's queue outlives its driver, and goes on writing.
        queued = {path.stem for path in self.queue.glob("*.json")}
        leftovers = [path for path in self.stages.glob(".tmp-*") if path.name.split("-")[1] not in queued]
        leftovers += [path for path in self.progress.glob("*") if path.name.split(".")[0] not in queued]
        for leftover in [*leftovers, *self.root.glob(".*.tmp"), *self.root.glob("*/.*.tmp")]:
            _remove(leftover)


def check_stage(folder: Path, *, name: str, only: Iterable[str] | None = None) -> Meta:
    """Compares files of a stage's folder (all, or those of `only` that were sealed with it) with their checksums; returns its meta.json.

    Of a published stage (harness.core.published) also the files that it shares with others; weights that were left out may be missing, but
    if they are there they must be those.

    Raises:
        StoreError: a file is missing or differs; names it.
    """
    meta = _read_meta(folder, name)
    if not is_sealed(meta):
        raise StoreError(f"stage {name}: {folder / META} was changed after the stage finished")
    files, root = meta["files"], folder.parent.parent
    needed = {folder / file: files[file] for file in (files if only is None else files.keys() & only)}
    needed |= {root / file: checksum for file, checksum in meta.get("shared_files", {}).items()}
    if only is None:
        before = (meta.get("published") or {}).get("files", {})
        gone = {folder / file: before[file] for file in before.keys() - files.keys() if file.endswith(".safetensors")}
        needed |= {path: checksum for path, checksum in gone.items() if path.is_file()}
    for path, expected in needed.items():
        if not path.is_file():
            raise StoreError(f"stage {name}: {path} is missing")
        try:
            found = file_sha256(path)
        except OSError as error:
            raise StoreError(f"stage {name}: {path} cannot be read ({error.strerror})") from error
        if found != expected:
            raise StoreError(f"stage {name}: {path} does not match its checksum (sha256 {found[:12]}..., sealed was {expected[:12]}...)")
    return meta


def is_sealed(meta: Meta) -> bool:
    """Whether a meta.json is as it was when its stage finished."""
    return bool(meta.get("checksum") == _seal(meta))


def _read_meta(folder: Path, stage: str) -> Meta:
    path = folder / META
    try:
        meta = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"stage {stage}: {path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not isinstance(meta, dict):
        raise StoreError(f"stage {stage}: {path} is not the record of a stage")
    return meta


def find_run(place: Path | str) -> Path:
    """The run folder that a user means: the folder itself, or a study's name under results/runs.

    Raises:
        SpecError: there is none.
    """
    given = Path(place)
    for candidate in (given, Path("results/runs") / given):
        with suppress(OSError):  # a name too long to be a file's
            if (candidate / "study.json").exists() or (candidate / "stages").is_dir():
                return candidate
    runs = [path.parent.name for path in Path("results/runs").glob("*/study.json")]
    raise SpecError("no such run; give its folder or the study's name", value=str(place), valid=runs)


def read_json(path: Path, default: Any) -> Any:
    """A run's JSON file, or `default` where there is none.

    Raises:
        StoreError: it is damaged.
    """
    if not path.exists():
        return default
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        remedy = "run the study again to make it anew" if path.name == "study.json" else "`selfteach report` makes it anew"
        raise StoreError(f"{path} is damaged ({error}); {remedy}") from error


def _is_record(study: Any) -> bool:
    """Whether this can be the content of a study.json."""
    if not isinstance(study, dict) or not {"plan", "seeds", "budget", "prices"} <= set(study):
        return False
    trials = study["plan"].get("trials") if isinstance(study["plan"], dict) else None
    return isinstance(trials, list) and all(isinstance(trial, dict) for trial in trials)


def computed(meta: Meta) -> tuple[float, float]:
    """FLOPs that a stage itself computed and seconds that it took: all it is charged, less what it took over from a shared first part."""
    shared = meta.get("shared", {"flops": 0.0, "wall_s": 0.0})
    return float(sum(meta["spent"].values())) - shared["flops"], float(meta["wall_s"]) - shared["wall_s"]


def _remove(path: Path) -> None:
    """Removes a file or folder, if it can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _acquire(descriptor: int, root: Path) -> bool:
    # Tried for a moment because `holder` takes a shared lock for an instant.
    for _ in range(10):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        except OSError as error:
            raise StoreError(
                f"the file system of {root} has no file locks ({error.strerror}), without which two runs could write into one folder; "
                "name a folder on another disk with --out"
            ) from error
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
        if any(text in str(seen) for text in _FULL):
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
