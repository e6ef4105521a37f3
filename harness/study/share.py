"""A place that driver and workers both reach by URI, for machines without a common file system: finished stages and logs are copied there.

Through fsspec: file:// (a mount whose path differs), s3://, gs://, abfs://, sftp:// ... A stage lies under `<uri>/stages/<id>/` as in a run
folder; meta.json is written last, so that a stage is there whole or not at all. Every copy is compared with the stage's checksums.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from harness.core.store import META, Meta, RunStore, is_sealed
from harness.errors import SpecError, StoreError

_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Share:
    """The place at `uri`."""

    uri: str

    def check(self) -> None:
        """Writes, reads and removes a small file there.

        Raises:
            SpecError: no such kind of URI, its fsspec package is missing, or the place cannot be written.
        """
        try:
            files, root = self._files()
            files.makedirs(root, exist_ok=True)
            files.pipe_file(f"{root}/.writable", b"yes")
            files.rm_file(f"{root}/.writable")
        except ImportError as error:
            raise SpecError(f"its fsspec package is missing: {error}", key="--share", value=self.uri) from error
        except (OSError, ValueError) as error:
            raise SpecError(f"cannot be used: {error}", key="--share", value=self.uri) from error

    def has(self, stage: str) -> bool:
        """Whether the whole stage lies there (its files may have been damaged since: `fetch` compares them)."""
        return self._meta(stage) is not None

    def publish(self, stage: str, store: RunStore) -> None:
        """Copies a finished stage there, unless it is there.

        Raises:
            StoreError: what can be read back differs from the stage's checksums.
        """
        if self.has(stage):
            return
        files, root = self._files()
        for name, expected in store.meta(stage)["files"].items():
            place = f"{root}/stages/{stage}/{name}"
            files.makedirs(place.rpartition("/")[0], exist_ok=True)
            files.put_file(str(store.folder(stage) / name), place)
            if _sha256(files, place) != expected:
                raise StoreError(f"stage {stage}: {name} was not copied correctly to {self.uri}")
        files.makedirs(f"{root}/stages/{stage}", exist_ok=True)
        files.pipe_file(f"{root}/stages/{stage}/{META}", (store.folder(stage) / META).read_bytes())

    def fetch(self, stage: str, store: RunStore) -> Meta:
        """Copies a stage from there into a run folder, unless it is in it; returns its meta.json.

        Raises:
            StoreError: the stage is not there, or the copy does not match its checksums.
        """
        if store.finished(stage):
            return store.meta(stage)
        meta = self._meta(stage)
        if meta is None:
            raise StoreError(f"stage {stage} is not whole at {self.uri}")

        def copy(folder: Path) -> None:
            files, root = self._files()
            for name in [META, *meta["files"]]:
                if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise StoreError(f"stage {stage}: {name!r} lies outside the stage")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    files.get_file(f"{root}/stages/{stage}/{name}", str(folder / name))
                except FileNotFoundError as error:
                    raise StoreError(f"stage {stage}: {name} is missing at {self.uri}") from error

        return store.adopt(stage, copy)

    def publish_log(self, stage: str, log: Path) -> None:
        """Copies a stage's output there."""
        files, root = self._files()
        files.makedirs(f"{root}/logs", exist_ok=True)
        files.put_file(str(log), f"{root}/logs/{stage}.log")

    def fetch_log(self, stage: str, log: Path) -> None:
        """Copies a stage's output from there, if it came so far."""
        files, root = self._files()
        if files.exists(f"{root}/logs/{stage}.log"):
            files.get_file(f"{root}/logs/{stage}.log", str(log))

    def _meta(self, stage: str) -> Meta | None:
        files, root = self._files()
        try:
            meta = json.loads(files.cat_file(f"{root}/stages/{stage}/{META}"))
        except (FileNotFoundError, ValueError):  # absent, or a copy broke off in it
            return None
        return meta if isinstance(meta, dict) and is_sealed(meta) else None

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
