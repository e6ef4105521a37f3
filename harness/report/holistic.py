"""The report's panel of axes beyond accuracy: one row a measure, one column a method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from harness.core.results import RunResults
from harness.verdicts.holistic import CAVEATS, AxisValue, holistic_axes

Row = dict[str, Any]


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
        "holistic_methods": list(methods),
        "holistic_rows": rows,
        "holistic_caveats": [(name, text) for name, text in CAVEATS.items() if any(row["axis"] == name for row in rows)],
    }


def _axes(run: RunResults, method: str) -> list[list[AxisValue]]:
    """The axes of each checkpoint of a method; one that serves every seed counts once."""
    if run.samples.empty:
        return []
    mine = run.trials[(run.trials["method"] == method) & (run.trials["status"] == "finished")].drop_duplicates("score_stage")
    own = run.samples[run.samples["method"] == method]
    return [holistic_axes(own[own["seed"] == seed]) for seed in mine["seed"]]


def _cell(values: Sequence[AxisValue]) -> Row:
    """Mean over checkpoints; its interval is over seeds where there are several, else over items."""
    if not values:
        return {"value": None, "interval": None, "n_seeds": 0, "n": 0}
    numbers_S = np.array([axis.value for axis in values])
    interval = values[0].interval
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1)) * float(numbers_S.std(ddof=1)) / math.sqrt(len(values))
        interval = (float(numbers_S.mean()) - half, float(numbers_S.mean()) + half)
    return {"value": float(numbers_S.mean()), "interval": interval, "n_seeds": len(values), "n": values[0].n}
