"""Faults around a study: damaged files, full disks, stepping clocks, memory, signals, streams that close. Stages are featherweight."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from harness.cli import main
from harness.cli.commands import signals_as_ctrl_c
from harness.cli.text import console, print_json
from harness.core.results import load_run
from harness.core.store import RunStore
from harness.study.executor import LocalExecutor, _Worker
from harness.study.plan import Stage
from harness.study.progress import ProgressWriter, read_progress
from harness.study.worker import StageResult, attempt, is_out_of_memory
from tests.study.conftest import wait_until

FEATHER = Path(__file__).parent / "feather"
FULL = "is full; finished stages are untouched: free some space and run the same command again"


@dataclass
class Feather:
    """A featherweight study and its run folder."""

    root: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def run_dir(self) -> Path:
        return self.root / "run"

    def write(self, **changes: Any) -> Path:
        (self.root / "model").mkdir(exist_ok=True)
        (self.root / "model" / "weights.safetensors").write_text("{}")
        content = {
            "name": "feather",
            "student": {"model": f"file:{self.root / 'model'}"},
            "pool": {"name": "feather_pool"},
            "budget": {"train_flops": 3e8},
            "seeds": [0, 1, 2],
            "methods": [{"name": "feather_base"}, {"name": "feather_walk"}],
            "suites": ["feather_suite"],
        } | changes
        path = self.root / "feather.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    def start(self, *arguments: object, before: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
        """`selfteach run` of the study; `before`: a command that runs it (unshare, say)."""
        path = os.pathsep.join(filter(None, [str(FEATHER), os.environ.get("PYTHONPATH")]))
        environment = {"PYTHONPATH": path, "XDG_CACHE_HOME": str(self.root / "cache"), "FEATHER_S": "0"} | options.pop("environment", {})
        command = [*before, sys.executable, FEATHER / "feather_run.py", "run", self.root / "feather.yaml", "--workers", 2]
        process = subprocess.Popen(
            [*map(str, command), "--out", str(self.run_dir), *map(str, arguments)],
            cwd=self.root,
            env={**os.environ, **environment},
            text=True,
            start_new_session=True,
            preexec_fn=hang_up_ends,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options},
        )
        self.started.append(process)
        return process

    def run(self, *arguments: object, **options: Any) -> tuple[int, str]:
        """Exit code and everything printed."""
        process = self.start(*arguments, **options)
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    def held(self, **options: Any) -> tuple[subprocess.Popen[str], Path]:
        """A run in the middle of a stage, and the gate whose removal lets it go on."""
        gate = self.root / "gate"
        gate.touch()
        driver = self.start(environment={"FEATHER_GATE": str(gate)}, **options)
        wait_until(Path(f"{gate}.there").exists, seconds=120)
        return driver, gate


def hang_up_ends() -> None:
    """A process that begins with it ends at SIGHUP, as in a terminal, also where the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def feather(tmp_path: Path) -> Iterator[Feather]:
    place = Feather(tmp_path)
    place.write()
    yield place
    for process in place.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Feather(tmp_path_factory.mktemp("feather"))
    place.write()
    code, output = place.run()
    assert code == 0, output
    return place.run_dir


def same_scores(run_dir: Path, reference: Path) -> bool:
    frames = [load_run(place).samples.sort_values(["method", "seed", "sample_id"]).reset_index(drop=True) for place in (run_dir, reference)]
    return bool(frames[0].equals(frames[1])) and len(frames[0]) == 72


def calm(output: str) -> bool:
    """Whether a user was told something, not shown a traceback."""
    return "Traceback (most recent" not in output and "Exception ignored" not in output


# -- damaged files


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
        return
    flipped = bytearray(content)
    if content:
        flipped[len(content) // 2] ^= 1
    path.write_bytes(
        {"truncated": content[: len(content) // 2], "flipped": bytes(flipped), "emptied": b"", "zeros": bytes(len(content))}[how]
    )


@pytest.mark.slow
def test_whatever_is_damaged_is_made_anew_with_a_notice_and_the_scores_stay(feather: Feather, undisturbed: Path) -> None:
    shutil.copytree(undisturbed, feather.run_dir)
    shutil.rmtree(feather.root / "model")
    shutil.copytree(undisturbed.parent / "model", feather.root / "model")
    store = RunStore(feather.run_dir)
    kinds = {"train": [], "score": []}
    for path in sorted(store.stages.glob("*/meta.json")):
        kinds[json.loads(path.read_text())["kind"]].append(path.parent)
    cases = [
        (kinds["train"][0], "model/weights.safetensors", "truncated", "does not match its checksum"),
        (kinds["train"][1], "ledger.parquet", "flipped", "does not match its checksum"),
        (kinds["train"][2], "checkpoints.json", "removed", "is missing"),
        (kinds["train"][3], "meta.json", "zeros", "cannot be read"),
        (kinds["score"][0], "samples.parquet", "flipped", "does not match its checksum"),
        (kinds["score"][1], "curves.parquet", "emptied", "does not match its checksum"),
        (kinds["score"][2], "meta.json", "removed", "cannot be read"),
    ]
    for folder, name, how, _ in cases:
        damage(folder / name, how)
    damage(feather.run_dir / "study.json", "zeros")
    damage(feather.run_dir / "leaderboard.json", "truncated")
    with (feather.run_dir / "journal.jsonl").open("ab") as journal:
        journal.write(bytes(512))
    code, output = feather.run()
    assert code == 0, output
    assert calm(output)
    for folder, name, _, told in cases:
        (line,) = (line for line in output.splitlines() if "is computed again" in line and folder.name in line)
        assert f"{name}" in line
        assert told in line
    assert "7 stages computed, 1 reused" in output
    assert same_scores(feather.run_dir, undisturbed)


@pytest.mark.slow
def test_a_journal_damaged_in_the_middle_is_told_before_anything_is_computed(feather: Feather) -> None:
    feather.run_dir.mkdir()
    (feather.run_dir / "journal.jsonl").write_text(
        '{"t": 1, "event": "run_started"}\n{"t": 2, "ev\n{"t": 3, "event": "stage_started", "stage": "x"}\n'
    )
    code, output = feather.run()
    assert (code, calm(output)) == (4, True)
    assert "line 2 is damaged; move the file away to continue without its history" in output
    assert output.count("\n") == 1
    (feather.run_dir / "journal.jsonl").rename(feather.root / "old.jsonl")
    assert feather.run()[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "status", "verify", "compare", "export"])
@pytest.mark.parametrize(
    ("kind", "name", "how", "told"),
    [
        ("score", "samples.parquet", "flipped", "samples.parquet does not match its checksum"),
        ("score", "samples.parquet", "emptied", "samples.parquet does not match its checksum"),
        ("train", "ledger.parquet", "removed", "ledger.parquet is missing"),
        ("train", "curves.parquet", "truncated", "curves.parquet does not match its checksum"),
        ("train", "meta.json", "truncated", "meta.json cannot be read"),
        ("train", "meta.json", "zeros", "meta.json cannot be read"),
        ("", "study.json", "zeros", "study.json is damaged"),
        ("", "journal.jsonl", "zeros in the middle", "line 2 is damaged; move the file away"),
    ],
)
def test_commands_on_a_half_damaged_run_give_one_message(
    tmp_path: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str], command: str, kind: str, name: str, how: str, told: str
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(undisturbed, run_dir)
    if how == "zeros in the middle":
        lines = (run_dir / name).read_bytes().split(b"\n")
        (run_dir / name).write_bytes(b"\n".join([lines[0], bytes(len(lines[1])), *lines[2:]]))
    elif kind:
        (stage, *_) = (path.parent for path in sorted(run_dir.glob("stages/*/meta.json")) if json.loads(path.read_text())["kind"] == kind)
        damage(stage / name, how)
    else:
        damage(run_dir / name, how)
    rest = {
        "verify": ["--claims", "teams_rl_2024"],
        "export": ["feather_walk-0", "--out", str(tmp_path / "out")],
        "compare": ["--models", "feather_base,feather_walk"],
    }
    code, out, err = call(capsys, command, str(run_dir), *rest.get(command, []))
    if command == "status" and kind:
        assert (code, err) == (0, ""), "it reads the journal alone: how far a run is, not whether its files are whole"
        return
    assert code in (2, 4) if command == "compare" else code == 4, err
    assert told in err
    assert err.count("\n") == 1
    if command == "verify" and kind:
        assert told in out, "what else can be judged is printed, and what cannot"
    else:
        assert out == ""


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


# -- disks


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounts a small disk in a namespace of its own")
@pytest.mark.parametrize("size_kib", [40, 120, 250, 420])
def test_a_disk_that_fills_up_stops_the_run_and_the_same_command_finishes_it(feather: Feather, undisturbed: Path, size_kib: int) -> None:
    """A finished run takes about 1,100 KiB: the disk is full at the study's record, in the first or a later stage, or at the report."""
    kept = feather.root / "kept"
    script = f'mount -t tmpfs -o size={size_kib}k none {feather.run_dir} && "$@"; code=$?; cp -r {feather.run_dir} {kept}; exit $code'
    feather.run_dir.mkdir()
    code, output = feather.run(before=("unshare", "-m", "sh", "-c", script, "sh"))
    assert code == 4, output
    assert calm(output)
    assert output.splitlines()[-1].endswith((FULL, "No space left on device"))
    assert not list(kept.glob("stages/.tmp-*"))
    finished = [path.parent.name for path in kept.glob("stages/*/meta.json")]
    for stage in finished:
        RunStore(kept).verify(stage)
    feather.run_dir.rmdir()
    kept.rename(feather.run_dir)
    code, output = feather.run()
    assert code == 0, output
    assert f"{len(finished)} reused" in output
    assert same_scores(feather.run_dir, undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounts a folder read-only in a namespace of its own")
def test_a_read_only_run_folder_is_one_message(feather: Feather) -> None:
    feather.run_dir.mkdir()
    script = f'mount -t tmpfs -o ro none {feather.run_dir} && "$@"'
    code, output = feather.run(before=("unshare", "-m", "sh", "-c", script, "sh"))
    assert (code, output) == (4, f"selfteach: cannot use {feather.run_dir} as a run folder: Read-only file system\n")


@pytest.mark.slow
def test_a_run_folder_that_is_a_link_works_and_one_that_leads_nowhere_is_told(feather: Feather, undisturbed: Path) -> None:
    feather.run_dir.symlink_to(feather.root / "elsewhere")
    code, output = feather.run()
    assert (code, output.count("\n"), calm(output)) == (4, 1, True)
    assert "cannot use" in output
    (feather.root / "elsewhere").mkdir()
    code, output = feather.run()
    assert code == 0, output
    assert feather.run_dir.is_symlink()
    assert same_scores(feather.run_dir, undisturbed)


@pytest.mark.slow
def test_a_run_folder_removed_under_a_run_is_one_message(feather: Feather) -> None:
    driver, gate = feather.held()
    shutil.rmtree(feather.run_dir)
    gate.unlink()
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 4, output
    assert calm(output)
    assert f"{feather.run_dir} was removed or moved while the run wrote to it; the same command starts afresh" in output


# -- memory


@pytest.mark.slow
def test_out_of_memory_is_tried_once_more_and_then_fails_alone(feather: Feather) -> None:
    once, ever = feather.root / "once", feather.root / "ever"
    once.write_text("1")
    ever.write_text("9")
    methods = [
        {"name": "feather_base"},
        {"name": "feather_walk", "variant": "once", "config": {"memory_file": str(once)}},
        {"name": "feather_walk", "variant": "ever", "config": {"memory_file": str(ever)}},
    ]
    feather.write(seeds=[0], methods=methods)
    code, output = feather.run()
    assert (code, calm(output)) == (5, True), output
    assert "train feather_walk:once seed 0: it ran out of memory (MemoryError:); trying once more" in output
    assert "train feather_walk:ever seed 0: it ran out of memory (MemoryError:), 2 times; where memory is short, fewer --workers" in output
    assert ever.read_text() == "7"
    trials = load_run(feather.run_dir).trials.set_index("method")["status"].to_dict()
    assert trials == {"feather_base": "finished", "feather_walk:once": "finished", "feather_walk:ever": "failed"}
    assert (feather.run_dir / "report.html").exists()


class _Pipe:
    """A worker's end of things: a result, or the end of the stream."""

    def __init__(self, result: StageResult | None) -> None:
        self.result, (self.reader, self.writer) = result, os.pipe()
        os.write(self.writer, b"x")

    def fileno(self) -> int:
        return self.reader

    def poll(self) -> bool:
        return True

    def recv(self) -> StageResult:
        if self.result is None:
            raise EOFError
        return self.result

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


def collected(store: RunStore, result: StageResult | None) -> Any:
    """What an executor makes of a worker that sends `result`, or is killed."""
    executor = LocalExecutor(store, workers=1, threads=1)
    process: Any = SimpleNamespace(kill=lambda: None, join=lambda: None, exitcode=-9)
    pipe: Any = _Pipe(result)
    executor._pool = [_Worker(process, pipe, None, Stage("abc", "train", "a", 0, (), {}))]
    (ended,) = executor.collect(1.0)
    assert not executor._pool, "its worker is not used again"
    return ended


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "run")
    store.stages.mkdir(parents=True)
    return store


def test_a_worker_killed_after_it_published_its_stage_has_finished_it(store: RunStore) -> None:
    assert collected(store, None).again
    meta = store.write_stage("abc", lambda folder: {"wall_s": 1.0})
    ended = collected(store, None)
    assert (ended.result.meta, ended.again) == (meta, False)


def attempt_of(error: BaseException) -> StageResult:
    def run() -> dict[str, Any]:
        raise error

    task: Any = SimpleNamespace(stage=Stage("abc", "train", "a", 0, (), {}), run=run)
    return attempt(task)


def test_what_a_stage_raises_is_told_apart() -> None:
    short = attempt_of(MemoryError())
    assert (short.out_of_memory, short.disk_full) == (True, False)
    full = attempt_of(OSError(errno.ENOSPC, "x"))
    assert (full.out_of_memory, full.disk_full) == (False, True)
    assert is_out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"))
    assert not is_out_of_memory(RuntimeError("the memory of the student"))


def test_a_stage_fails_in_words_even_where_its_log_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        result = attempt_of(RuntimeError("why"))
        monkeypatch.undo()
        assert result.disk_full
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


# -- clocks


def test_progress_is_reported_whatever_the_clock_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, ticks = [2e9], [100.0]
    monkeypatch.setattr("harness.study.progress.time", SimpleNamespace(time=lambda: now[0], monotonic=lambda: ticks[0]))
    writer = ProgressWriter(tmp_path, stage="abc", label="a seed 0", kind="train", unit="FLOPs", total=10)
    writer.report(1)
    for clock in (2e9 - 9 * 86400, 2e9 + 9 * 86400, 0.0):
        now[0], ticks[0] = clock, ticks[0] + 1
        writer.report(ticks[0] - 98)
        (row,) = read_progress(tmp_path)
        assert (row.done, row.elapsed_s) == (ticks[0] - 98, ticks[0] - 100)
    ticks[0] += 0.1
    writer.report(9)
    assert read_progress(tmp_path)[0].done == ticks[0] - 98.1, "at most twice a second"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stage": "x"}', "\x00\x00"])
def test_progress_that_a_crash_garbled_is_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert read_progress(tmp_path) == []


# -- signals and streams


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stopping_signal_to_all_ends_all_and_the_run_continues_later(feather: Feather, undisturbed: Path, number: signal.Signals) -> None:
    driver, gate = feather.held()
    os.killpg(driver.pid, number)  # as Slurm and a closed terminal send it: to workers as well
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, output
    assert output.splitlines()[-1] == "selfteach: stopped; finished stages are kept, continue with the same command"
    assert calm(output)
    with pytest.raises(ProcessLookupError):
        wait_until_gone(driver.pid)
    assert not list(RunStore(feather.run_dir).stages.glob(".tmp-*"))
    gate.unlink()
    assert feather.run()[0] == 0
    assert same_scores(feather.run_dir, undisturbed)


def wait_until_gone(group: int) -> None:
    """Raises ProcessLookupError as soon as a process group has no process."""
    for _ in range(100):
        os.killpg(group, 0)
        time.sleep(0.05)


@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background of a script"])
def test_signals_stop_as_ctrl_c_does_unless_they_were_ignored(ctrl_c: Any) -> None:
    interrupt = signal.signal(signal.SIGINT, ctrl_c)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with signals_as_ctrl_c():
            signal.raise_signal(signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt), signals_as_ctrl_c():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGINT, interrupt)


@pytest.mark.slow
def test_a_run_whose_reader_leaves_goes_on_to_its_end(feather: Feather, undisturbed: Path) -> None:
    reader, writer = os.pipe()
    driver = feather.start(stdout=writer, stderr=writer)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    assert driver.wait(timeout=240) == 0
    assert same_scores(feather.run_dir, undisturbed)


@pytest.fixture
def left_pipe() -> Iterator[Any]:
    """A stream that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        yield stream


def test_writing_to_a_reader_that_left_stops_nobody(monkeypatch: pytest.MonkeyPatch, left_pipe: Any) -> None:
    monkeypatch.setattr(sys, "stdout", left_pipe)
    writer = console()
    for _ in range(3):
        writer.print("x" * 10_000)
    print_json({"a": 1})


def test_writing_to_a_full_disk_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OSError, match="No space left"):
            console().print("x")
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
