"""The part of `plan` on spending: what a trial of each method is predicted to spend on every axis, and whether the axis will matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.cli.text import print_table, say
from harness.core.spec import StudySpec
from harness.report.numbers import AXIS_NAMES, spend
from harness.scoring.cost import Prices, cost
from harness.study.plan import Plan

if TYPE_CHECKING:
    from harness.core.results import RunResults


def predicted_spend(study: StudySpec, plan: Plan, seconds: Mapping[str, float], earlier: RunResults | None) -> list[dict[str, Any]]:
    """Per trained method the spend of one trial by axis; tokens and labels as an earlier run counted them, None without one.

    A cap of the study's bounds its own axis.
    """
    caps, rows = study.budget.caps, []
    trials = {trial.label: trial for trial in plan.trials if not trial.seedless and trial.fold is None}
    for label, trial in trials.items():
        counted = _counted(earlier, label)
        train = plan.stages[trial.train_stage]
        # A trial is charged the whole of a first part, however many share it.
        device_s = seconds[train.id] + (seconds[train.prepared] if train.prepared is not None else 0.0)
        priced = cost(
            {name: round(counted[name]) for name in ("demonstrations", "comparisons", "queries")}, device_s, Prices(**study.prices)
        )
        labels = counted["demonstrations"] + counted["comparisons"] if counted["known"] else None
        row: dict[str, Any] = {
            "method": label, "flops": float(train.content["train_flops"]),
            "tokens": counted["tokens"], "seconds": device_s,
            "usd": priced.total_usd if counted["known"] else None, "labels": labels,
        }  # fmt: skip
        limits = caps.model_dump(exclude_none=True)
        row |= {axis: min(row[axis], cap) for axis, cap in limits.items() if row[axis] is not None}
        rows.append(row | {"caps": limits})
    return rows


def ranking_text(earlier: RunResults | None, study: StudySpec) -> str:
    """Whether the ranking depends on the axis, as far as an earlier run tells."""
    told = (earlier.leaderboard.get("axes") or {}).get("text") if earlier is not None else None
    if told:
        return f"In an earlier run: {told}"
    if study.checkpoints is not None:
        return "Whether the ranking depends on what is held equal is told after the run, from its checkpoints."
    return "Whether the ranking depends on what is held equal (FLOPs, tokens, seconds, dollars, labels) needs `checkpoints` in the study."


def print_spend(writer: Console, rows: list[dict[str, Any]], text: str) -> None:
    """Prints the table and the sentence."""
    if rows:
        columns = ("method", *(AXIS_NAMES[axis] for axis in AXIS_NAMES))
        cells = [(row["method"], *(_cell(row[axis], axis, row["caps"].get(axis)) for axis in AXIS_NAMES)) for row in rows]
        print_table(writer, "Predicted spend of a trial", columns, cells, right=columns[1:])
    say(writer, text)


def _cell(value: float | None, axis: str, cap: float | None) -> str:
    if value is not None:
        return spend(value, axis)
    return "after a first run" if cap is None else f"at most {spend(cap, axis)}"


def _counted(earlier: RunResults | None, label: str) -> dict[str, Any]:
    counters = ("demonstrations", "comparisons", "queries")
    nothing = {"known": False, "tokens": None} | dict.fromkeys(counters, 0.0)
    if earlier is None:
        return nothing
    import pandas as pd

    mine = earlier.trials[(earlier.trials["method"] == label) & (earlier.trials["status"] == "finished")]
    if mine.empty:
        return nothing
    tokens = pd.to_numeric(mine["tokens"]).mean()
    return {"known": True, "tokens": None if pd.isna(tokens) else float(tokens)} | {name: float(mine[name].mean()) for name in counters}
