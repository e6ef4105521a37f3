"""`status`: how far a run is, from study.json, the journal and one listing of the stages; no result is read, whatever its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from harness.cli.text import console, print_json, print_table, say
from harness.core.blocks import budgets
from harness.core.store import RunStore, computed, find_run
from harness.study.progress import amount_note, as_rows, duration, read_progress

MOST_ROWS = 100
"""More trials than this are summed up by method, unless all are asked for."""


def status_command(place: str, *, everything: bool, as_json: bool) -> None:
    """Prints a run's state.

    Args:
        everything: list every trial, however many.
    Raises:
        SpecError: there is no such run.
        StoreError: its record or journal is damaged.
    """
    run_dir = find_run(place)
    store = RunStore(run_dir)
    state = run_state(store)
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
    _print_trials(writer, state["trials"], everything)
    shared = state["shared"]
    if shared["stages"]:
        charged, really = (f"{shared[name]:.3g} FLOPs" for name in ("charged_flops", "computed_flops"))
        say(
            writer,
            f"shared first parts: {shared['finished']} of {shared['stages']} finished; trials were charged {charged} of training, of which "
            f"{really} were computed, in {duration(shared['computed_s'])}",
        )
    for row in read_progress(store.progress) if pid is not None else ():
        say(writer, f"running: {row.kind} {row.label}: {row.share:.0%}, {amount_note(row)}, for {duration(row.elapsed_s)}")
    shown = state["failed"] if everything else state["failed"][:MOST_ROWS]
    for failure in shown:
        say(writer, f"failed: {failure['kind']} {failure['label']} seed {failure['seed']}: {failure['error']}")
    if len(shown) < len(state["failed"]):
        say(writer, f"... and {len(state['failed']) - len(shown)} more failed; --all shows them")


def run_state(store: RunStore) -> dict[str, Any]:
    """What `status --json` prints."""
    study, pid = store.study(), store.holder()
    plan, present = study["plan"], store.all_finished()
    running = read_progress(store.progress) if pid is not None else []
    planned = {stage["id"]: stage for stage in plan["stages"]}
    finished = planned.keys() & present
    first_parts = {stage for stage, one in planned.items() if one["kind"] == "prepare"}
    waiting = {upstream for stage, one in planned.items() if stage not in finished for upstream in one["inputs"]}
    idle = first_parts - finished - waiting  # all that would build on them are trained
    ended: dict[str, dict[str, Any]] = {}
    latest: dict[str, dict[str, Any]] = {}
    for event in store.journal.events():
        if event["event"] == "stage_finished":
            ended[event["stage"]] = event
        elif event["event"] in ("stage_failed", "stage_started"):
            latest[event["stage"]] = event
    failed = [event for stage, event in latest.items() if event["event"] == "stage_failed" and stage in planned.keys() - finished]
    states = dict.fromkeys(planned, "to do") | dict.fromkeys(finished, "finished")
    states |= {row.stage: "running" for row in running if states.get(row.stage) == "to do"}
    states |= {event["stage"]: "failed" for event in failed}
    spends = {stage: _spend(store, stage, ended.get(stage)) for stage in finished if planned[stage]["kind"] in ("train", "prepare")}
    own, elsewhere = float(study["budget"]["train_flops"]), budgets(study)
    trials = [
        _trial(trial, seed, states, spends, elsewhere.get(trial["label"], own))
        for trial in sorted(plan["trials"], key=lambda trial: trial.get("fold") is not None)
        for seed in (study["seeds"] if trial["seedless"] else [trial["seed"]])
    ]
    tuning = {trial["label"]: trial["tune_stages"] for trial in plan["trials"] if trial.get("tune_stages")}
    return {
        "run_dir": str(store.root),
        "running_pid": pid,
        "stages_total": len(planned) - len(idle),
        "stages_finished": len(finished),
        "trials": trials,
        "tuning": [
            {"method": label, "candidates": len(stages), "finished": len(finished.intersection(stages))} for label, stages in tuning.items()
        ],
        "shared": {
            "stages": len(first_parts),
            "finished": len(first_parts & finished),
            "charged_flops": sum(spend["flops"] for stage, spend in spends.items() if stage not in first_parts),
            "computed_flops": sum(spend["computed_flops"] for spend in spends.values()),
            "computed_s": sum(spend["computed_s"] for spend in spends.values()),
        },
        "running": as_rows(running),
        "failed": failed,
    }


def _spend(store: RunStore, stage: str, event: Mapping[str, Any] | None) -> dict[str, float]:
    """What a training stage is charged and what it computed, by the journal, or by its own record where a killed driver noted nothing."""
    if event is None:
        meta = store.meta(stage)
        flops, wall_s = computed(meta)
        event = {"flops": flops, "wall_s": wall_s} | ({"shared": meta["shared"]} if "shared" in meta else {})
    shared = event.get("shared", {"flops": 0.0, "wall_s": 0.0})
    return {
        "flops": event["flops"] + shared["flops"],
        "wall_s": event["wall_s"] + shared["wall_s"],
        "computed_flops": event["flops"],
        "computed_s": event["wall_s"],
    }


def _trial(
    trial: Mapping[str, Any], seed: int, states: Mapping[str, str], spends: Mapping[str, dict[str, float]], budget_flops: float
) -> dict[str, Any]:
    fold, spend = trial.get("fold"), spends.get(trial["train_stage"])
    return {
        "trial": f"{trial['label']}-{seed}" + (f"-without-{fold}" if fold else ""),
        "method": trial["label"],
        "train": states[trial["train_stage"]],
        "score": states[trial["score_stage"]],
        "checkpoints": states.get(trial.get("checkpoint_stage")),  # type: ignore[arg-type]
        "fold": fold,
        "train_flops": spend and spend["flops"],
        "budget_flops": budget_flops,
        "wall_s": spend and round(spend["wall_s"], 3),
    }


def _print_trials(writer: Console, trials: Sequence[dict[str, Any]], everything: bool) -> None:
    if everything or len(trials) <= MOST_ROWS:
        extra = [name for name in ("checkpoints", "fold") if any(row[name] for row in trials)]
        columns = ("trial", "train", "score", *extra, "spent of budget", "training")
        rows = [(row["trial"], row["train"], row["score"], *(row[name] or "-" for name in extra), *_spent(row)) for row in trials]
        print_table(writer, "", columns, rows, right=columns[-2:])
        return
    by_method: dict[str, list[dict[str, Any]]] = {}
    for row in trials:
        by_method.setdefault(row["method"], []).append(row)
    counts = {name: sum(row[kind] == state for row in trials) for name, kind, state in _COUNTED}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    say(writer, f"{len(trials)} trials of {len(by_method)} methods and variants: {told or 'nothing begun'}; --all lists them")
    # Those under way or in trouble say more than those that are finished or not begun.
    telling = {label: rows for label, rows in by_method.items() if 0 < sum(row["score"] == "finished" for row in rows) < len(rows)}
    columns = ("method", "trials", *(name for name, _, _ in _COUNTED))
    shown = list((telling or by_method).items())[:MOST_ROWS]
    table = [(label, len(rows), *(sum(row[kind] == state for row in rows) for _, kind, state in _COUNTED)) for label, rows in shown]
    print_table(writer, "Under way" if telling else "", columns, table, right=columns[1:])
    if len(telling or by_method) > len(shown):
        say(writer, f"... and {len(telling or by_method) - len(shown)} more")


_COUNTED = (
    ("trained", "train", "finished"),
    ("scored", "score", "finished"),
    ("training", "train", "running"),
    ("scoring", "score", "running"),
    ("training failed", "train", "failed"),
    ("scoring failed", "score", "failed"),
)


def _spent(row: dict[str, Any]) -> tuple[str, str]:
    spent = "-" if row["train_flops"] is None else f"{row['train_flops'] / row['budget_flops']:.1%}"
    return spent, "-" if row["wall_s"] is None else duration(row["wall_s"])
