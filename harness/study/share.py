"""A place that driver and workers both reach by URI, for machines without a common file system: finished stages and logs are copied there.

Through fsspec: file:// (a mount whose path differs), s3://, gs://, abfs://, sftp:// ... A stage's files lie under
`<uri>/stages/<id>/<attempt>/`, so that twins which finish it at once never mix. `<uri>/stages/<id>/meta.json` is written last and names the
attempt, so that a stage is there whole or not at all. Every copy is compared with the stage's checksums; of a damaged one meta.json is
removed, so that it counts as absent and is copied or computed again.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import Any, Concatenate, ParamSpec, TypeVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from harness.core.store import META, Meta, RunStore, is_sealed, write_json
from harness.errors import SelfteachError, SpecError, StoreError

_CHUNK_BYTES = 2**20
Given = ParamSpec("Given")
Found = TypeVar("Found")


def _reached(method: Callable[Concatenate[Share, Given], Found]) -> Callable[Concatenate[Share, Given], Found]:
    """Makes one message of whatever fsspec raises: each of its packages has errors of its own, which share no class.

    Raises:
        StoreError: the place did not answer, or refused.
    """

    @wraps(method)
    def wrapped(share: Share, /, *args: Given.args, **options: Given.kwargs) -> Found:
        try:
            return method(share, *args, **options)
        except (SelfteachError, MemoryError):
            raise
        except Exception as error:
            raise StoreError(f"the share at {share.uri} failed ({type(error).__name__}: {error})") from error

    return wrapped


@dataclass(frozen=True)
class Share:
    """The place at `uri`."""

    uri: str

    def check(self) -> None:
        """Writes, reads and removes a small file there.

        Raises:
            SpecError: no such kind of URI, its fsspec package is missing, the place cannot be written, or no other process sees it.
        """
        try:
            files, root = self._files()
            files.makedirs(root, exist_ok=True)
            files.pipe_file(f"{root}/.writable", b"yes")
            files.rm_file(f"{root}/.writable")
        except ImportError as error:
            raise SpecError(f"its fsspec package is missing: {error}", key="--share", value=self.uri) from error
        except Exception as error:  # as in _reached
            raise SpecError(f"cannot be used: {error}", key="--share", value=self.uri) from error
        if isinstance(files, MemoryFileSystem):
            raise SpecError("lies in this process's memory, where no worker sees it", key="--share", value=self.uri)

    @_reached
    def has(self, stage: str) -> bool:
        """Whether the whole stage lies there (its files may have been damaged since: `fetch` compares them)."""
        return self._found(stage) is not None

    @_reached
    def publish(self, stage: str, store: RunStore) -> None:
        """Copies a finished stage there, unless it is there.

        Raises:
            StoreError: what can be read back differs from the stage's checksums.
        """
        if self.has(stage):
            return
        files, root = self._files()
        attempt, meta = secrets.token_hex(8), store.meta(stage)
        for name, expected in meta["files"].items():
            place = f"{root}/stages/{stage}/{attempt}/{name}"
            files.makedirs(place.rpartition("/")[0], exist_ok=True)
            files.put_file(str(store.folder(stage) / name), place)
            if _sha256(files, place) != expected:
                raise StoreError(f"stage {stage}: {name} was not copied correctly to {self.uri}")
        files.makedirs(f"{root}/stages/{stage}", exist_ok=True)
        files.pipe_file(f"{root}/stages/{stage}/{META}", json.dumps({"attempt": attempt, "meta": meta}).encode())

    @_reached
    def fetch(self, stage: str, store: RunStore) -> Meta:
        """Copies a stage from there into a run folder, unless it is in it; returns its meta.json.

        Raises:
            StoreError: the stage is not there, or the copy does not match its checksums; it is then not there any more.
        """
        if store.finished(stage):
            return store.meta(stage)
        found = self._found(stage)
        if found is None:
            raise StoreError(f"stage {stage} is not whole at {self.uri}")
        attempt, meta = found

        def copy(folder: Path) -> None:
            files, root = self._files()
            for name in meta["files"]:
                if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise StoreError(f"stage {stage}: {name!r} lies outside the stage")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    files.get_file(f"{root}/stages/{stage}/{attempt}/{name}", str(folder / name))
                except FileNotFoundError as error:
                    raise StoreError(f"stage {stage}: {name} is missing at {self.uri}") from error
            write_json(folder / META, meta)

        try:
            return store.adopt(stage, copy)
        except StoreError:
            self._retract(stage, attempt)
            raise

    @_reached
    def publish_log(self, stage: str, log: Path) -> None:
        """Copies a stage's output there."""
        files, root = self._files()
        files.makedirs(f"{root}/logs", exist_ok=True)
        files.put_file(str(log), f"{root}/logs/{stage}.log")

    @_reached
    def fetch_log(self, stage: str, log: Path) -> None:
        """Copies a stage's output from there, if it came so far."""
        files, root = self._files()
        if files.exists(f"{root}/logs/{stage}.log"):
            files.get_file(f"{root}/logs/{stage}.log", str(log))

    def _retract(self, stage: str, attempt: str) -> None:
        """Makes a damaged stage one that is not there, unless a whole one has taken its place."""
        found = self._found(stage)
        if found is not None and found[0] == attempt:
            files, root = self._files()
            with suppress(FileNotFoundError):
                files.rm_file(f"{root}/stages/{stage}/{META}")

    def _found(self, stage: str) -> tuple[str, Meta] | None:
        """The attempt whose files are the stage's, and their meta.json."""
        files, root = self._files()
        try:
            found = json.loads(files.cat_file(f"{root}/stages/{stage}/{META}"))
            attempt, meta = str(found["attempt"]), found["meta"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # absent, or a copy broke off in it
            return None
        return (attempt, meta) if isinstance(meta, dict) and is_sealed(meta) else None

    def _files(self) -> tuple[Any, str]:
        # Listings are not cached: the other side adds files all the time.
        files, root = fsspec.core.url_to_fs(self.uri, use_listings_cache=False)
        return files, root.rstrip("/")


def _sha256(files: Any, place: str) -> str:
    digest = hashlib.sha256()
    with files.open(place, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
