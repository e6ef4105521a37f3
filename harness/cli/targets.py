"""Where commands write to: what cannot be written is refused before the work for it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from harness.core.store import is_disk_full, write_text
from harness.errors import SpecError, StoreError


def check_file(path: Path, option: str, *, make_parents: bool = False) -> None:
    """Refuses a file that cannot be written or replaced.

    Args:
        make_parents: missing folders will be made.
    Raises:
        SpecError: something else has its name, its folder is missing, or nothing can be written there.
    """
    try:
        taken = path.exists() and not path.is_file()
    except OSError as error:
        raise SpecError(f"cannot be a file: {error.strerror}", key=option, value=str(path)) from error
    if taken:
        raise SpecError("cannot be written: a folder, or no ordinary file", key=option, value=str(path))
    _try(path, option, make_parents)


def check_new_folder(path: Path, option: str, *, make_parents: bool = False) -> None:
    """Refuses a folder that exists or cannot be made; `make_parents` as for `check_file`.

    Raises:
        SpecError: it exists, the folder it should lie in is missing, or nothing can be written there.
    """
    try:
        taken = os.path.lexists(path)
        path.exists()
    except OSError as error:
        raise SpecError(f"cannot be a folder: {error.strerror}", key=option, value=str(path)) from error
    if taken:
        raise SpecError("expected a folder that does not exist yet", key=option, value=str(path))
    _try(path, option, make_parents)


def write_file(path: Path, text: str) -> None:
    """Writes a file in one step, in folders that are made if they are missing.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def _try(path: Path, option: str, make_parents: bool) -> None:
    """Makes a temporary file beside the path, or where its first missing folder would lie, and removes it again."""
    folder = path.absolute().parent
    if make_parents:
        folder = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not os.path.lexists(folder):
        raise SpecError("cannot be written: the folder it should lie in does not exist", key=option, value=str(path))
    if not folder.is_dir():
        raise SpecError(f"cannot be written: {folder} is no folder", key=option, value=str(path))
    try:
        # os.access says yes to root where a file system has no files to make. The name is as long as those of `write_text`.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{path.name}.", suffix=".tmp"):
            pass
    except OSError as error:
        if is_disk_full(error):
            raise
        raise SpecError(f"nothing can be written in {folder}: {error.strerror}", key=option, value=str(path)) from error
