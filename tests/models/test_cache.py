"""Entries of the cache: whole or absent, made once, repaired when damaged."""

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SourceError
from harness.models import cache


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "selfteach"


class Maker:
    """Writes one file and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "a.txt").write_text("content")


def ignore(text: str) -> None:
    pass


def test_an_entry_is_made_once() -> None:
    make = Maker()
    first, second = cache.entry("key", make, on_event=ignore), cache.entry("key", make, on_event=ignore)
    assert first == second
    assert make.calls == 1
    assert (first / "a.txt").read_text() == "content"
    assert cache.cached("key")
    assert not cache.cached("other")


def test_a_changed_file_is_noticed_and_fetched_again_but_a_touched_one_is_not() -> None:
    make, events = Maker(), list[str]()
    file = cache.entry("key", make, on_event=ignore) / "a.txt"
    os.utime(file, (1, 1))
    cache.entry("key", make, on_event=ignore)
    assert make.calls == 1
    file.write_text("CONTENT")  # the same size
    assert not cache.cached("key")
    cache.entry("key", make, on_event=events.append)
    assert make.calls == 2
    assert file.read_text() == "content"
    assert "a.txt has been changed" in events[0]


def test_a_missing_file_is_noticed() -> None:
    make = Maker()
    (cache.entry("key", make, on_event=ignore) / "a.txt").unlink()
    assert (cache.entry("key", make, on_event=ignore) / "a.txt").exists()


def test_a_failed_fetch_leaves_nothing_and_keeps_its_error(root: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise SourceError("gone")

    with pytest.raises(SourceError, match=r"^gone$"):
        cache.entry("key", fail, on_event=ignore)
    assert [path.name for path in root.iterdir()] == ["locks"]


def test_a_full_disk_is_one_clear_message(root: Path) -> None:
    def fill(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SourceError, match="disk full while writing to the cache"):
        cache.entry("key", fill, on_event=ignore)
    assert [path.name for path in root.iterdir()] == ["locks"]


def test_a_cache_that_cannot_be_a_folder_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "selfteach").write_text("a file where the folder should be")
    with pytest.raises(SourceError, match="set XDG_CACHE_HOME"):
        cache.entry("key", Maker(), on_event=ignore)


def test_what_a_killed_process_left_is_removed_by_the_next(root: Path) -> None:
    program = (
        "import os, signal\nfrom harness.models import cache\n"
        "def make(folder):\n    (folder / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "cache.entry('key', make, on_event=print)"
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(root.glob(".partial-*"))) == 1
    assert not cache.cached("key")
    folder = cache.entry("key", Maker(), on_event=ignore)
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    assert not list(root.glob(".partial-*"))


def _slow_entry(log: Path, barrier: Any) -> None:
    def make(folder: Path) -> None:
        with log.open("a") as file:
            file.write("made\n")
        time.sleep(0.3)  # long enough for the others to ask meanwhile
        (folder / "a.txt").write_text("content")

    barrier.wait(timeout=60)
    cache.entry("key", make, on_event=ignore)


def test_two_processes_at_once_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, log = context.Barrier(4), tmp_path / "log"
    processes = [context.Process(target=_slow_entry, args=(log, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert log.read_text() == "made\n"


def test_folder_size_while_folders_vanish(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"12345")
    assert cache.folder_size(tmp_path) == 5
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            (tmp_path / "a" / "b" / "c").mkdir(parents=True)
            shutil.rmtree(tmp_path / "a")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        assert {cache.folder_size(tmp_path) for _ in range(500)} == {5}
    finally:
        stop.set()
        thread.join()
