"""The report's sweep section: axes, tables with their drawings, and the leaderboards of other budgets and students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from harness.report import numbers
from harness.report.sweep_charts import Bar, ScalingCurve, effects, scaling
from harness.report.sweep_tables import Table, tables

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
    axes = [axis | {"others": [level for level in axis["levels"] if level != axis["centre"]]} for axis in found["axes"]]
    return {
        "sweep": {
            "design_text": DESIGNS[found["design"]] + (f" The centre is {found['method']}." if found["method"] else ""),
            "axes": axes,
            "tables": [_table(table, by_measure[table.measure][table.part]) for table in tables(found)],
            "boards": list(leaderboard.get("blocks") or ()),
            "notes": found["notes"],
        }
    }


def _table(table: Table, rows: Sequence[Row]) -> Row:
    name = f"sweep-{table.part}-{table.measure}".replace("_", "-")
    chart: Markup | str = ""
    if table.part == "scaling":
        curves = [ScalingCurve(row["method"], row["points"]) for row in rows]
        chart = scaling(curves, name=name)
    elif table.part != "slope_differences":
        bars = [
            Bar(_name(table.part, row), row["effect"], row["interval"])
            for row in rows
            if not numbers.absent(row["effect"]) and row["interval"]
        ]
        chart = effects(bars, name=name) if bars else ""
    return {**vars(table), "chart": chart, "chart_caption": _CURVES if table.part == "scaling" else _EFFECTS}


def _name(part: str, row: Row) -> str:
    if part == "ablation":
        return "; ".join(f"{axis}: {level}" for axis, level in row["levels"].items())
    if part == "main_effects":
        return f"{row['axis']}: {row['level']}"
    return f"{row['first_level']} × {row['second_level']}"
