"""The report's robustness section and the same table for the terminal: losses, worst case, which method loses less, left-out families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report import charts, numbers, views
from harness.verdicts.frames import PERTURBED, WORST
from harness.verdicts.robustness import EVERY_TASK

Row = dict[str, Any]
NAMES = {PERTURBED: "mean of all", WORST: "worst of all"}
COLUMNS = (
    "scope",
    "perturbation",
    "clean",
    "perturbed",
    "loss",
    "95 % interval",
    "p (Holm)",
    "kept",
    "items",
    "rejected",
    "not applicable",
)


def context(leaderboard: Mapping[str, Any], palette: charts.Palette) -> Row:
    """What robustness.html.j2 is given."""
    losses = _losses(leaderboard)
    drawn = [row for row in losses if row["scope"] == EVERY_TASK and not numbers.absent(row["clean"]) and not numbers.absent(row["value"])]
    bells = [(f"{row['method']} · {row['label']}", row["method"], row["clean"], row["value"]) for row in drawn]
    chart = charts.dumbbells(bells, palette, x_label="mean score", first="clean", second="perturbed", name="robustness") if bells else ""
    pairs = [row | {"label": NAMES.get(row["perturbation"], row["perturbation"])} for row in _found(leaderboard).get("pairs") or ()]
    return {"robustness": losses, "robustness_chart": chart, "robustness_pairs": pairs, "fold_rows": list(leaderboard.get("folds") or ())}


def _found(leaderboard: Mapping[str, Any]) -> Mapping[str, Any]:
    return leaderboard.get("robustness") or {}


def _losses(leaderboard: Mapping[str, Any]) -> list[Row]:
    """The rows of the leaderboard's robustness; of one written before there was such a part, its drops."""
    blank = dict.fromkeys(("retention", "retention_interval", "p_holm", "n_asked", "rejected", "inapplicable"))
    rows: Sequence[Row] = _found(leaderboard).get("rows") or [row | {"scope": EVERY_TASK} for row in views.robustness(dict(leaderboard))]
    return [
        blank | row | {"label": NAMES.get(row["perturbation"], row["perturbation"]), "in_points": row["scope"] == EVERY_TASK}
        for row in rows
    ]


def table(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows of `harness.verdicts.robustness` under COLUMNS, for one method.

    Shares are written in percent and their losses in points; a task in which a lower score is better in its own unit.
    """
    return [_cells(row) for row in _losses({"robustness": found})]


def _cells(row: Row) -> tuple[str, ...]:
    value, difference = (numbers.percent, numbers.points) if row["in_points"] else (numbers.number, numbers.number)
    return (
        row["scope"], row["label"], value(row["clean"]), value(row["value"]), difference(row["drop"]),
        numbers.interval(row["interval"], difference), numbers.p_value(row["p_holm"]), numbers.percent(row["retention"]),
        f"{numbers.count(row['n_items'])}/{numbers.count(row['n_asked'])}",
        numbers.count(row["rejected"]), numbers.count(row["inapplicable"]),
    )  # fmt: skip
