"""Curves in trackers: what arrives, what it costs, and that nothing else feels it."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from harness.core.budget import Ledger
from harness.models import tracking
from harness.models.tracking import StageTracker

ENVIRONMENT = ("TENSORBOARD_LOGGING_DIR", *tracking._DEFAULTS, *tracking._SETTLED, "WANDB_RUN_GROUP")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")  # so that what a tracker sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def attach(ledger: Ledger, folder: Path, *words: str) -> StageTracker:
    settings = {"study": "toy", "config.learning_rate": 0.5, "adaptation": {"kind": "lora"}}
    ledger.tracker = tracker = StageTracker(words, run_name="toy-sft-0", group="toy", settings=settings, folder=folder, note=ledger.note)
    return tracker


def spend(ledger: Ledger, *losses: float) -> None:
    for loss in losses:
        ledger.charge("model", 2.5e9, 10)
        ledger.observe("loss", loss)
        ledger.observe("share of breadth", 1 - loss)


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_has_every_point_at_its_spend(tmp_path: Path) -> None:
    ledger = Ledger(1e12)
    tracker = attach(ledger, tmp_path / "board", "tensorboard")
    spend(ledger, 1.0, 0.5, 0.25)
    tracker.close()
    assert ledger.notes == []
    assert read(tmp_path / "board" / "toy-sft-0") == {
        "train/loss": [(2500, 1.0), (5000, 0.5), (7500, 0.25)],
        "train/share of breadth": [(2500, 0.0), (5000, 0.5), (7500, 0.75)],
    }
    assert [point.value for point in ledger.curves if point.curve == "loss"] == [1.0, 0.5, 0.25]


def test_two_values_of_a_curve_at_one_spend_both_arrive(tmp_path: Path) -> None:
    ledger = Ledger(1e12)
    tracker = attach(ledger, tmp_path, "tensorboard")
    ledger.observe("loss", 1.0)
    ledger.observe("loss", 2.0)
    tracker.close()
    assert read(tmp_path / "toy-sft-0")["train/loss"] == [(0, 1.0), (0, 2.0)]


def test_a_second_attempt_hides_the_first(tmp_path: Path) -> None:
    for losses in ((1.0, 0.9, 0.8), (0.5, 0.4)):
        ledger = Ledger(1e12)
        tracker = attach(ledger, tmp_path, "tensorboard")
        spend(ledger, *losses)
        tracker.close()
    assert [value for _, value in read(tmp_path / "toy-sft-0")["train/loss"]] == pytest.approx([0.5, 0.4])


def test_the_users_folder_and_no_file_without_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "mine"))
    ledger = Ledger(1e12)
    attach(ledger, tmp_path / "board", "tensorboard").close()
    assert not (tmp_path / "mine").exists()
    tracker = attach(ledger, tmp_path / "board", "tensorboard")
    spend(ledger, 1.0)
    tracker.close()
    assert read(tmp_path / "mine" / "toy-sft-0")["train/loss"] == [(2500, 1.0)]
    assert not (tmp_path / "board").exists()


class Awkward(TrainerCallback):
    """Draws from every global generator, takes its time, and fails at the third call."""

    calls = 0

    def on_log(self, args, state, control, logs, **_):  # type: ignore[no-untyped-def]
        random.random(), np.random.random(), torch.rand(1)
        time.sleep(0.05)
        type(self).calls += 1
        logs.clear()
        if self.calls == 3:
            raise ConnectionError("the server\nis gone")


@pytest.fixture
def _awkward(monkeypatch: pytest.MonkeyPatch) -> None:
    Awkward.calls = 0
    monkeypatch.setattr(tracking, "get_reporting_integration_callbacks", lambda words: [Awkward])


@pytest.mark.usefixtures("_awkward")
def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    ledger = Ledger(1e12)
    tracker = attach(ledger, tmp_path, "wandb", "tensorboard")
    assert tracker.ready() == ["wandb", "tensorboard"]
    spend(ledger, 1.0, 0.5, 0.25, 0.125)
    assert tracker.ready() == ["tensorboard"]
    tracker.close()
    assert Awkward.calls == 3
    assert ledger.notes == ["wandb gets nothing more of this stage: ConnectionError: the server is gone"]
    assert [value for _, value in read(tmp_path / "toy-sft-0")["train/loss"]] == [1.0, 0.5, 0.25, 0.125]


@pytest.mark.usefixtures("_awkward")
def test_neither_random_numbers_nor_the_ledgers_clock_feel_a_tracker(tmp_path: Path) -> None:
    ledger = Ledger(1e12)
    attach(ledger, tmp_path, "wandb")
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    with ledger.use_phase("update"):
        spend(ledger, 1.0, 0.5, 0.25)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before  # type: ignore[index]
    assert Awkward.calls == 2
    assert ledger.tracker is not None
    assert ledger.tracker.spent_s > 0.1
    (update_s,) = [row["wall_s"] for row in ledger.rows() if row["model"] == ""]
    assert 0 <= update_s < 0.05
    assert 0 <= ledger.wall_s() < 0.05


def test_what_no_tracker_may_do_is_settled_and_what_users_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_LOG_MODEL", "end")
    monkeypatch.setenv("WANDB_WATCH", "all")
    ledger = Ledger(1e12)
    attach(ledger, tmp_path, "tensorboard").ready()
    told = {
        name: os.environ[name] for name in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME", "WANDB_RUN_GROUP", "WANDB_LOG_MODEL", "WANDB_WATCH")
    }
    assert list(told.values()) == ["mine", "selfteach", "toy", "false", "false"]


def test_wandb_starts_without_console_git_and_code_unless_the_user_wants_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str | None]] = []

    class Starts(TrainerCallback):
        def __init__(self) -> None:
            seen.append([os.environ.get(name) for name in ("WANDB_CONSOLE", "WANDB_DISABLE_GIT", "WANDB_DISABLE_CODE")])

    monkeypatch.setattr(tracking, "get_reporting_integration_callbacks", lambda words: [Starts])
    attach(Ledger(1e12), tmp_path, "wandb").ready()
    monkeypatch.setenv("WANDB_CONSOLE", "wrap")
    monkeypatch.setenv("WANDB_DISABLE_GIT", "false")
    attach(Ledger(1e12), tmp_path, "wandb").ready()
    assert seen == [["off", "true", "true"], ["wrap", "false", "true"]]


@pytest.mark.usefixtures("_awkward")
def test_cudas_generators_are_put_back_where_cuda_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states, restored = [torch.tensor([1]), torch.tensor([2])], []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.append)
    ledger = Ledger(1e12)
    attach(ledger, tmp_path, "wandb").ready()
    assert restored == [states]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    spend(ledger, 1.0, 0.5)
    assert restored == [states], "CUDA is not started for it"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_draws_the_same_with_and_without_a_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Draws(TrainerCallback):
        def on_log(self, args, state, control, logs, **_):  # type: ignore[no-untyped-def]
            torch.rand(3, device="cuda")

    monkeypatch.setattr(tracking, "get_reporting_integration_callbacks", lambda words: [Draws])
    ledger = Ledger(1e12)
    attach(ledger, tmp_path, "wandb")
    torch.cuda.manual_seed(1)
    spend(ledger, 1.0, 0.5, 0.25)
    found = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(1)
    assert torch.equal(found, torch.rand(3, device="cuda"))


FAKE_WANDB = """
class Run:
    def __init__(self, **given):
        self.given, self.rows, self.ended, self.summary = given, [], False, {}
    def _label(self, **_): pass
class Config(dict):
    def update(self, values, allow_val_change): super().update(values)
run, runs, config = None, [], Config()
def init(**given):
    global run, config
    run, config = Run(**given), Config()
    run.config = config
    runs.append(run)
def log(values): run.rows.append(values)
def define_metric(*_, **__): pass
def finish():
    global run
    run.ended, run = True, None
"""


def test_weights_and_biases_gets_a_run_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake" / "wandb" / "sdk" / "lib").mkdir(parents=True)
    (tmp_path / "fake" / "wandb" / "__init__.py").write_text(FAKE_WANDB)
    (tmp_path / "fake" / "wandb" / "sdk" / "lib" / "config_util.py").write_text("class ConfigError(Exception): pass\n")
    for name in [name for name in sys.modules if name.split(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / "fake"))
    import wandb

    for losses in ((1.0, 0.5), (0.25,)):
        ledger = Ledger(1e12)
        tracker = attach(ledger, tmp_path, "wandb")
        spend(ledger, *losses)
        tracker.close()
        assert ledger.notes == []
    first, second = wandb.runs
    assert first.given == {"project": "selfteach", "name": "toy-sft-0"}
    assert first.config == {"study": "toy", "config.learning_rate": 0.5, "adaptation": {"kind": "lora"}}
    assert first.rows == [
        {"train/loss": 1.0, "train/share of breadth": 0.0, "train/global_step": 2500},
        {"train/loss": 0.5, "train/share of breadth": 0.5, "train/global_step": 5000},
    ]
    assert [row["train/loss"] for row in second.rows] == [0.25]
    assert first.ended
    assert second.ended
    for name in [name for name in sys.modules if name.split(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)


def test_mlflow_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlruns'}")
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (extra `tracking`)")
    ledger = Ledger(1e12)
    tracker = attach(ledger, tmp_path, "mlflow")
    spend(ledger, 1.0, 0.5)
    tracker.close()
    assert ledger.notes == []
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("selfteach").experiment_id])
    assert (run.info.run_name, run.info.status) == ("toy-sft-0", "FINISHED")
    assert run.data.params["config.learning_rate"] == "0.5"
    assert [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")] == [(2500, 1.0), (5000, 0.5)]


def test_trackio_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "data"))
    trackio = pytest.importorskip("trackio", reason="trackio is not installed (extra `tracking`)")
    ledger = Ledger(1e12)
    tracker = attach(ledger, tmp_path, "trackio")
    spend(ledger, 1.0, 0.5)
    tracker.close()
    assert ledger.notes == []
    (run,) = trackio.Api().runs("selfteach")
    assert run.name == "toy-sft-0"
    assert run.config["config.learning_rate"] == 0.5
