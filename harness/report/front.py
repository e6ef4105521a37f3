"""The report's cost and quality together: one chart an axis of cost, and how surely each method is on its front."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from harness.core.results import RunResults
from harness.report import charts, interval_charts, numbers
from harness.report.table import Cell, Column, Table, amount, label
from harness.verdicts.tracks import spend

Row = dict[str, Any]
SURE = 0.95
"""Share of joint draws from which on a place on the front, or off it, is called sure."""


def context(run: RunResults, by_seed: Mapping[str, Mapping[int, Mapping[str, float]]], palette: charts.Palette) -> Row:
    """What scores.html.j2 names of the front; `by_seed`: each training's scores (`views.seed_scores`)."""
    found = run.leaderboard.get("front") or {}
    axes = {axis: about for axis, about in (found.get("axes") or {}).items() if about["rows"]}
    # Where all trained methods cost the same by design the picture is of one column, and dollars and seconds say more.
    order = sorted(axes, key=lambda axis: ("usd", "seconds", "flops", "labels").index(axis))
    varied = [axis for axis in order if len({row["cost"] for row in axes[axis]["rows"]}) > 1]
    return {
        "front_charts": [
            {"svg": _chart(run, axis, axes[axis], by_seed, palette), "caption": _caption(axes[axis], found["n_seeds"])} for axis in varied
        ],
        "front_random": _random(found["n_seeds"]) if varied else "",
        "front_table": _table(found, {axis: axes[axis] for axis in varied}) if varied else None,
        "front_why": found.get("why") or ("" if varied else "No scored methods whose costs are known and differ."),
        "front_unknown": [about["why"] for about in (found.get("axes") or {}).values() if about["why"]],
    }


def _chart(
    run: RunResults, axis: str, about: Row, by_seed: Mapping[str, Mapping[int, Mapping[str, float]]], palette: charts.Palette
) -> Any:
    costs = dict(zip(zip(run.trials["method"], run.trials["seed"], strict=True), spend(run.trials, axis), strict=True))
    regions = []
    for row in about["rows"]:
        seeds = [
            (float(costs[row["method"], seed]), scores[""])
            for seed, scores in by_seed.get(row["method"], {}).items()
            if "" in scores and not numbers.absent(costs.get((row["method"], seed)))
        ]
        fields = {key: row[key] for key in ("method", "cost", "quality", "cost_se", "quality_se", "correlation", "radius", "on_front")}
        regions.append(interval_charts.Region(**fields, seeds=seeds))
    return interval_charts.front(regions, palette, axis=axis, unit=about["unit"], words=f"mean {numbers.AXIS_NAMES[axis]}")


def _random(n_seeds: int) -> str:
    """What the draws vary."""
    return "seeds and items both random" if n_seeds > 1 else "items random only: what the luck of one training seed did cannot be told"


def _caption(about: Row, n_seeds: int) -> str:
    surely = [str(row["method"]) for row in about["rows"] if row["share_on_front"] >= SURE]
    open_ = [
        f"{row['method']} ({numbers.percent(row['share_on_front'])})" for row in about["rows"] if 1 - SURE < row["share_on_front"] < SURE
    ]
    # What one seed shows is never sure: its luck is in every draw.
    name = "Surely on the front" if n_seeds > 1 else f"On the front in {numbers.percent(SURE)} of draws of items"
    parts = [f"{name}: {', '.join(surely) or 'none'}"]
    parts += [f"cannot be told: {', '.join(open_)}"] if open_ else []
    return f"{about['words'].capitalize()}. {'; '.join(parts)}."


def _table(found: Row, axes: Mapping[str, Row]) -> Table:
    methods = [row["method"] for row in next(iter(axes.values()))["rows"]]
    by_axis = {axis: {row["method"]: row for row in about["rows"]} for axis, about in axes.items()}
    rows = []
    for method in methods:
        cells = [label(method)]
        first = next(iter(by_axis.values()))[method]
        cells.append(amount(first["quality"], numbers.percent))
        for axis in axes:
            row = by_axis[axis][method]
            cells += [amount(row["cost"], partial(numbers.spend, axis=axis)), _sureness(row)]
        rows.append(cells)
    columns = [Column("Method", "method", numeric=False), Column("Mean score", "score")]
    for axis in axes:
        name = numbers.AXIS_NAMES[axis]
        columns += [Column(f"Mean {name}", f"cost_{axis}"), Column(f"On the front of {name}", f"share_on_front_{axis}")]
    text = (
        f"Share of {numbers.count(10_000)} joint draws of every method's mean cost and mean score in which no other method is better for "
        f"no more, a cost within {numbers.percent(found['tolerance'])} counting as equal. With {_random(found['n_seeds'])}; not adjusted "
        f"for looking at several methods. {numbers.count(found['n_seeds'])} seed{'s' if found['n_seeds'] > 1 else ''} × "
        f"{numbers.count(found['n_items'])} items that all methods share."
    )
    return Table("front", text, columns, rows)


def _sureness(row: Row) -> Cell:
    share = row["share_on_front"]
    word, tone = ("on the front", "good") if share >= SURE else ("dominated", "bad") if share <= 1 - SURE else ("open", "")
    return amount(share, numbers.percent, flag=word, tone=tone)
