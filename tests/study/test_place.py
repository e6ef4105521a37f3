"""`--executor` and its options: what goes with what, GPUs by id, Slurm's options and times, and one message for every mistake."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from harness.cli import main
from harness.core.provenance import cores
from harness.core.scrub import scrubbed_command
from harness.core.spec import load_study
from harness.core.store import RunStore
from harness.errors import ExecutorError, SpecError, StoreError
from harness.study.place import Place
from harness.study.plan import Setting, plan_study
from harness.study.run import Layout, run_study
from harness.study.slurm_options import job_parameters, minutes, parse_options
from harness.study.stage import StageTask
from tests.study.conftest import Workplace


def place(executor: str = "local", **options: Any) -> Place:
    return Place.of(executor, **({"workers": None, "gpus": "auto", "address": None, "share": None, "slurm": []} | options))


@pytest.mark.parametrize(
    "given",
    [
        "studies/quickstart.yaml",
        "'a study.yaml' --workers 4 --threads 8 --executor ray --address 10.0.0.5:6379 --share s3://bucket/q --out /data/q",
        "q.yaml --executor slurm --slurm partition=gpu --slurm time=4:00:00 --report-to tensorboard --json",
        "q.yaml --workers 1 --executor local --gpus 0,1",
    ],
)
def test_the_command_is_recorded_as_it_was_given(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = []
    monkeypatch.setattr("harness.cli.commands.run_command", lambda path, *, command, **_: recorded.append((str(path), command)))
    with pytest.raises(SystemExit) as stop:
        main(["run", *shlex.split(given)])
    assert stop.value.code == 0
    assert recorded == [(shlex.split(given)[0], f"selfteach run {given}")]


def test_a_published_command_names_no_machine() -> None:
    command = "selfteach run /home/me/q.yaml --address gpu-17.lab:6379 --share file:///mnt/me/q --out /data/q --slurm partition=gpu"
    published = "selfteach run <path>/q.yaml --address <host> --share file:q --out <path> --slurm partition=gpu"
    assert scrubbed_command(command) == published
    assert scrubbed_command(published) == published, "what is published may be published again"
    assert scrubbed_command("selfteach run q.yaml --share s3://bucket/q") == "selfteach run q.yaml --share <path>/q"


@pytest.mark.parametrize(
    ("executor", "options", "told"),
    [
        ("slurmm", {}, "--executor: unknown executor (got 'slurmm'). Did you mean 'slurm'?"),
        ("local", {"address": "h:1"}, "--address: goes with --executor ray only"),
        ("local", {"slurm": ["partition=gpu"]}, "--slurm: goes with --executor slurm only"),
        ("slurm", {"share": "file:///x"}, "--share: goes with --executor ray only"),
        ("ray", {"share": "file:///x"}, "--share: goes with --address only"),
        ("ray", {"address": "ray://h:10001"}, "expected host:port"),
        ("ray", {"address": "nonsense"}, "--address: expected host:port"),
        ("ray", {"address": "h:1", "gpus": "0,1"}, "--gpus: ids are for this machine's GPUs"),
        ("slurm", {"gpus": "0"}, "--slurm gres=gpu:1"),
        ("local", {"gpus": "0,,1"}, "--gpus: expected auto, none, or different ids"),
        ("local", {"gpus": "0,0"}, "--gpus: expected auto, none, or different ids"),
        ("slurm", {"slurm": ["partition="]}, "--slurm: expected key=value"),
        ("slurm", {"slurm": ["=gpu"]}, "--slurm: expected key=value"),
        ("slurm", {"slurm": ["mem=1G", "mem=2G"]}, "mem is given twice"),
        ("slurm", {"slurm": ["cpus_per_task=4"]}, "cpus-per-task cannot be set: --threads sets it"),
        ("slurm", {"slurm": ["wrap=rm"]}, "wrap cannot be set"),
        ("slurm", {"slurm": ["--test_only"]}, "test-only cannot be set"),
        ("slurm", {"slurm": ["parsable"]}, "parsable cannot be set"),
        ("slurm", {"slurm": ["wait"]}, "wait cannot be set"),
        (
            "slurm",
            {"slurm": ["account=a\ntouch x"]},
            "--slurm: expected no line breaks or other control characters (got 'account=a\\ntouch x')",
        ),
        ("slurm", {"slurm": ["exclusive\r"]}, "--slurm: expected no line breaks"),
        ("slurm", {"slurm": ["time=soon"]}, "--slurm time: expected a time as sbatch takes it"),
    ],
)
def test_options_that_do_not_go_together_are_one_message(executor: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError) as caught:
        place(executor, **options)
    assert told in str(caught.value)


def test_gpus_are_those_given_or_those_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert place(gpus="5, GPU-7").found().gpus == ("5", "GPU-7")
    assert place().gpus is None, "looking for them imports torch"
    assert place().found().gpus == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-abc")
    assert place().found().gpus == ("3", "GPU-abc")
    assert place("ray", address="h:6379").found().gpus == ()
    assert place(gpus="none").found().gpus == ()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert place().found().gpus == ()
    with pytest.raises(SpecError, match="--gpus: PyTorch can use no GPU here"):
        place(gpus="5").found()


def test_one_worker_for_each_gpu_else_for_each_core() -> None:
    assert Layout.of(None) == Layout(cores(), 1)
    assert Layout.of(1) == Layout(1, cores())
    assert Layout.of(None, gpus=1) == Layout(1, cores())
    assert Layout.of(3, 2, gpus=1) == Layout(3, 2)
    assert Layout.of(None, 2 * cores()) == Layout(1, 2 * cores())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("2:30", 3), ("4:00:00", 240), ("1-0", 1440), ("1-12", 2160), ("1-12:30", 2190), ("1-12:30:01", 2191), ("0:01", 1)],
)
def test_slurms_times_in_minutes(text: str, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-5", "1-", "1:2:3:4", "4h", "1.5", "0:00"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(SpecError):
        minutes(text)


def test_slurm_options_reach_sbatch_under_its_own_names() -> None:
    options = parse_options(["partition=gpu", "--mem_per_cpu=4G", "exclusive", "time=1-0", "no_requeue"])
    assert options == {"partition": "gpu", "mem-per-cpu": "4G", "exclusive": True, "time": "1-0", "no-requeue": True}
    found = job_parameters(options, threads=4, name="n")
    assert found["time"] == 1440
    assert found["cpus_per_task"] == 4
    assert found["additional_parameters"] == {"partition": "gpu", "mem-per-cpu": "4G", "exclusive": True, "no-requeue": True}
    assert "export OMP_NUM_THREADS=4" in found["setup"]
    assert job_parameters({}, threads=1, name="n")["additional_parameters"] == {"requeue": True}


def test_what_is_missing_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ExecutorError, match=r"sbatch, srun, squeue, scancel, scontrol is not on the PATH: run it on a login node"):
        place("slurm").check()
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("ray", "submitit") else real(name))
    with pytest.raises(ExecutorError, match=r"pip install -e '\.\[ray\]'"):
        place("ray").check()
    with pytest.raises(ExecutorError, match=r"pip install -e '\.\[slurm\]'"):
        place("slurm").check()
    place().check()


def test_a_cluster_that_does_not_answer_is_one_message(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert workplace.main("run", workplace.write(), "--executor", "ray", "--address", address) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"selfteach: --address: no Ray cluster answers at '{address}'")
    assert message.count("\n") == 1


def test_a_machine_other_than_planned_for_is_a_failed_stage(workplace: Workplace) -> None:
    study = load_study(workplace.write())
    plan = plan_study(study, weights="w", setting=Setting("cuda Imaginary", "bfloat16", 1))
    task = StageTask(workplace.run_dir, study, next(iter(plan.stages.values())), threads=1, planned_items=0)
    with pytest.raises(ExecutorError, match="device is cpu, not cuda Imaginary"):
        task.run()


def test_temporary_folders_of_queued_stages_are_left_alone(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.make()
    store.queue.mkdir()
    (store.queue / "queued.json").write_text(json.dumps({"job": "1"}))
    for name in ("queued", "abandoned"):
        (store.stages / f".tmp-{name}-7").mkdir()
        (store.progress / f"{name}.json").touch()
    with store.locked():
        assert [path.name for path in store.stages.glob(".tmp-*")] == [".tmp-queued-7"]
        assert [path.name for path in store.progress.iterdir()] == ["queued.json"]


def test_a_second_run_is_refused_before_it_asks_a_machine(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    study_file, asked = workplace.write(), list[str]()
    monkeypatch.setattr(Place, "setting", lambda *_: asked.append("asked"))
    options: dict[str, Any] = {
        "study_file": Path(study_file),
        "run_dir": workplace.run_dir,
        "layout": Layout(1, 1),
        "console": Console(quiet=True),
    }
    with RunStore(workplace.run_dir).locked(), pytest.raises(StoreError, match="is in use by another run"):
        run_study(load_study(study_file), **options, conclude=lambda path: path, place=Place("slurm"))
    assert not asked


def test_the_study_that_executors_are_timed_with_is_valid() -> None:
    study = load_study(Path(__file__).parents[2] / "benchmarks" / "executors" / "small.yaml")
    assert [method.label for method in study.methods] == ["sft", "sft:slow"]


def test_an_empty_address_is_none() -> None:
    place = Place.of("ray", workers=1, gpus="none", address="", share=None, slurm=[])
    assert place.address is None
    assert not place.elsewhere
