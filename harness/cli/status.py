"""`status`: how far a run is, from its files alone."""

from __future__ import annotations

from typing import Any

from harness.cli.text import console, print_json, print_table, say
from harness.core.results import find_run, load_run
from harness.core.store import RunStore
from harness.study.display import amount_note, duration
from harness.study.progress import as_rows, read_progress


def status_command(place: str, *, as_json: bool) -> None:
    """Prints a run's state.

    Raises:
        SpecError: there is no such run.
    """
    run_dir = find_run(place)
    store = RunStore(run_dir)
    state = _state(store)
    if as_json:
        print_json(state)
        return
    writer = console()
    pid = state["running_pid"]
    finished, total = state["stages_finished"], state["stages_total"]
    say(writer, f"{run_dir}: {finished} of {total} stages finished; " + (f"running (pid {pid})" if pid is not None else "not running"))
    if state["failed"]:
        say(writer, f"failed: {len(state['failed'])}; `selfteach run` tries them again; tracebacks: {store.failed}")
    for line in state["tuning"]:
        say(writer, f"tuning {line['method']}: {line['finished']} of {line['candidates']} candidate runs finished")
    extra = [name for name in ("checkpoints", "fold") if any(row[name] for row in state["trials"])]
    columns = ("trial", "train", "score", *extra, "spent of budget", "training")
    rows = [(row["trial"], row["train"], row["score"], *(row[name] or "-" for name in extra), *_spent(row)) for row in state["trials"]]
    print_table(writer, "", columns, rows, right=columns[-2:])
    for row in read_progress(store.progress) if pid is not None else ():
        say(writer, f"running: {row.kind} {row.label}: {row.share:.0%}, {amount_note(row)}, for {duration(row.elapsed_s)}")
    for failure in state["failed"]:
        say(writer, f"failed: {failure['kind']} {failure['label']} seed {failure['seed']}: {failure['error']}")


def _state(store: RunStore) -> dict[str, Any]:
    results = load_run(store.root)
    plan = results.study["plan"]
    running = read_progress(store.progress) if store.holder() is not None else []
    finished = {stage["id"] for stage in plan["stages"] if store.finished(stage["id"])}
    planned = {stage["id"] for stage in plan["stages"]}
    latest = {event["stage"]: event for event in store.journal.events() if event["event"] in ("stage_failed", "stage_started")}
    failed = [event for stage, event in latest.items() if event["event"] == "stage_failed" and stage in planned - finished]
    states = {
        stage: "finished" if stage in finished else "running" if stage in {row.stage for row in running} else "to do" for stage in planned
    } | {event["stage"]: "failed" for event in failed}
    trials = [
        {
            "trial": row["trial_id"],
            "train": states[row["train_stage"]],
            "score": states[row["score_stage"]],
            "checkpoints": states.get(row["checkpoint_stage"]),
            "fold": row.get("fold"),
            "train_flops": None if row["train_flops"] != row["train_flops"] else row["train_flops"],
            "budget_flops": row["budget_flops"],
            "wall_s": None if row["wall_s"] != row["wall_s"] else row["wall_s"],
        }
        for row in [*results.trials.to_dict("records"), *results.folds.to_dict("records")]
    ]
    tuning = {trial["label"]: trial["tune_stages"] for trial in plan["trials"] if trial.get("tune_stages")}
    return {
        "run_dir": str(store.root),
        "running_pid": store.holder(),
        "stages_total": len(planned),
        "stages_finished": len(finished),
        "trials": trials,
        "tuning": [
            {"method": label, "candidates": len(stages), "finished": len(finished.intersection(stages))} for label, stages in tuning.items()
        ],
        "running": as_rows(running),
        "failed": failed,
    }


def _spent(row: dict[str, Any]) -> tuple[str, str]:
    spent = "-" if row["train_flops"] is None else f"{row['train_flops'] / row['budget_flops']:.1%}"
    return spent, "-" if row["wall_s"] is None else duration(row["wall_s"])
