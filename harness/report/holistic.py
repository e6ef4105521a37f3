"""The report's panel of axes beyond accuracy: one row a measure, one column a method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.core.results import RunResults
from harness.report import numbers
from harness.report.table import Cell, Column, Table, amount, words
from harness.stats.student import t_quantile
from harness.verdicts.holistic import CAVEATS, AxisValue, holistic_axes

Row = dict[str, Any]
SPANS = {
    "BBQ ambiguous: bias score": (-1.0, 1.0),
    "BBQ disambiguated: bias score": (-1.0, 1.0),
    "across prompts: compression ratio": (0.0, math.inf),
    "across prompts: Vendi score": (0.0, math.inf),
    "over-confidence: confidence − accuracy": (-1.0, 1.0),
    "Brier score, 0 to 2": (0.0, 2.0),
    "tokens an answer": (0.0, math.inf),
}
"""Values that measures other than shares can have."""


def context(run: RunResults, methods: Sequence[str]) -> Row:
    """What holistic.html.j2 names: rows with a cell for each method, and the caveats of the axes that are there."""
    found = {method: _axes(run, method) for method in methods}
    measures = {(axis.axis, axis.measure): axis for by_seed in found.values() for axes in by_seed for axis in axes}
    rows: list[Row] = [
        {
            "axis": axis.axis,
            "measure": axis.measure,
            "best": axis.better,
            "cells": [_cell([own for axes in found[method] for own in axes if own.measure == axis.measure]) for method in methods],
        }
        for axis in measures.values()
    ]
    order = list(CAVEATS)
    rows.sort(key=lambda row: order.index(row["axis"]))
    return {
        "holistic_table": _table(rows, methods) if rows else None,
        "holistic_caveats": [(name, text) for name, text in CAVEATS.items() if any(row["axis"] == name for row in rows)],
    }


def _table(rows: Sequence[Row], methods: Sequence[str]) -> Table:
    columns = [
        Column("Axis", "axis", numeric=False), Column("Measure", "measure", numeric=False), Column("Best", "best", numeric=False),
        *(Column(method, method, method=True) for method in methods),
    ]  # fmt: skip
    body = [[words(row["axis"]), words(row["measure"]), words(row["best"]), *map(_shown, row["cells"])] for row in rows]
    text = (
        "Mean over training seeds on clean items, with a 95 % interval over seeds and items (of one checkpoint: over items); below it "
        "seeds × items. These numbers are in no score above, and are not tested against one another."
    )
    return Table("holistic", text, columns, body)


def _shown(cell: Row) -> Cell:
    if cell["value"] is None:
        return Cell(numbers.MISSING)
    return amount(cell["value"], numbers.number, interval=cell["interval"], note=f"{cell['n_seeds']} × {numbers.count(cell['n'])}")


def _axes(run: RunResults, method: str) -> list[list[AxisValue]]:
    """The axes of each checkpoint of a method; one that serves every seed counts once."""
    if run.samples.empty:
        return []
    mine = run.trials[(run.trials["method"] == method) & (run.trials["status"] == "finished")].drop_duplicates("score_stage")
    own = run.samples[run.samples["method"] == method]
    return [holistic_axes(own[own["seed"] == seed]) for seed in mine["seed"]]


def _cell(values: Sequence[AxisValue]) -> Row:
    """Mean over checkpoints with an interval over items, and over seeds too where there are several."""
    if not values:
        return {"value": None, "interval": None, "n_seeds": 0, "n": 0}
    mean = float(np.mean([axis.value for axis in values]))
    interval = values[0].interval if len(values) == 1 else _interval(values, mean)
    return {"value": mean, "interval": interval, "n_seeds": len(values), "n": values[0].n}


def _interval(values: Sequence[AxisValue], mean: float) -> tuple[float, float]:
    """Distances over seeds (t) and over items (mean of the checkpoints', which score the same items) as the root of their summed squares.

    Zou & Donner 2008 for a sum of independent parts. Checkpoints that agree are no certainty: they were asked the same few items.
    """
    seeds = float(t_quantile(0.975, len(values) - 1)) * float(np.std([axis.value for axis in values], ddof=1)) / math.sqrt(len(values))
    known = [(axis.value - axis.interval[0], axis.interval[1] - axis.value) for axis in values if axis.interval is not None]
    below, above = np.mean(known, axis=0) if known else (0.0, 0.0)
    low, high = SPANS.get(values[0].measure, (0.0, 1.0))
    return (max(low, mean - math.hypot(seeds, below)), min(high, mean + math.hypot(seeds, above)))
