"""Everything fetched once lies in one cache folder: an entry appears whole or not at all, and is checked before it is used.

An entry is made in a temporary folder beside its place, listed in a manifest (size, mtime, sha256 of every file) and renamed. A file lock
per entry lets two processes that ask at once fetch once; what a killed process left behind is removed by the next that takes the lock.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.errors import SourceError

MANIFEST = "manifest.json"
FILES = "files"


def cache_root() -> Path:
    """The folder of fetched models and data: `$XDG_CACHE_HOME/selfteach`, or the platform's cache folder where that is not set."""
    home = Path.home()
    default = {"darwin": home / "Library" / "Caches", "win32": Path(os.environ.get("LOCALAPPDATA", home))}.get(
        sys.platform, home / ".cache"
    )
    return Path(os.environ.get("XDG_CACHE_HOME") or default) / "selfteach"


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_size(folder: Path) -> int:
    """Bytes of the files below `folder`, also while others add and remove some (pathlib's rglob fails on a folder that vanishes)."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON beside `path` and renames it into place."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w") as file:
        json.dump(value, file)
    os.replace(name, path)


def entry(key: str, make: Callable[[Path], None], *, on_event: Callable[[str], None]) -> Path:
    """The folder of files called `key`, made by `make(empty folder)` unless an undamaged one is there.

    Args:
        key: file-name-safe name that determines the content.
        make: fills the folder it is given; whatever it raises leaves no trace in the cache.
        on_event: told in one line when the call waits for another process or finds a damaged entry.

    Raises:
        SourceError: the cache folder cannot be written, or the disk is full.
    """
    root = cache_root()
    place = root / key
    with _disk_errors(root):
        if (place / MANIFEST).exists() and _damage(place) is None:
            return place / FILES
        (root / "locks").mkdir(parents=True, exist_ok=True)
        with _locked(root / "locks" / f"{key}.lock", on_event):
            damage = _damage(place)
            if damage is None:
                return place / FILES
            if place.exists():
                on_event(f"{place}: {damage}; fetching it again")
            _replace(place, make)
    return place / FILES


def cached(key: str) -> bool:
    """Whether an undamaged entry called `key` is in the cache."""
    return _damage(cache_root() / key) is None


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except SourceError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SourceError(
                f"disk full while writing to the cache {root}: free some space and run it again (nothing half is kept)"
            ) from error
        raise SourceError(f"cannot use the cache {root}: {error}; set XDG_CACHE_HOME to a folder you can write to") from error


@contextmanager
def _locked(path: Path, on_event: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        on_event(f"another process is fetching {path.stem}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _replace(place: Path, make: Callable[[Path], None]) -> None:
    partial_prefix = f".partial-{place.name}-"
    for left_behind in place.parent.glob(f"{partial_prefix}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=partial_prefix))
    try:
        (partial / FILES).mkdir()
        make(partial / FILES)
        write_json(partial / MANIFEST, _describe(partial / FILES))
        if place.exists():
            shutil.rmtree(place)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _describe(files: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(path for path in files.rglob("*") if path.is_file())
    return {
        path.relative_to(files).as_posix(): {"size": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns, "sha256": sha256_of(path)}
        for path in paths
    }


def _damage(place: Path) -> str | None:
    """What is wrong with an entry in a few words, or None. Contents are hashed only where the modification time has changed."""
    try:
        manifest = json.loads((place / MANIFEST).read_text())
    except (OSError, ValueError):
        return "its manifest is missing or unreadable"
    for name, expected in manifest.items():
        path = place / FILES / name
        if not path.is_file() or path.stat().st_size != expected["size"]:
            return f"{name} is missing or has another size"
        if path.stat().st_mtime_ns != expected["mtime_ns"] and sha256_of(path) != expected["sha256"]:
            return f"{name} has been changed"
    return None
