"""The report's sweep section: axes, tables with their drawings, and the leaderboards of other budgets and students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from harness.report import boards, numbers
from harness.report.sweep_charts import Bar, ScalingCurve, effects, scaling
from harness.report.sweep_tables import Finding, tables
from harness.report.table import Column, Table, words

Row = dict[str, Any]
DESIGNS = {
    "one_at_a_time": "One at a time: each variant differs from the centre in one axis.",
    "grid": "A grid: every combination of the axes' levels.",
    "list": "A list: the variants that the study names.",
}
_EFFECTS = "Differences with 95 % intervals, not adjusted for their number; right of the line is better. The table has adjusted p-values."
_CURVES = "Mean score with its 95 % interval at each budget; the budget axis is logarithmic."


def context(leaderboard: Mapping[str, Any]) -> Row:
    """What sweep.html.j2 is given; nothing of a study without a sweep."""
    found = leaderboard.get("sweep")
    if not found:
        return {"sweep": None}
    by_measure = {measured["measure"]: measured for measured in found["tables"]}
    return {
        "sweep": {
            "design_text": DESIGNS[found["design"]] + (f" The centre is {found['method']}." if found["method"] else ""),
            "axes_table": _axes(found["axes"]),
            "findings": [_finding(one, by_measure[one.measure][one.part]) for one in tables(found)],
            "boards": [_board(board, place) for place, board in enumerate(leaderboard.get("blocks") or (), start=1)],
            "notes": found["notes"],
        }
    }


def _axes(axes: Sequence[Row]) -> Table:
    rows = [
        [
            words(axis["name"]), words(axis["key"] or "several settings"), words(axis["centre"]),
            words(", ".join(level for level in axis["levels"] if level != axis["centre"])),
        ]
        for axis in axes
    ]  # fmt: skip
    titles = {"axis": "Axis", "sets": "Sets", "centre": "Centre", "levels": "Other levels"}
    columns = [Column(title, key, numeric=False) for key, title in titles.items()]
    return Table("sweep_axes", "What varies. Every run is compared with runs of its own budget and student only.", columns, rows)


def _finding(found: Finding, rows: Sequence[Row]) -> Row:
    name = f"sweep-{found.part}-{found.measure}".replace("_", "-")
    chart: Markup | str = ""
    if found.part == "scaling":
        curves = [ScalingCurve(row["method"], row["points"]) for row in rows if row["budgets"]]
        chart = scaling(curves, name=name) if curves else ""
    elif found.part != "slope_differences":
        bars = [
            Bar(_name(found.part, row), row["effect"], row["interval"])
            for row in rows
            if not numbers.absent(row["effect"]) and row["interval"]
        ]
        chart = effects(bars, name=name) if bars else ""
    caption = _CURVES if found.part == "scaling" else _EFFECTS
    return {"title": found.title, "table": found.table, "chart": chart, "chart_caption": caption}


def _board(board: Row, place: int) -> Row:
    """The leaderboard of another budget or student."""
    about = f"{numbers.flops(board['train_flops'])} of training for each run, student {board['student']}."
    table = boards.leaderboard_table(board)
    return {"name": board["name"], "table": replace(table, name=f"leaderboard_{place}", caption=f"{table.caption} {about}")}


def _name(part: str, row: Row) -> str:
    if part == "ablation":
        return "; ".join(f"{axis}: {level}" for axis, level in row["levels"].items())
    if part == "main_effects":
        return f"{row['axis']}: {row['level']}"
    return f"{row['first_level']} × {row['second_level']}"
