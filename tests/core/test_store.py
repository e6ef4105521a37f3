from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.core.store import RunStore, find_run, is_disk_full, write_text
from harness.errors import SpecError, StoreError


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


def test_a_run_is_not_mixed_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("x")
    with pytest.raises(StoreError, match=r"no run folder and not empty \(model\.safetensors"), RunStore(tmp_path).locked():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_name_that_no_file_can_have_is_no_run() -> None:
    with pytest.raises(SpecError, match="no such run"):
        find_run("a" * 300)


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


def test_twins_with_one_pid_on_two_hosts_write_into_folders_of_their_own(store: RunStore) -> None:
    """Containers that share a file system: the second twin starts and finishes while the first is at it. What is left goes at the end."""

    def slow(folder: Path) -> dict[str, object]:
        (folder / "mine").write_text("first")
        store.write_stage("def", lambda other: ((other / "mine").write_text("second"), {"wall_s": 2.0})[1])
        assert (folder / "mine").read_text() == "first"
        return {"wall_s": 1.0}

    assert store.write_stage("def", slow)["wall_s"] == 2.0
    store.verify("def")
    assert (store.folder("def") / "mine").read_text() == "second"
    assert not list(store.stages.glob(".tmp-*"))

    left: list[Path] = []

    def killed(folder: Path) -> dict[str, object]:
        left.append(folder.rename(folder.with_name(f"{folder.name}-copy")))  # as if nothing had tidied up
        raise KeyboardInterrupt

    store.queue.mkdir()
    for stage, queued in (("ghi", False), ("jkl", True)):
        (store.queue / "jkl.json").write_text("{}")
        with pytest.raises(KeyboardInterrupt):
            store.write_stage(stage, killed)
        with store.locked():
            assert left[-1].exists() == queued, "only a job that may still write keeps its folder"


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


def never(folder: Path) -> dict[str, Any]:
    raise AssertionError("computed again")


def test_a_finished_stage_is_not_computed_again(store: RunStore) -> None:
    assert store.write_stage("abc", never) == store.meta("abc")


def test_of_two_that_finish_a_stage_the_first_stays(store: RunStore) -> None:
    def slow(folder: Path) -> dict[str, Any]:
        shutil.copytree(store.folder("abc"), store.folder("def"))  # another worker, which was thought lost, publishes it meanwhile
        return fill(folder) | {"wall_s": 9.0}

    assert store.write_stage("def", slow)["wall_s"] == 1.5
    assert store.meta("def")["wall_s"] == 1.5
    assert not list(store.stages.glob(".tmp-*"))


def test_what_lies_unfinished_in_a_stages_place_is_told_and_can_be_removed(store: RunStore) -> None:
    (store.folder("abc") / "meta.json").unlink()
    store.folder("def").write_text("a file")
    assert not store.exists("ghi")
    for stage in ("abc", "def"):
        assert store.exists(stage)
        assert not store.finished(stage)
        with pytest.raises(StoreError, match=r"meta\.json cannot be read"):
            store.verify(stage)
        store.discard(stage)
        assert not store.exists(stage)


@pytest.mark.parametrize("text", ["[]", "null", '"x"', "{}", "\x00" * 40, ""])
def test_a_record_that_is_no_record_is_told(store: RunStore, text: str) -> None:
    (store.folder("abc") / "meta.json").write_text(text)
    with pytest.raises(StoreError, match=r"abc/meta\.json (cannot be read|is not the record|was changed)"):
        store.verify("abc")


def test_single_files_are_checked_and_those_that_were_never_there_are_nobodys_loss(store: RunStore) -> None:
    (store.folder("abc") / "samples.parquet").write_text("other")
    store.verify("abc", ["model/weights", "curves.parquet"])
    with pytest.raises(StoreError, match="does not match its checksum"):
        store.verify("abc", ["samples.parquet"])


@pytest.mark.parametrize("content", [str(os.getppid()), "", "no pid", "\x00" * 8])
def test_only_a_held_lock_counts_not_the_pid_in_it(store: RunStore, content: str) -> None:
    (store.root / "lock").write_text(content)  # of a dead driver, whose pid another process may have by now
    assert store.holder() is None
    with store.locked():
        assert store.holder() == os.getpid()


def test_a_file_system_without_locks_is_refused_with_a_remedy(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(descriptor: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(StoreError, match=r"has no file locks \(No locks available\).* --out"), store.locked():
        pass
    assert store.holder() is None


def test_half_written_records_of_killed_runs_go_too(store: RunStore) -> None:
    (store.root / "claims").mkdir()
    left = [store.root / ".study.json.42.tmp", store.root / "claims" / ".0-x.yaml.42.tmp", store.progress / "def.42.tmp"]
    for path in left:
        path.write_text("{")
    with store.locked():
        assert not any(path.exists() for path in left)


def test_a_run_folder_that_is_removed_under_the_lock_hides_no_other_error(store: RunStore) -> None:
    with pytest.raises(ZeroDivisionError), store.locked():  # noqa: PT012
        shutil.rmtree(store.root)
        _ = 1 / 0
