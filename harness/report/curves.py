"""The report's curves, each with a table: training curves over seeds, scores along the runs, pool validation before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.core.results import RunResults
from harness.report import charts, interval_charts, numbers, views
from harness.report.table import Cell, Column, Table, amount, label, words

Row = dict[str, Any]
_ENDINGS = ("loss", "reward")


def context(run: RunResults, primary: pd.DataFrame, palette: charts.Palette) -> Row:
    """What training.html.j2 names beside spending; `primary`: see `views.primary_samples`."""
    return {"curves": _curves(run.curves, palette)} | _tracks(run.leaderboard.get("tracks") or {}, palette) | _validation(primary, palette)


def _curves(curves: pd.DataFrame, palette: charts.Palette) -> list[Row]:
    found: list[Row] = []
    groups = list(curves.groupby("curve", sort=False)) if len(curves) else []
    # Losses and rewards first, those that most methods share before the others.
    groups.sort(key=lambda pair: (not str(pair[0]).endswith(_ENDINGS), -pair[1]["method"].nunique()))
    for name, group in groups:
        lines = [
            charts.Curve(str(method), own["train_flops"].to_numpy(float), own["value"].to_numpy(float))
            for (method, _), own in group.sort_values("train_flops").groupby(["method", "seed"], sort=False)
        ]
        finite = [line for line in lines if np.isfinite(line.value).all()]
        if finite:
            index = len(found)
            left_out = len(lines) - len(finite)
            text = f"{name}: {len(finite)} trial{'s' if len(finite) > 1 else ''}, {numbers.count(len(group))} observations."
            text += f" {left_out} with values that are no finite number are not drawn." if left_out else ""
            table = _curve_table(str(name), finite, index)
            found.append({"svg": charts.learning_curves(str(name), finite, palette, index), "caption": text, "table": table})
    return found


def _curve_table(name: str, curves: Sequence[charts.Curve], index: int) -> Table:
    """The means and bands that the chart draws, at three points, and how the curves end."""
    by_number = charts.counted(curves)
    shown = [charts.by_observation(curve) for curve in curves] if by_number else list(curves)
    rows = []
    for method in dict.fromkeys(curve.method for curve in shown):
        own = [charts.thin(curve.flops, curve.value) for curve in shown if curve.method == method]
        grid, values_S_T = charts.common(own, 3)
        last = np.array([[value[-1]] for _, value in own])
        cells = [_at(values_S_T, at) if len(grid) else Cell(numbers.MISSING) for at in range(3)]
        range_text = "" if not len(grid) else f"{_x(grid[0], by_number)} to {_x(grid[-1], by_number)}"
        counted = sum(len(curve.value) for curve in shown if curve.method == method)
        rows.append([
            label(method), amount(len(own), numbers.count), amount(counted, numbers.count), words(range_text), *cells, _at(last, 0),
        ])  # fmt: skip
    columns = [
        Column("Method", "method", numeric=False), Column("Seeds", "n_seeds"), Column("Observations", "n_observations"),
        Column("Range seen by all seeds", "range", numeric=False), Column("At its start", "start"), Column("In its middle", "middle"),
        Column("At its end", "end"), Column("Last value", "last"),
    ]  # fmt: skip
    text = f"{name}: mean over seeds with 95 % t interval over seeds; long curves as means of neighbouring observations, as drawn."
    return Table(f"curve{index}", text, columns, rows)


def _at(values_S_T: np.ndarray[Any, Any], at: int) -> Cell:
    mean_T, half_T = charts.mean_band(values_S_T[:, [at]])
    known = bool(np.isfinite(half_T[0]))
    ends = (float(mean_T[0] - half_T[0]), float(mean_T[0] + half_T[0])) if known else None
    return amount(float(mean_T[0]), numbers.number, interval=ends)


def _x(value: float, by_number: bool) -> str:
    return numbers.count(value) if by_number else numbers.flops(value)


def _tracks(found: Mapping[str, Any], palette: charts.Palette) -> Row:
    rows = found.get("rows") or []
    if not rows:
        return {"tracks_chart": "", "tracks_table": None, "tracks_why": found.get("why") or ""}
    lines = [
        interval_charts.Line(
            str(row["method"]),
            [point["train_flops"] for point in row["points"]],
            [point["value"] for point in row["points"]],
            [point["interval"] for point in row["points"]],
        )
        for row in rows
    ]
    body = [
        [
            label(row["method"]),
            amount(point["train_flops"], numbers.flops),
            amount(point["value"], numbers.percent, interval=point["interval"], strong=True),
        ]
        for row in rows
        for point in row["points"]
    ]
    columns = [Column("Method", "method", numeric=False), Column("Spent", "train_flops"), Column("Score, 95 % interval", "score")]
    text = (
        f"Mean over {', '.join(found['tasks'])} on {numbers.count(found['n_items'])} items, {numbers.count(found['n_seeds'])} seeds; "
        "interval over seeds, on these items. The start is the untrained student, one checkpoint for all seeds."
    )
    return {
        "tracks_chart": interval_charts.score_lines(lines, palette),
        "tracks_table": Table("tracks", text, columns, body),
        "tracks_why": "",
    }


def _validation(primary: pd.DataFrame, palette: charts.Palette) -> Row:
    rows = views.pool_validation(primary)
    if not rows:
        return {"validation_table": None, "validation_chart": ""}
    several = len({row["task"] for row in rows}) > 1
    bells = [(row["method"] + (f" · {row['task']}" if several else ""), row["method"], row["before"], row["after"]) for row in rows]
    body = [
        [
            label(row["method"]), words(row["task"]), amount(row["before"], numbers.percent), amount(row["after"], numbers.percent),
            _change(row["changes"]), words(", ".join(map(numbers.points, row["changes"]))),
            amount(len(row["changes"]), numbers.count), amount(row["items"], numbers.count),
        ]
        for row in rows
    ]  # fmt: skip
    columns = [
        Column("Method", "method", numeric=False), Column("Split", "split", numeric=False), Column("Before", "before"),
        Column("After", "after"), Column("Mean change, 95 % interval", "mean_change"),
        Column("Change of each seed", "changes", numeric=False), Column("Seeds", "n_seeds"), Column("Items", "n_items"),
    ]  # fmt: skip
    text = "Pool validation before and after training; change in percentage points, interval over seeds on these items."
    chart = charts.dumbbells(bells, palette, x_label="pool validation score", first="before", second="after", name="pool")
    return {"validation_table": Table("validation", text, columns, body), "validation_chart": chart}


def _change(changes: Sequence[float]) -> Cell:
    mean_T, half_T = charts.mean_band(np.array(changes, dtype=float)[:, None])
    known = bool(np.isfinite(half_T[0]))
    ends = (float(mean_T[0] - half_T[0]), float(mean_T[0] + half_T[0])) if known else None
    return amount(float(mean_T[0]), numbers.points, interval=ends, strong=True)
