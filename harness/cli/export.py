"""`export`: trained students of a run as model folders, each with a card."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from harness.cli.targets import check_new_folder
from harness.cli.text import console, print_json, say
from harness.core.blocks import student_of
from harness.core.results import RunResults, find_run, load_run
from harness.core.store import RunStore
from harness.errors import SpecError
from harness.report.card import model_card


def export_command(place: str, *, trial: str | None, out: Path, dtype: str, everything: bool, as_json: bool) -> None:
    """Writes the student of a finished trial to `out`, or those of all of them to folders in it.

    Raises:
        SpecError: no such run or trial, the trial is not trained, or `out` exists or cannot be made.
        StoreError: a trial's files are damaged, or `out` cannot be written.
    """
    from harness.models.export import WEIGHT_TYPES

    if dtype not in WEIGHT_TYPES:
        raise SpecError("unknown weight type", key="--dtype", value=dtype, valid=WEIGHT_TYPES)
    if (trial is None) != everything:
        raise SpecError("expected either one trial or --all", key="TRIAL", value=trial)
    check_new_folder(out, "--out")
    run = load_run(find_run(place))
    if trial is not None:
        wanted = {_first_of_seedless(run, trial) or trial: out}
    else:
        # A method without randomness has one student for all seeds: it is written once.
        students: dict[tuple[Hashable, Hashable], str] = {}
        for name, row in _trained(run).items():
            students.setdefault((row["method"], row["train_stage"]), name)
        wanted = {name: out / name.replace(":", "-") for name in students.values()}
        if not wanted:
            raise SpecError("no trial of this run is trained yet", value=str(run.run_dir))
    for name, folder in wanted.items():
        _export(run, name, folder, dtype, make_parent=everything)
        if not as_json:
            say(console(), f"{folder}: {name} of {run.run_dir}, {dtype}; load it with transformers or vLLM by its path")
    if as_json:
        exported = [{"run": str(run.run_dir), "trial": name, "out": str(folder), "dtype": dtype} for name, folder in wanted.items()]
        print_json(exported if everything else exported[0])


def _export(run: RunResults, trial: str, out: Path, dtype: Any, *, make_parent: bool) -> None:
    from harness.models.export import export_model
    from harness.models.origin import origin
    from harness.models.sources import nearby, resolve

    trained = _trained(run)
    if trial not in trained:
        known = trial in set(run.trials["trial_id"])
        reason = "this trial is not trained yet" if known else "no such trial in this run"
        raise SpecError(reason, key="TRIAL", value=trial, valid=trained)
    store, stage = RunStore(run.run_dir), str(trained[trial]["train_stage"])
    store.verify(stage)
    if not (store.folder(stage) / "model").is_dir():
        raise SpecError("this run was published without weights; train the trial again, then export it", key="RUN", value=str(run.run_dir))
    student = student_of(run.study, str(trained[trial]["method"]))
    source = student["model"]
    # Without adapters the weights are all here; then the base's own card is read only where that takes no download.
    base = origin(source, resolve(source) if student["adaptation"]["kind"] == "lora" else nearby(source))
    card = model_card(run, trial, dtype=dtype, hub_name=base.hub_name, licence=base.licence)
    if make_parent:
        out.parent.mkdir(exist_ok=True)
    export_model(store.folder(stage) / "model", out, dtype=dtype, card=card)


def _first_of_seedless(run: RunResults, trial: str) -> str | None:
    """The first seed's name of a trial without randomness, which the plan calls by one name for all seeds."""
    planned = [each for each in run.study["plan"]["trials"] if each["seedless"] and not each.get("fold") and each["id"] == trial]
    named = run.trials.loc[run.trials["method"].isin([each["label"] for each in planned]), "trial_id"]
    return None if trial in set(run.trials["trial_id"]) or named.empty else str(named.iloc[0])


def _trained(run: RunResults) -> dict[str, Mapping[Hashable, Any]]:
    """Trials that have a student, one of each seed; a method without randomness has one for all."""
    return {
        str(row["trial_id"]): row
        for row in run.trials.drop_duplicates("trial_id").to_dict("records")
        if isinstance(row["device"], str) and row["device"]
    }
