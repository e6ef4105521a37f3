"""The report's robustness section and the same table for the terminal: losses, worst case, which method loses less, left-out families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from harness.report import charts, interval_charts, numbers, views
from harness.report.table import Column, Table, amount, label, words
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
    pairs, folds = list(_found(leaderboard).get("pairs") or ()), list(leaderboard.get("folds") or ())
    return {
        "robustness_table": _losses_table(losses) if losses else None,
        "robustness_charts": _charts(losses, palette),
        "robustness_pairs": _pairs_table(pairs) if pairs else None,
        "folds_table": _folds_table(folds) if folds else None,
    }


def _charts(losses: Sequence[Row], palette: charts.Palette) -> list[Markup]:
    """Losses of the mean over tasks with their intervals, one panel a perturbation, all on one axis."""
    panels: dict[str, list[interval_charts.Bar]] = {}
    for row in losses:
        if row["scope"] == EVERY_TASK and not numbers.absent(row["drop"]):
            panels.setdefault(row["label"], []).append(interval_charts.Bar(str(row["method"]), float(row["drop"]), row["interval"]))
    span = interval_charts.spans(panels)
    return [
        interval_charts.forest(title, bars, palette, x_label="loss, percentage points", name=f"loss{place}", span=span)
        for place, (title, bars) in enumerate(panels.items())
    ]


def _losses_table(losses: Sequence[Row]) -> Table:
    rows = []
    for row in losses:
        value, difference = (numbers.percent, numbers.points) if row["in_points"] else (numbers.number, numbers.number)
        rows.append([
            label(row["method"]), words(row["scope"]), words(row["label"]), amount(row["clean"], value), amount(row["value"], value),
            amount(row["drop"], difference, interval=row["interval"], strong=True), amount(row["p_holm"], numbers.p_value),
            amount(row["retention"], numbers.percent, interval=row["retention_interval"]), amount(row["n_seeds"], numbers.count),
            amount(row["n_items"], numbers.count), amount(row["n_asked"], numbers.count), amount(row["rejected"], numbers.count),
            amount(row["inapplicable"], numbers.count),
        ])  # fmt: skip
    columns = [
        Column("Method", "method", numeric=False), Column("Of", "scope", numeric=False),
        Column("Perturbation", "perturbation", numeric=False), Column("Clean", "clean"), Column("Perturbed", "perturbed"),
        Column("Loss, 95 % interval", "loss"), Column("p (Holm)", "p_holm"),
        Column("Kept", "retention"), Column("Seeds", "n_seeds"), Column("Items", "n_items"), Column("Asked", "n_asked"),
        Column("Rejected", "rejected"), Column("Not applicable", "inapplicable"),
    ]  # fmt: skip
    text = (
        "Loss under perturbation, in percentage points (a task in which lower is better: in its own unit), paired by item. Positive: worse "
        "when perturbed. “Worst of all” takes each item at its worst version, the clean one among them; it falls with the number of "
        "perturbations. Items: with both scores, of those asked; rejected: too unlike the clean text to be the same item; not applicable: "
        "nothing to change."
    )
    return Table("robustness", text, columns, rows)


def _pairs_table(pairs: Sequence[Row]) -> Table:
    rows = [
        [
            label(row["first"]), label(row["second"]), words(row["scope"]), words(NAMES.get(row["perturbation"], row["perturbation"])),
            amount(row["difference"], numbers.points, interval=row["interval"], strong=True), amount(row["p_holm"], numbers.p_value),
            amount(row["n_seeds"], numbers.count), amount(row["n_items"], numbers.count),
        ]
        for row in pairs
    ]  # fmt: skip
    columns = [
        Column("First", "first", numeric=False), Column("Second", "second", numeric=False), Column("Of", "scope", numeric=False),
        Column("Perturbation", "perturbation", numeric=False), Column("Difference of losses, 95 % interval", "difference"),
        Column("p (Holm)", "p_holm"), Column("Seeds", "n_seeds"), Column("Items", "n_items"),
    ]  # fmt: skip
    text = (
        "Loss of the first method less loss of the second, paired by seed and item; negative: the first is more robust. p is adjusted over "
        "the perturbations of a pair (Holm). That one method's loss is significant and another's is not would not show it."
    )
    return Table("robustness_pairs", text, columns, rows)


def _folds_table(folds: Sequence[Row]) -> Table:
    rows = [
        [
            label(row["first"]), label(row["second"]), amount(row["difference"], numbers.points, interval=row["interval"], strong=True),
            words(numbers.interval(row["these_families"], numbers.points)), amount(row["p_holm"], numbers.p_value),
            words(", ".join(f"{family} {numbers.points(value)}" for family, value in row["per_fold"].items())),
            amount(row["n_seeds"], numbers.count), amount(row["n_folds"], numbers.count), amount(row["n_items"], numbers.count),
        ]
        for row in folds
    ]  # fmt: skip
    columns = [
        Column("First", "first", numeric=False), Column("Second", "second", numeric=False),
        Column("Difference, 95 % interval", "difference"), Column("These families only", "these_families", numeric=False),
        Column("p (Holm)", "p_holm"), Column("By family", "per_family", numeric=False), Column("Seeds", "n_seeds"),
        Column("Folds", "n_folds"), Column("Items", "n_items"),
    ]  # fmt: skip
    text = (
        "Each fold trains without one task family and is scored on it. First method less second. The interval is of families like these: "
        "the folds' training sets overlap, which is allowed for (Nadeau and Bengio's correction); the next one speaks of these families "
        "only."
    )
    return Table("folds", text, columns, rows)


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
