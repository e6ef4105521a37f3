"""`export`: a run's trained student as a model folder with a card."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from harness.cli.text import console, print_json, say
from harness.core.results import RunResults, find_run, load_run
from harness.core.store import RunStore
from harness.errors import SpecError
from harness.report.card import model_card


def export_command(place: str, *, trial: str, out: Path, dtype: str, as_json: bool) -> None:
    """Writes the student of a finished trial to `out`.

    Raises:
        SpecError: no such run or trial, the trial is not trained, or `out` exists.
        StoreError: the trial's files are damaged, or `out` cannot be written.
    """
    from harness.models.export import WEIGHT_TYPES, export_model

    if dtype not in WEIGHT_TYPES:
        raise SpecError("unknown weight type", key="--dtype", value=dtype, valid=WEIGHT_TYPES)
    run = load_run(find_run(place))
    row = _trained(run, trial)
    store = RunStore(run.run_dir)
    stage = str(row["train_stage"])
    store.verify(stage)
    if not (store.folder(stage) / "model").is_dir():
        raise SpecError("this run was published without weights; train the trial again, then export it", key="RUN", value=place)
    export_model(store.folder(stage) / "model", out, dtype=dtype, card=model_card(run, trial))
    if as_json:
        print_json({"run": str(run.run_dir), "trial": trial, "out": str(out), "dtype": dtype})
    else:
        say(console(), f"{out}: {trial} of {run.run_dir}, adapters merged, {dtype}; load it with transformers or vLLM by its path")


def _trained(run: RunResults, trial: str) -> Mapping[Hashable, Any]:
    trained = {
        row["trial_id"]: row for row in run.trials.to_dict("records") if row.get("device") == row.get("device") and row.get("device")
    }
    if trial not in trained:
        known = trial in set(run.trials["trial_id"])
        reason = "this trial is not trained yet" if known else "no such trial in this run"
        raise SpecError(reason, key="TRIAL", value=trial, valid=trained)
    return trained[trial]
