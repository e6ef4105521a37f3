"""A stage's training curves in TensorBoard, MLflow, Weights & Biases or Trackio, by transformers' own integrations.

Their callbacks are driven from the ledger: the step that they are given is the spend in MFLOP, so that methods with different steps
stand on one axis. Only what the user asks for is started, and only values of curves and the trial's settings are handed over: no weights,
no texts. What a tracker gathers besides is its own: W&B's console log, git state and copies of code are switched off unless the user set
them, the rest is told in docs/tracking.md. A tracker that raises is left out for the rest of the stage, with a note. Calls leave the
global random generators as they were, and their seconds are kept apart (`spent_s`), because a trial's time is part of what is compared.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, get_reporting_integration_callbacks
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from harness.core.budget import Ledger

STEP_FLOPS = 1e6
"""FLOPs of one step on a tracker's axis."""
PROJECT = "selfteach"
"""Project or experiment, where the user's environment names none."""
_DEFAULTS = {
    "WANDB_PROJECT": PROJECT,
    "MLFLOW_EXPERIMENT_NAME": PROJECT,
    "TRACKIO_PROJECT": PROJECT,
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    # What a stage prints may quote texts; a diff is the user's unpublished work.
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_CODE": "true",
    # MLflow's own 7 retries with doubled waits hold every trial up for minutes where the server is gone.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
_SETTLED = {"WANDB_LOG_MODEL": "false", "WANDB_WATCH": "false"}
"""Weights are exported on request (`selfteach export`), not uploaded, and nothing hooks into the student."""


class StageTracker:
    """Reports one stage; starts at the first value, so that a stage without curves opens no run anywhere.

    Args:
        words: trackers, as `harness.core.trackers.read_trackers` gives them.
        run_name, group: how trackers call the stage, and the study that it belongs to.
        settings: what the stage is, for the trackers' tables of parameters.
        folder: where TensorBoard's files go, unless TENSORBOARD_LOGGING_DIR says where; a folder of the run's name is made in it.
        note: called with a sentence for each tracker that is left out.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        run_name: str,
        group: str,
        settings: Mapping[str, Any],
        folder: Path,
        note: Callable[[str], None],
    ) -> None:
        self.words, self.run_name, self.group, self.settings, self.folder = words, run_name, group, settings, folder
        self._note = note
        self._callbacks: dict[str, TrainerCallback] = {}
        self._state, self._control = TrainerState(), TrainerControl()
        self._pending: dict[str, float] = {}
        self._started = False
        self._spent_s = 0.0

    @property
    def spent_s(self) -> float:
        """Seconds that all calls have taken so far."""
        return self._spent_s

    def log(self, values: Mapping[str, float], train_flops: float) -> None:
        """Hands over values of curves; those of one spend go together, when the next spend begins."""
        step = int(train_flops / STEP_FLOPS)
        if step != self._state.global_step or values.keys() & self._pending.keys():
            self._flush()
        self._state.global_step = step
        self._pending.update(values)

    def ready(self) -> list[str]:
        """Starts the trackers, if that has not happened yet, and names those that take values."""
        if not self._started:
            self._started = True
            self._arguments = _Arguments(self.run_name, self.folder, self.settings)
            for word in self.words:
                self._attempt(word, partial(self._start, word))
        return list(self._callbacks)

    def close(self) -> None:
        """Hands over what is left and ends the trackers' runs; after this the stage may be killed and nothing is lost."""
        self._flush()
        for word in list(self._callbacks):
            self._attempt(word, partial(self._end, word))
        self._callbacks.clear()

    def _flush(self) -> None:
        if not self._pending:
            return
        logs, self._pending = self._pending, {}
        for word in self.ready():
            # Each gets values of its own: integrations rewrite what they are given.
            self._attempt(word, partial(self._callbacks[word].on_log, self._arguments, self._state, self._control, logs=dict(logs)))

    def _start(self, word: str) -> None:
        for name, value in (_DEFAULTS | {"WANDB_RUN_GROUP": self.group}).items():
            os.environ.setdefault(name, value)
        os.environ.update(_SETTLED)
        if word == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            place = Path(os.path.expanduser(os.environ.get("TENSORBOARD_LOGGING_DIR") or self.folder))
            # An earlier attempt at this stage, if one was killed, is hidden by this one.
            callback = TensorBoardCallback(SummaryWriter(log_dir=str(place / self.run_name), purge_step=0))
        else:
            (kind,) = get_reporting_integration_callbacks([word])
            callback = kind()
        callback.on_train_begin(self._arguments, self._state, self._control)
        self._callbacks[word] = callback

    def _end(self, word: str) -> None:
        if word == "mlflow":
            import mlflow

            mlflow.flush_async_logging()  # the integration does not wait for it
        self._callbacks[word].on_train_end(self._arguments, self._state, self._control)
        if word == "wandb":
            import wandb

            wandb.finish()  # nor does it end a run

    def _attempt(self, word: str, call: Callable[[], None]) -> None:
        # Broad on purpose: whatever a tracker raises is the tracker's trouble, and the stage goes on without it.
        started = time.monotonic()
        try:
            with _undisturbed():
                call()
        except Exception as error:
            self._callbacks.pop(word, None)
            self._note(f"{word} gets nothing more of this stage: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        finally:
            self._spent_s += time.monotonic() - started


def hand_over(trainer: Trainer, ledger: Ledger, prefix: str) -> None:
    """Has a trainer's statistics go where the ledger's curves go, under `prefix`, in place of trackers of its own.

    A second set of integrations in one process would log into the same run on another axis, and end it; and one that fails would end the
    training. Where the ledger has no tracker, the trainer has none afterwards either (transformers adds one by itself on Kubeflow).
    """
    for callback in list(trainer.callback_handler.callbacks):
        if isinstance(callback, tuple(INTEGRATION_TO_CALLBACK.values())):
            trainer.remove_callback(callback)
    if ledger.tracker is not None:
        trainer.add_callback(_Forward(ledger, prefix))


class _Forward(TrainerCallback):  # type: ignore[misc]
    def __init__(self, ledger: Ledger, prefix: str) -> None:
        self._ledger, self._prefix = ledger, prefix

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Mapping[str, Any], **_: Any) -> None:
        numbers = {f"{self._prefix}{name}": float(value) for name, value in logs.items() if isinstance(value, int | float)}
        self._ledger.report(numbers)


class _Arguments:
    """What integrations read of TrainingArguments. Their table of parameters is the stage's: a trainer's defaults would be untrue."""

    def __init__(self, run_name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        self.run_name, self.output_dir, self._settings = run_name, str(folder), dict(settings)
        self.project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        self.trackio_space_id = None  # TRACKIO_SPACE_ID, if the user sets it, is Trackio's own to read
        self.trackio_static_space_id = False

    def to_dict(self) -> dict[str, Any]:
        return dict(self._settings)

    def to_json_string(self) -> str:
        return json.dumps(self._settings, indent=2, default=str)

    def __getattr__(self, name: str) -> Any:
        field = TrainingArguments.__dataclass_fields__.get(name)
        if field is None:
            raise AttributeError(name)
        return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Global random generators as they were, whatever a tracker draws from them; and its warnings are no one's error."""
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # Where CUDA is not in use yet, asking for its state would start it.
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda_states = torch.cuda.get_rng_state_all() if in_use else []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
