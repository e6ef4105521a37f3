"""What every executor must do, whatever runs the stages: the same tests for this machine's processes, for Ray and for Slurm.

Slurm's commands are tests/study/slurm_commands/fake_slurm.py, so the executor's own code and submitit's are used to the last line;
SELFTEACH_TEST_SLURM=real takes the cluster that the machine belongs to instead.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.store import RunStore
from harness.errors import ExecutorError, StoreError
from harness.study.executor import LocalExecutor
from harness.study.plan import Setting, Stage
from harness.study.ray_executor import RayExecutor, load_ray
from harness.study.ray_head import RayHead
from harness.study.schedule import Executor, Outcome, worker_environment
from harness.study.share import Share
from harness.study.slurm_executor import SlurmExecutor, queued_jobs
from harness.study.worker import StageResult
from tests.study.cheap_stages import CheapTask, Watcher, stage
from tests.study.conftest import PYTHONPATH, Workplace, alive, wait_until
from tests.study.test_run import assert_same_results

NAMES = ("local", "ray", "ray with a share", "slurm")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray's sockets and submitit's processes, not ours


def needs(package: str) -> None:
    """Skips a test; `importorskip` would import Ray, which is too soon."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster for the whole module: starting one takes seconds."""
    needs("ray")
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", PYTHONPATH)
    with RayHead(cpus=2) as address:
        yield address
    patch.undo()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's commands on the PATH."""
    needs("submitit")
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    monkeypatch.setattr("harness.study.slurm_executor.RESULTS_EVERY_S", 0.2)
    monkeypatch.setattr("harness.study.slurm_executor.QUEUE_EVERY_S", 1.0)
    if os.environ.get("SELFTEACH_TEST_SLURM") == "real":
        return
    fake_slurm(tmp_path, monkeypatch)


def fake_slurm(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the pretended commands onto the PATH; the folder in which they keep their state."""
    commands, state = place / "bin", place / "fake-slurm"
    commands.mkdir()
    state.mkdir()
    for name in ("sbatch", "srun", "squeue", "scancel", "scontrol"):
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent / "slurm_commands" / "fake_slurm.py"} {name} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(state))
    return state


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    found = RunStore(tmp_path / "run")
    with found.locked():
        yield found


@pytest.fixture(params=NAMES)
def executor(request: pytest.FixtureRequest, store: RunStore) -> Executor:
    if request.param == "local":
        return LocalExecutor(store, workers=2, threads=1)
    if request.param == "slurm":
        request.getfixturevalue("slurm")
        return SlurmExecutor(store, workers=None, threads=1, options={})
    share = Share(f"file://{store.root.parent}/share") if request.param == "ray with a share" else None
    return RayExecutor(store, workers=2, threads=1, address=request.getfixturevalue("cluster"), share=share)


def run(executor: Executor, stages: list[Stage], watcher: Watcher | None = None, done: set[str] | None = None) -> Outcome:
    place = executor.store.root.parent
    return executor.run(
        stages,
        done=done or set(),
        seconds={each.id: 1.0 for each in stages},
        task_for=lambda each: CheapTask(executor.store.root, each, place),
        observer=watcher or Watcher(),
    )


def begun(executor: Executor, stage_id: str) -> list[int]:
    path = executor.store.root.parent / f"{stage_id}.begun"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_inputs_come_first_failures_stay_with_their_descendants_and_results_are_whole(executor: Executor) -> None:
    stages = [
        stage("base"),
        stage("left", "base"),
        stage("both", "left", "fails-not", kind="score"),
        stage("fails-not", "base"),
        stage("fails", does="fail"),
        stage("after", "fails", kind="score"),
        stage("long-after", "after", "base"),
        stage("dies-once", does="kill once"),
        stage("dies", does="kill"),
        stage("orphan", "dies"),
        stage("starves-once", does="starve once"),
        stage("starves", does="starve"),
    ]
    watcher = Watcher()
    outcome = run(executor, stages, watcher)
    assert outcome.finished == {"base", "left", "both", "fails-not", "dies-once", "starves-once"}
    assert outcome.blocked == {"after", "long-after", "orphan"}
    assert outcome.failed["fails"] == "RuntimeError: no such luck"
    assert ", 2 times" in outcome.failed["dies"]
    assert outcome.failed["starves"].startswith("it ran out of memory (MemoryError: no room), 2 times; where memory is short")
    assert set(outcome.failed) == {"fails", "dies", "starves"}
    for name in ("starves", "starves-once"):
        first, second = begun(executor, name)
        assert first != second, "memory that the first worker holds would be missing at the second attempt"
    assert {name: len(begun(executor, name)) for name in ("base", "fails", "dies-once", "dies", "orphan")} == {
        "base": 1, "fails": 1, "dies-once": 2, "dies": 2, "orphan": 0,
    }  # fmt: skip
    died = [(how, name) for how, name in watcher.told if how in ("killed", "retried")]
    assert sorted(name for _, name in died) == [
        "dies", "dies", "dies-once", "starves", "starves", "starves-once",
    ], "every death is told, whoever tries again"  # fmt: skip
    assert {how for how, name in died if name == "dies-once"} == {"retried" if isinstance(executor, RayExecutor) else "killed"}
    assert not list(executor.store.queue.glob("*"))
    for upstream, downstream in (("base", "left"), ("left", "both"), ("fails-not", "both")):
        assert watcher.told.index(("finished", upstream)) < watcher.told.index(("started", downstream))
    texts = {name: (executor.store.folder(name) / "result.txt").read_text() for name in outcome.finished}
    assert texts["both"] == "base\nleft\nbase\nfails-not\nboth\n"
    for name in outcome.finished:
        executor.store.verify(name)
    assert "Traceback" in (executor.store.failed / "fails.log").read_text()
    logs = "".join(path.read_text() for path in executor.store.logs.glob("*.log"))
    for said in ("I am both", "and so says C", "no such luck"):
        assert said in logs
    assert not list(executor.store.queue.glob("*.json"))

    environment = executor.store.meta("both")["environment"]
    assert {name: environment[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "PYTHONHASHSEED")} == {
        name: worker_environment(1)[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "PYTHONHASHSEED")
    }
    assert executor.store.meta("both")["pid"] != os.getpid()


@pytest.mark.parametrize("executor", ["local", "ray", "slurm"], indirect=True)
def test_a_full_disk_and_ctrl_c_stop_everything_and_leave_no_worker(executor: Executor) -> None:
    gate = executor.store.root.parent / "gate"
    gate.touch()
    waits = stage("waits", does="wait")
    watcher = Watcher()

    class Impatient(Watcher):
        def tick(self) -> None:
            if begun(executor, "waits"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(executor, [waits], Impatient())
    (pid,) = begun(executor, "waits")
    wait_until(lambda: not alive(pid), seconds=10)
    assert not executor.store.finished("waits")
    assert not list(executor.store.queue.glob("*.json"))
    with pytest.raises(StoreError, match=r"is full; finished stages are untouched"):
        run(executor, [stage("ok"), stage("full", "ok", does="disk full"), stage("never", "full")], watcher)
    assert executor.store.finished("ok")
    assert not executor.store.finished("never")
    gate.unlink()
    assert run(executor, [waits]).finished == {"waits"}
    assert len(begun(executor, "waits")) == 2


DRIVER = """
import os, sys
from pathlib import Path
from harness.core.store import RunStore
from harness.study.executor import LocalExecutor
from harness.study.ray_executor import RayExecutor
from harness.study.slurm_executor import SlurmExecutor
from tests.study.cheap_stages import CheapTask, Watcher, stage
name, place = sys.argv[1], Path(sys.argv[2])
store = RunStore(place / "run")
stages = [stage("quick"), stage("waits", "quick", does="wait"), stage("last", "waits")]
with store.locked():
    executor = {
        "local": lambda: LocalExecutor(store, workers=1, threads=1),
        "ray": lambda: RayExecutor(store, workers=1, threads=1),
        "slurm": lambda: SlurmExecutor(store, workers=None, threads=1, options={}),
    }[name]()
    seconds = {each.id: 1.0 for each in stages}
    done = {each.id for each in stages if store.finished(each.id)}
    todo = [each for each in stages if each.id not in done]
    executor.run(todo, done=done, seconds=seconds, task_for=lambda each: CheapTask(store.root, each, place), observer=Watcher())
"""


def descendants(name: str) -> list[int]:
    """Processes that were started with this in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"CONTRACT={name}".encode() in (folder / "environ").read_bytes() and alive(int(folder.name)):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["local", "ray"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_is_killed_or_interrupted_leaves_no_process(tmp_path: Path, name: str, how: signal.Signals) -> None:
    if name == "ray":
        needs("ray")
    (tmp_path / "gate").touch()
    mark = f"{name}-{how}-{tmp_path}"
    driver = start_driver(name, tmp_path, mark)
    try:
        wait_until((tmp_path / "waits.begun").exists, seconds=200)
        assert len(descendants(mark)) > 1
        if how == signal.SIGINT:
            os.killpg(driver.pid, how)  # as a terminal does it
        else:
            driver.send_signal(how)
        driver.communicate(timeout=60)
        wait_until(lambda: not descendants(mark), seconds=20)
        assert RunStore(tmp_path / "run").finished("quick")
    finally:
        for pid in descendants(mark):
            os.kill(pid, signal.SIGKILL)


def start_driver(name: str, place: Path, mark: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, name, str(place)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "CONTRACT": mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )


def test_slurm_jobs_outlive_their_driver_and_are_taken_over(slurm: None, tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    driver = start_driver("slurm", tmp_path, "slurm")
    wait_until((tmp_path / "waits.begun").exists, seconds=100)
    driver.kill()
    driver.wait()
    store = RunStore(tmp_path / "run")
    job = json.loads((store.queue / "waits.json").read_text())["job"]
    temporary = store.stages / f".tmp-waits-{(tmp_path / 'waits.begun').read_text().strip()}"
    temporary.mkdir()
    with store.locked():
        assert temporary.exists(), "the job still writes there"
        assert job in queued_jobs()
        executor = SlurmExecutor(store, workers=None, threads=1, options={})
        stages = [stage("waits", "quick", does="wait"), stage("last", "waits")]

        class Opens(Watcher):
            def tick(self) -> None:
                (tmp_path / "gate").unlink(missing_ok=True)

        assert run(executor, stages, Opens(), done={"quick"}).finished == {"quick", "waits", "last"}
    assert len(begun(executor, "waits")) == 1, "not submitted twice"
    assert (store.folder("last") / "result.txt").read_text() == "quick\nwaits\nlast\n"
    assert not list(store.stages.glob(".tmp-*"))


def test_what_slurm_jobs_left_while_no_driver_lived_is_no_result_of_the_next_run(slurm: None, tmp_path: Path, store: RunStore) -> None:
    """Jobs 7, 8 and 9: one failed, one finished a stage that was damaged and discarded since, one finished a stage that is still there."""
    executor = SlurmExecutor(store, workers=None, threads=1, options={})
    (store.root / "slurm").mkdir()
    store.queue.mkdir()
    meta = CheapTask(store.root, stage("there"), tmp_path).run()
    for job, name, left in (("7", "failed", ("error", "boom")), ("8", "discarded", StageResult("discarded", meta)), ("9", "there", None)):
        (store.queue / f"{name}.json").write_text(json.dumps({"job": job}))
        for kind in ("result", "submitted"):
            path = store.root / "slurm" / (f"{job}_0_result.pkl" if kind == "result" else f"{job}_submitted.pkl")
            path.write_bytes(pickle.dumps(left if isinstance(left, tuple) else ("success", left)))
    stages = [stage("failed", "there"), stage("discarded"), stage("last", "failed", "discarded")]
    assert run(executor, stages, done={"there"}).finished == {"there", "failed", "discarded", "last"}
    assert [len(begun(executor, name)) for name in ("there", "failed", "discarded")] == [1, 1, 1]
    assert not list(store.queue.iterdir())
    assert not list((store.root / "slurm").glob("*.pkl"))


def test_an_array_is_no_longer_than_slurm_takes(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.study.slurm_executor.MOST_JOBS", 2)
    executor, sizes = SlurmExecutor(store, workers=50, threads=1, options={}), list[int]()

    def sbatch(work: list[Any], kind: str) -> list[str]:
        sizes.append(len(work))
        return [f"{len(sizes)}_{index}" for index in range(len(work))]

    monkeypatch.setattr(executor, "_sbatch", sbatch)
    monkeypatch.setattr(executor, "_ended", lambda: [])
    store.queue.mkdir()
    stages = [stage(f"s{number}") for number in range(5)]
    assert executor.free(5) == 5
    for each in stages:
        executor.submit(each, None)
    executor.collect(0.0)
    assert sizes == [2, 2, 1]
    assert executor._jobs == {"s0": "1_0", "s1": "1_1", "s2": "2_0", "s3": "2_1", "s4": "3_0"}


def test_torn_small_files_count_as_absent(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    executor = SlurmExecutor(store, workers=None, threads=1, options={})
    (store.root / "slurm").mkdir()
    store.queue.mkdir()
    kept = store.root / "slurm" / "7_0_result.pkl"
    kept.touch()
    for text in ("", "{", "[]", "null"):
        (store.queue / "zz.json").write_text(text)
        monkeypatch.setattr("harness.study.slurm_executor.queued_jobs", dict)
        with executor.session():
            assert not list(store.queue.iterdir())
    assert "zz.json is damaged and not used" in capsys.readouterr().err
    assert kept.exists(), "no file of a job is taken for the torn one's"

    answer = store.root / "slurm" / "5_0_result.pkl"
    answer.write_bytes(pickle.dumps(("success", Setting("cpu", "float32", 1))))
    monkeypatch.setattr(executor, "_sbatch", lambda work, kind: ["5"])
    (store.root / "slurm" / "setting.json").write_text("{")
    assert executor.setting() == Setting("cpu", "float32", 1)
    assert json.loads((store.root / "slurm" / "setting.json").read_text())["setting"]["device"] == "cpu", "made anew"


def test_a_preempted_slurm_job_goes_back_into_the_queue(slurm: None, tmp_path: Path, store: RunStore) -> None:
    (tmp_path / "gate").touch()
    executor = SlurmExecutor(store, workers=None, threads=1, options={"time": "4:00:00"})

    class Preempts(Watcher):
        def tick(self) -> None:
            if len(begun(executor, "waits")) == 1 and "preempted" not in self.told:
                self.told.append("preempted")
                (job,) = executor._jobs.values()
                subprocess.run(["scancel", "--signal", "USR2", job], check=True)
            if len(begun(executor, "waits")) == 2:
                (tmp_path / "gate").unlink(missing_ok=True)

    watcher = Preempts()
    assert run(executor, [stage("waits", does="wait")], watcher).finished == {"waits"}
    assert len(begun(executor, "waits")) == 2
    assert ("killed", "waits") not in watcher.told, "preemption is no failure"


def test_ready_stages_of_one_kind_are_one_array_with_the_given_options(
    tmp_path: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("submitit")
    state = fake_slurm(tmp_path, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    monkeypatch.setattr("harness.study.slurm_executor.RESULTS_EVERY_S", 0.2)
    stages = [stage("a"), stage("b"), stage("c"), stage("d", kind="score"), stage("e", "a", "b", "c", kind="score")]
    options = {"partition": "gpu", "exclusive": True, "gres": "gpu:1", "time": "1-00:00:00"}
    executor = SlurmExecutor(store, workers=None, threads=3, options=options)
    assert run(executor, stages).finished == {"a", "b", "c", "d", "e"}
    submissions = [dict(part.partition("=")[::2] for part in line.split()) for line in (state / "submissions").read_text().splitlines()]
    assert [found.get("array") for found in submissions] == ["0-2%3", None, None]
    for found in submissions:
        assert found["partition"] == "gpu"
        assert found["gres"] == "gpu:1"
        assert found["time"] == "1440"
        assert found["cpus-per-task"] == "3"
        assert found["exclusive"] == ""
        assert found["requeue"] == ""
    assert store.meta("e")["environment"]["OMP_NUM_THREADS"] == "3"


class Missing:
    """Cannot be unpickled: its package is not on the node."""

    def __init__(self, threads: int, cwd: str) -> None: ...

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, ("no_such_package",)


class Dies(Missing):
    """Takes its worker with it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


@pytest.mark.parametrize(("probe", "told"), [(Missing, "No module named 'no_such_package'"), (Dies, "")])
def test_a_ray_node_that_cannot_say_its_device_is_one_message(
    cluster: str, store: RunStore, monkeypatch: pytest.MonkeyPatch, probe: type, told: str
) -> None:
    monkeypatch.setattr("harness.study.ray_executor.Probe", probe)
    with pytest.raises(ExecutorError, match=r"cannot say what device it has \(.+\); every node needs this package") as caught:
        RayExecutor(store, workers=1, threads=1, address=cluster).setting()
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ray", pytest.param("slurm", marks=pytest.mark.slow)])
def test_a_study_has_the_same_scores_to_the_last_bit(
    name: str, workplace: Workplace, reference: Path, request: pytest.FixtureRequest
) -> None:
    study = workplace.write()
    if name == "ray":
        share = workplace.root / "share"
        options = ["--address", request.getfixturevalue("cluster"), "--share", f"file://{share}", "--workers", "2"]
    else:
        request.getfixturevalue("slurm")
        options = ["--slurm", "time=10"]
    assert workplace.main("run", study, "--executor", name, *options) == 0
    assert_same_results(workplace.run_dir, reference)
    record = json.loads((workplace.run_dir / "study.json").read_text())
    assert {stage["id"] for stage in record["plan"]["stages"]} == {
        stage["id"] for stage in json.loads((reference / "study.json").read_text())["plan"]["stages"]
    }, "the setting of the machines is what this one's is"
    if name == "ray":
        for folder in (workplace.run_dir / "stages").iterdir():  # as a driver leaves it that is killed before it fetches
            shutil.rmtree(folder)
        assert workplace.main("run", study, "--executor", name, *options) == 0
        assert len([event for event in RunStore(workplace.run_dir).journal.events() if event["event"] == "stage_started"]) == 6
        assert_same_results(workplace.run_dir, reference)


@pytest.mark.slow
def test_a_study_outlives_the_loss_of_a_ray_node_in_the_middle_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("ray")
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    from tests.study.two_ray_nodes import TwoNodes

    store = RunStore(tmp_path / "run")
    (tmp_path / "gate").touch()
    with TwoNodes(cpus=1) as nodes, store.locked():
        executor = RayExecutor(store, workers=2, threads=1, address=nodes.address)
        stages = [stage("one", does="wait"), stage("two", does="wait"), stage("sum", "one", "two")]

        class Kills(Watcher):
            def tick(self) -> None:
                if nodes.second_alive and begun(executor, "one") and begun(executor, "two"):
                    nodes.kill_second()
                elif not nodes.second_alive and not all(map(alive, begun(executor, "one") + begun(executor, "two"))):
                    # Not before: a worker outlives its node for a moment, in which it could still end its stage.
                    (tmp_path / "gate").unlink(missing_ok=True)

        outcome = run(executor, stages, Kills())
    assert outcome.finished == {"one", "two", "sum"}, outcome
    assert sorted([len(begun(executor, "one")), len(begun(executor, "two"))]) == [1, 2], "the stage on the lost node was done again"
    assert (store.folder("sum") / "result.txt").read_text() == "one\ntwo\nsum\n"


def test_the_driver_limits_how_often_ray_tries_a_stage_that_ran_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the driver that counts, on a cluster that it joined too, and it reads the limit when Ray is first imported."""
    name, limits = "RAY_task_oom_retries", list[str | None]()
    monkeypatch.setenv(name, "")
    monkeypatch.delenv(name)
    monkeypatch.setattr(importlib, "import_module", lambda package: limits.append(os.environ.get(name)))
    load_ray()
    assert limits == ["1"]


@pytest.mark.parametrize("each", range(1, 33))
def test_as_many_stages_fit_a_node_as_its_parts_of_gpus_say(store: RunStore, each: int) -> None:
    executor = RayExecutor(store, workers=1, threads=2, address="h:1")
    for gpus in (1.0, 2.0, 3.0):
        executor._options = {"num_cpus": 2, "num_gpus": 1 / each}
        assert executor._fits({"Alive": True, "Resources": {"CPU": 1000.0, "GPU": gpus}}) == gpus * each
        assert executor._fits({"Alive": True, "Resources": {"CPU": 3.0, "GPU": gpus}}) == 1
        assert executor._fits({"Alive": False, "Resources": {"CPU": 1000.0, "GPU": gpus}}) == 0


def test_each_local_worker_keeps_its_gpu(store: RunStore) -> None:
    stages = [stage(f"s{number}", does="wait") for number in range(4)]
    (store.root.parent / "gate").touch()

    class Opens(Watcher):
        def tick(self) -> None:
            if sum(bool(begun(executor, each.id)) for each in stages) == 4:
                (store.root.parent / "gate").unlink(missing_ok=True)

    executor: Executor = LocalExecutor(store, workers=4, threads=1, gpus=("5", "GPU-7"))
    run(executor, stages, Opens())
    seen = [store.meta(each.id)["environment"]["CUDA_VISIBLE_DEVICES"] for each in stages]
    assert sorted(seen) == ["5", "5", "GPU-7", "GPU-7"]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") != "5"
