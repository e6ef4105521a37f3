from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.core.store import RunStore, is_disk_full, write_text
from harness.errors import StoreError


def fill(folder: Path) -> dict[str, Any]:
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(b"\x00" * 100_000)
    (folder / "samples.parquet").write_text("rows")
    return {"kind": "train", "wall_s": 1.5}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "run")
    with store.locked():
        store.write_stage("abc", fill)
    return store


def test_a_stage_is_published_whole_and_verifies(store: RunStore) -> None:
    assert store.finished("abc")
    assert sorted(store.meta("abc")["files"]) == ["model/weights", "samples.parquet"]
    assert store.meta("abc")["wall_s"] == 1.5
    store.verify("abc")


def test_a_stage_that_raises_leaves_nothing(store: RunStore) -> None:
    def broken(folder: Path) -> dict[str, Any]:
        fill(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.write_stage("def", broken)
    assert not store.finished("def")
    assert [path.name for path in store.stages.iterdir() if path.name.startswith(".tmp")] == []
    store.verify("abc")


@pytest.mark.parametrize("name", ["samples.parquet", "model/weights"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_every_damage_to_a_file_is_found_and_names_it(store: RunStore, name: str, damage: str) -> None:
    path = store.folder("abc") / name
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "truncate" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match=name):
        store.verify("abc")


def test_a_changed_meta_is_found(store: RunStore) -> None:
    path = store.folder("abc") / "meta.json"
    path.write_text(path.read_text().replace("1.5", "0.5"))
    with pytest.raises(StoreError, match="changed after the stage finished"):
        store.verify("abc")
    path.write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        store.verify("abc")


def test_a_discarded_stage_can_be_written_again(store: RunStore) -> None:
    store.discard("abc")
    assert not store.finished("abc")
    store.write_stage("abc", fill)
    store.verify("abc")


def test_leftovers_of_killed_runs_go_at_the_next_start_only_under_the_lock(store: RunStore) -> None:
    leftover = store.stages / ".tmp-def-4242"
    leftover.mkdir()
    (leftover / "half").write_text("x")
    (store.progress / "def.json").write_text("{}")
    with store.locked():
        assert not leftover.exists()
        assert list(store.progress.iterdir()) == []
    assert store.finished("abc")


def test_two_processes_cannot_hold_one_run_and_the_holder_is_named(store: RunStore) -> None:
    hold = f"""
import sys
from pathlib import Path
from harness.core.store import RunStore
with RunStore(Path({str(store.root)!r})).locked():
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert store.holder() == other.pid
        with pytest.raises(StoreError, match=f"pid {other.pid}"), store.locked():
            pass
        other.kill()
    assert store.holder() is None
    with store.locked():
        assert store.holder() == os.getpid()


def test_a_place_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot use"), RunStore(tmp_path / "file" / "run").locked():
        pass


def test_text_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.json"
    write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [inner.name for inner in tmp_path.iterdir()] == ["study.json"]


def test_a_full_disk_is_recognised_behind_other_exceptions() -> None:
    hidden = RuntimeError("while saving")
    hidden.__cause__ = OSError(errno.ENOSPC, "x")
    assert is_disk_full(hidden)
    assert is_disk_full(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))
    assert not is_disk_full(json.JSONDecodeError("x", "y", 0))
