"""A sweep's tables as people read them, for terminal, page and files alike; and as CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from harness.report import numbers
from harness.report.table import Cell, Column, Table, amount, as_latex, as_markdown, words

Row = Mapping[str, Any]
Content = tuple[list[Column], list[list[Cell]]]
_TESTED = [
    Column("Effect, 95 % interval", "effect"), Column("p", "p_value"), Column("p (Holm)", "p_holm"), Column("Seeds", "n_seeds"),
    Column("Items", "n_items"), Column("Detectable", "detectable"),
]  # fmt: skip
_KEYS = ("effect", "p_value", "p_holm", "n_seeds", "n_items", "n_dropped", "mde", "why")
PARTS = {"ablation": "Ablation", "main_effects": "Main effects", "interactions": "Interactions", "scaling": "Scaling with the budget",
         "slope_differences": "Which method gains more per doubling"}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One table of a sweep with its title; `part` and `measure` are its place in the sweep's record."""

    part: str
    measure: str
    title: str
    table: Table


def tables(sweep: Row) -> list[Finding]:
    """Every table of leaderboard.json's "sweep" that has rows."""
    found = []
    for measured in sweep["tables"]:
        for part, title in PARTS.items():
            if measured[part]:
                columns, rows = _WRITERS[part](measured[part])
                measure = measured["measure"]
                table = Table(f"sweep_{part}_{measure}", _caption(part, measured, sweep), columns, rows)
                found.append(Finding(part, measure, f"{title}: {_named(measure)}", table))
    return found


def _named(measure: str) -> str:
    return "mean score" if measure == "score" else measure.replace("_", " ")


def _caption(part: str, measured: Row, sweep: Row) -> str:
    against = {
        "ablation": f"Each variant less the centre ({sweep['method']}), paired by seed and item; positive: the variant is better.",
        "main_effects": "Each level less the centre's, the mean over all combinations of the other axes, paired by seed and item. "
        "Range: smallest and largest difference among those combinations.",
        "interactions": "By how much the first axis' effect is larger at the second axis' level than at its centre.",
        "scaling": "Per doubling: the slope of the score on log2 of the budget over the budgets that have a score, with its interval over "
        "seeds and items. Slopes over different budgets must not be compared.",
        "slope_differences": "Slope of the first less slope of the second, both over the budgets named, at which both have scores; "
        "paired by seed and item.",
    }[part]
    family = (
        ""
        if part == "scaling" or not measured["family"]
        else f" Holm's adjustment covers all {measured['family']} tests of this measure; detectable: the smallest true effect that its "
        f"strictest step finds with probability {sweep['power']:g}."
    )
    text = measured["metric_text"]
    return f"{text[:1].upper()}{text[1:]}. {against}{family}"


def _tested(row: Row) -> list[Cell]:
    return [
        amount(row["effect"], numbers.points, interval=row["interval"], note=row["why"]), amount(row["p_value"], numbers.p_value),
        amount(row["p_holm"], numbers.p_value), amount(row["n_seeds"], numbers.count), amount(row["n_items"], numbers.count),
        amount(row["mde"], lambda value: numbers.points(value).removeprefix("+")),
    ]  # fmt: skip


def _text(title: str) -> Column:
    return Column(title, title.lower().replace(" ", "_"), numeric=False)


def _ablation(rows: Sequence[Row]) -> Content:
    apart = len({row["block"] for row in rows}) > 1
    cells = [
        [
            words("; ".join(f"{axis}: {level}" for axis, level in row["levels"].items())),
            words("; ".join(row["centre_levels"].values())),
            *([words(row["block"])] if apart else []),
            *_tested(row),
        ]
        for row in rows
    ]
    return [_text("Changed"), _text("Centre"), *([_text("At")] if apart else []), *_TESTED], cells


def _main_effects(rows: Sequence[Row]) -> Content:
    cells = [
        [
            words(row["axis"]), words(row["level"]), words(row["centre"]), amount(row["n_pairs"], numbers.count),
            words(None if row["range"] is None else numbers.interval(row["range"], numbers.points)), *_tested(row),
        ]
        for row in rows
    ]  # fmt: skip
    return [_text("Axis"), _text("Level"), _text("Centre"), Column("Compared", "n_pairs"), _text("Range"), *_TESTED], cells


def _interactions(rows: Sequence[Row]) -> Content:
    cells = [
        [words(f"{row['first']}: {row['first_level']}"), words(f"{row['second']}: {row['second_level']}"), *_tested(row)] for row in rows
    ]
    return [_text("Level of the first axis"), _text("Level of the second axis"), *_TESTED], cells


def _scaling(rows: Sequence[Row]) -> Content:
    """A row for every point, each with its curve's slope."""
    columns = [
        _text("Method"), Column("Budget", "train_flops"), Column("Score, 95 % interval", "score"), Column("Seeds", "n_seeds"),
        Column("Items", "n_items"), Column("Per doubling, 95 % interval", "slope"),
    ]  # fmt: skip
    cells = []
    for row in rows:
        n_budgets, n_scored = len(row["points"]), len(row["budgets"])
        lacking = f"incomplete: {n_scored} of {n_budgets} budgets scored" if n_scored < n_budgets else ""
        slope = amount(row["slope"], numbers.points, interval=row["interval"], note=row["why"])
        cells += [
            [
                words(row["method"], flag=lacking, tone="bad"), amount(point["train_flops"], numbers.flops),
                amount(point["value"], numbers.percent, interval=point["interval"], note=point["why"]),
                amount(point["n_seeds"], numbers.count), amount(point["n_items"], numbers.count), slope,
            ]
            for point in row["points"]
        ]  # fmt: skip
    return columns, cells


def _slope_differences(rows: Sequence[Row]) -> Content:
    cells = []
    for row in rows:
        budgets = ", ".join(map(numbers.flops, row["budgets"]))
        cells.append([words(row["first"]), words(row["second"]), words(budgets), *_tested(row)])
    return [_text("First"), _text("Second"), _text("Budgets"), *_TESTED], cells


_WRITERS: dict[str, Callable[[Sequence[Row]], Content]] = {
    "ablation": _ablation, "main_effects": _main_effects, "interactions": _interactions, "scaling": _scaling,
    "slope_differences": _slope_differences,
}  # fmt: skip


def frame(sweep: Row) -> pd.DataFrame:
    """Every tested effect, and every slope, as one row with plain numbers."""
    found = []
    for measured in sweep["tables"]:
        for part in PARTS:
            for row in measured[part]:
                low, high = row["interval"] or (None, None)
                values = {key: row.get(key) for key in _KEYS} | ({"effect": row["slope"]} if part == "scaling" else {})
                values["budgets"] = ";".join(f"{flops:g}" for flops in row.get("budgets") or ()) or None
                found.append({"measure": measured["measure"], "table": part, "what": _what(part, row), **values, "low": low, "high": high})
    return pd.DataFrame(found)


def _what(part: str, row: Row) -> str:
    """What a row is about, on one line."""
    match part:
        case "ablation":
            return str(row["variant"])
        case "main_effects":
            return f"{row['axis']}={row['level']}"
        case "interactions":
            return f"{row['first']}={row['first_level']} x {row['second']}={row['second_level']}"
        case "scaling":
            return str(row["method"])
    return f"{row['first']} - {row['second']}"


def files(sweep: Row | None, basis: str) -> dict[str, str]:
    """sweep.csv, sweep.md and sweep.tex with their contents, `basis` under every table; nothing where a study has no sweep."""
    if not sweep:
        return {}
    shown = [replace(found, table=replace(found.table, basis=basis)) for found in tables(sweep)]
    titled = [replace(found.table, caption=f"{found.title}. {found.table.caption}") for found in shown]
    return {
        "sweep.csv": frame(sweep).to_csv(index=False),
        "sweep.md": "\n".join(f"### {found.title}\n\n{as_markdown(found.table)}" for found in shown),
        "sweep.tex": "\n".join(map(as_latex, titled)),
    }
