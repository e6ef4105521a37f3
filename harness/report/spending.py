"""What the report says of spending: phases of compute, the ranking on each axis of matching, cost at equal quality, tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.core.grid import written
from harness.core.results import RunResults
from harness.report import numbers, views
from harness.report.text import visible

Row = dict[str, Any]
AXIS_NAMES = {"flops": "FLOPs", "tokens": "tokens", "seconds": "device seconds", "usd": "dollars", "labels": "labels"}
PAIR_AXES = ("flops", "seconds", "usd", "labels")


def context(run: RunResults) -> Row:
    """What the spending templates name."""
    board = run.leaderboard
    return {
        "phases": phase_rows(views.phase_shares(run.ledger)),
        "axes": _axes(board.get("axes") or {}),
        "pairs": _pairs(board.get("equal_quality") or []),
        "pair_axes": [AXIS_NAMES[axis] for axis in PAIR_AXES],
        "tuned": _tuned(run.tuned),
        "capped": [str(row["trial_id"]) for row in run.trials.to_dict("records") if isinstance(row.get("ended_by"), str)],
    }


def amount(value: Any, axis: str) -> str:
    """A spend in its own unit."""
    write = {"flops": numbers.flops, "seconds": numbers.seconds, "usd": numbers.dollars}.get(axis, numbers.count)
    return write(value)


def phase_rows(shares: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Phases, the largest first, and each method's share of its training FLOPs in each."""
    totals: dict[str, float] = {}
    for by_phase in shares.values():
        for phase, share in by_phase.items():
            totals[phase] = totals.get(phase, 0.0) + share
    phases = sorted(totals, key=lambda phase: -totals[phase])
    return phases, [
        (method, [numbers.percent(by_phase[phase]) if phase in by_phase else numbers.MISSING for phase in phases])
        for method, by_phase in shares.items()
    ]


def phase_markdown(shares: Mapping[str, Mapping[str, float]]) -> str:
    """The table of phase shares in Markdown."""
    phases, rows = phase_rows(shares)
    lines = [["method", *phases], ["---", *["---:"] * len(phases)], *([visible(method), *cells] for method, cells in rows)]
    return "".join("| " + " | ".join(cell.replace("|", r"\|").replace("<", "&lt;") for cell in line) + " |\n" for line in lines)


def _axes(table: Mapping[str, Any]) -> Row:
    if not table:
        return {}
    methods = list(table["rows"][0]["spend"])
    rows = [
        {
            "axis": AXIS_NAMES[row["axis"]],
            "spend": [amount(row["spend"][method], row["axis"]) for method in methods],
            "at": amount(row["at"], row["axis"]),
            "ranking": [(entry["method"], numbers.percent(entry["value"]), entry["tied_with_best"]) for entry in row["ranking"]],
            "why": row["why"],
        }
        for row in table["rows"]
    ]
    return {"methods": methods, "rows": rows, "text": table["text"], "checkpoints": table["checkpoints"], "tasks": table["tasks"]}


def _pairs(table: Sequence[Row]) -> list[Row]:
    pairs: dict[tuple[str, str], Row] = {}
    for row in table:
        pair = pairs.setdefault(
            (row["treatment"], row["comparator"]),
            {"treatment": row["treatment"], "comparator": row["comparator"], "cells": {}, "never": None, "n_seeds": None, "why": ""},
        )
        if row.get("ratio") is None:
            pair["cells"][row["axis"]] = (numbers.MISSING, "", row["why"])
            pair["why"] = pair["why"] or row["why"]
            continue
        low, high = row["interval"]
        mine = "never in some seed" if row["treatment_cost"] is None else amount(row["treatment_cost"], row["axis"])
        costs = f"{mine} against {amount(row['comparator_cost'], row['axis'])}"
        pair["cells"][row["axis"]] = (f"{row['ratio']}×", numbers.interval([low, high], numbers.number), costs)
        pair |= {"never": row["share_never"], "at_start": row["share_at_start"], "n_seeds": row["n_seeds"], "why": ""}
    nothing = (numbers.MISSING, "", "")
    return [pair | {"cells": [pair["cells"].get(axis, nothing) for axis in PAIR_AXES]} for pair in pairs.values()]


def _tuned(record: Mapping[str, Any]) -> list[Row]:
    return [
        {
            "method": label,
            "chosen": written(entry["values"]),
            "candidates": [
                (written(candidate["values"]), numbers.percent(candidate["score"]), "; ".join(candidate["errors"]))
                for candidate in entry.get("candidates", [])
            ],
            "flops": sum(candidate["flops"] for candidate in entry.get("candidates", [])),
        }
        for label, entry in (record.get("methods") or {}).items()
    ]
