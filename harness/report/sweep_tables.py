"""A sweep's tables as people read them, for terminal, page and files alike; and as CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.report import numbers
from harness.report.text import visible

Row = Mapping[str, Any]
_TESTED = ("Effect", "95 % interval", "p", "p (Holm)", "Seeds × items", "Detectable")
_KEYS = ("effect", "p_value", "p_holm", "n_seeds", "n_items", "n_dropped", "mde", "why")
PARTS = {"ablation": "Ablation", "main_effects": "Main effects", "interactions": "Interactions", "scaling": "Scaling with the budget",
         "slope_differences": "Which method gains more per doubling"}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """One table: `numeric` names the columns that are set to the right; `part` and `measure` are its place in the sweep's record."""

    part: str
    measure: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numeric: tuple[str, ...]


def tables(sweep: Row) -> list[Table]:
    """Every table of leaderboard.json's "sweep" that has rows."""
    found = []
    for measured in sweep["tables"]:
        for part, title in PARTS.items():
            if measured[part]:
                columns, rows = _WRITERS[part](measured[part], sweep)
                first = next(index for index, name in enumerate(columns) if name in (*_TESTED, "Budget", "Compared"))
                shown = f"{title}: {_named(measured['measure'])}"
                found.append(Table(part, measured["measure"], shown, _caption(part, measured, sweep), columns, rows, columns[first:]))
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
        if part == "scaling"
        else f" Holm's adjustment covers all {measured['family']} tests of this measure; detectable: the smallest true effect that its "
        f"strictest step finds with probability {sweep['power']:g}."
    )
    text = measured["metric_text"]
    return f"{text[:1].upper()}{text[1:]}. {against}{family}"


def _tested(row: Row) -> tuple[str, ...]:
    if row["effect"] is None:
        return (visible(row["why"]), *[numbers.MISSING] * (len(_TESTED) - 1))
    return (
        numbers.points(row["effect"]), numbers.interval(row["interval"], numbers.points), numbers.p_value(row["p_value"]),
        numbers.p_value(row["p_holm"]), f"{numbers.count(row['n_seeds'])} × {numbers.count(row['n_items'])}",
        numbers.points(row["mde"]).removeprefix("+"),
    )  # fmt: skip


def _ablation(rows: Sequence[Row], sweep: Row) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    apart = len({row["block"] for row in rows}) > 1
    cells = [
        (
            "; ".join(f"{axis}: {level}" for axis, level in row["levels"].items()),
            "; ".join(row["centre_levels"].values()),
            *([row["block"]] if apart else []),
            *_tested(row),
        )
        for row in rows
    ]
    return ("Changed", "Centre", *(["At"] if apart else []), *_TESTED), cells


def _main_effects(rows: Sequence[Row], sweep: Row) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    cells = [
        (
            row["axis"],
            row["level"],
            row["centre"],
            numbers.count(row["n_pairs"]),
            numbers.interval(row["range"], numbers.points),
            *_tested(row),
        )
        for row in rows
    ]
    return ("Axis", "Level", "Centre", "Compared", "Range", *_TESTED), cells


def _interactions(rows: Sequence[Row], sweep: Row) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    cells = [(f"{row['first']}: {row['first_level']}", f"{row['second']}: {row['second_level']}", *_tested(row)) for row in rows]
    return ("Level of the first axis", "Level of the second axis", *_TESTED), cells


def _scaling(rows: Sequence[Row], sweep: Row) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    columns = ("Method", "Budget", "Score", "Interval", "Per doubling", "95 % interval", "Seeds × items")
    cells: list[tuple[str, ...]] = []
    for row in rows:
        for index, point in enumerate(row["points"]):
            slope = ("", "") if index else (numbers.points(row["slope"]), numbers.interval(row["interval"], numbers.points))
            name = visible(row["method"]) + _incomplete(row)
            cells.append(
                (
                    "" if index else name, numbers.flops(point["train_flops"]), visible(point["why"]) or numbers.percent(point["value"]),
                    numbers.interval(point["interval"]), *slope,
                    f"{numbers.count(point['n_seeds'])} × {numbers.count(point['n_items'])}",
                )
            )  # fmt: skip
    return columns, cells


def _incomplete(curve: Row) -> str:
    """How many of a curve's budgets have a score, where not all have."""
    n_budgets, n_scored = len(curve["points"]), len(curve["budgets"])
    return f" (incomplete: {n_scored} of {n_budgets} budgets scored)" if n_scored < n_budgets else ""


def _slope_differences(rows: Sequence[Row], sweep: Row) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    cells = [(row["first"], row["second"], ", ".join(map(numbers.flops, row["budgets"])), *_tested(row)) for row in rows]
    return ("First", "Second", "Budgets", *_TESTED), cells


_WRITERS: dict[str, Callable[[Sequence[Row], Row], tuple[tuple[str, ...], list[tuple[str, ...]]]]] = {
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


def files(sweep: Row | None, *, latex_escaped: Callable[[str], str]) -> dict[str, str]:
    """sweep.csv, sweep.md and sweep.tex with their contents; nothing where a study has no sweep."""
    if not sweep:
        return {}
    shown = tables(sweep)
    return {
        "sweep.csv": frame(sweep).to_csv(index=False),
        "sweep.md": "\n".join(_markdown(table) for table in shown),
        "sweep.tex": "\n".join(_latex(table, latex_escaped) for table in shown),
    }


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ") for cell in cells) + " |"

    body = "\n".join(line(row) for row in table.rows)
    marks = line(["---:" if name in table.numeric else "---" for name in table.columns])
    return f"### {table.title}\n\n{line(table.columns)}\n{marks}\n{body}\n\n{table.caption.replace('<', '&lt;')}\n"


def _latex(table: Table, escaped: Callable[[str], str]) -> str:
    lines = [" & ".join(map(escaped, cells)) + r" \\" for cells in (table.columns, *table.rows)]
    columns = "".join("r" if name in table.numeric else "l" for name in table.columns)
    body = "\n".join(lines[1:])
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{escaped(f'{table.title}. {table.caption}')}}}\n\\begin{{tabular}}{{{columns}}}\n"
        f"\\toprule\n{lines[0]}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )
