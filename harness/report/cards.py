"""Verdict cards and leaderboard rows with the places of their marks on the little interval drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.core.results import RunResults
from harness.report import numbers, views

Row = dict[str, Any]
_VERDICT_KEYS = (
    "claim_id", "sentence", "source", "reading", "treatment", "comparator", "estimand", "metric_text", "unit", "threshold", "direction",
    "verdict", "why", "effect", "interval", "level", "p_value", "p_holm", "p_bh", "p_threshold", "p_threshold_holm", "binding_comparator",
    "n_seeds", "n_items", "n_dropped", "mde", "needed", "components", "baseline_value", "treatment_value", "rationale", "note", "evidence",
    "evidence_sha256", "margin",
    "undefined_in_source", "bound", "primary", "censoring",
)  # fmt: skip
_ROW_KEYS = (
    "value", "interval", "n_seeds", "n_items", "rank", "rank_interval", "tied_with_best", "train_flops", "wall_s", "cost_usd",
    "demonstrations", "comparisons",
)  # fmt: skip


class Scale:
    """Places numbers on a track as percentages of its width, with a margin at both ends."""

    def __init__(self, values: Sequence[Any]) -> None:
        known = [float(value) for value in values if not numbers.absent(value)] or [0.0, 1.0]
        margin = 0.06 * (max(known) - min(known)) or 0.05
        self.low, self.high = min(known) - margin, max(known) + margin

    def at(self, value: Any) -> float | None:
        """Where `value` stands, in percent of the width."""
        return None if numbers.absent(value) else round(100 * (float(value) - self.low) / (self.high - self.low), 2)

    def drawing(self, value: Any, interval: Sequence[Any] | None, lines: Mapping[str, Any], seeds: Sequence[float] = ()) -> Row:
        """Places of a value, its interval (an open end reaches the edge), named lines and single seeds."""
        ends = [self.at(bound) for bound in interval or ()]
        known = len(ends) == 2
        left, right = ((0.0 if ends[0] is None else ends[0], 100.0 if ends[1] is None else ends[1])) if known else (0.0, 0.0)
        marks = [{"kind": kind, "at": self.at(place)} for kind, place in lines.items() if not numbers.absent(place)]
        bar = (left, round(right - left, 2)) if known else None
        return {"at": self.at(value), "range": bar, "lines": marks, "seeds": [self.at(seed) for seed in seeds]}


def _complete(verdict: Row) -> Row:
    whole: Row = dict.fromkeys(_VERDICT_KEYS) | verdict
    return whole | {
        "estimand": str(whole["estimand"] or "difference"),
        "unit": str(whole["unit"] or "share"),
        "verdict": str(whole["verdict"]),
    }


def card(claim: views.Claim) -> Row:
    """A claim with every key of its readings present, and the drawing of its primary effect."""
    primary, others = _complete(claim.primary), [_complete(other) for other in claim.others]
    drawing = None
    if not numbers.absent(primary["effect"]):
        zero = 1.0 if "ratio" in primary["estimand"] else 0.0
        lines = {"null": zero, "threshold": primary["threshold"]}
        scale = Scale([zero, primary["threshold"], primary["effect"], *(primary["interval"] or ())])
        drawing = scale.drawing(primary["effect"], primary["interval"], lines)
    return {"primary": primary, "others": others, "drawing": drawing}


def _own_seeds(run: RunResults, by_seed: dict[str, dict[int, dict[str, float]]]) -> dict[str, dict[int, dict[str, float]]]:
    """One entry for each checkpoint: a method without randomness was scored once, whatever the number of seeds."""
    own = views.distinct(run.trials, "score_stage")
    kept = set(zip(own["method"], own["seed"], strict=True))
    return {method: {seed: scores for seed, scores in seeds.items() if (method, seed) in kept} for method, seeds in by_seed.items()}


def leaderboard(run: RunResults, primary: pd.DataFrame) -> Row:
    """Rows with drawings, per-task cells, and each seed's scores; `primary`: see `views.primary_samples`."""
    board = run.leaderboard
    rows = [dict.fromkeys(_ROW_KEYS) | row for row in board.get("rows") or []]
    tasks = list(dict.fromkeys(task for row in rows for task in row.get("per_task") or {}))
    by_seed = _own_seeds(run, views.seed_scores(primary, tasks))
    macros = {method: [scores[""] for scores in seeds.values() if "" in scores] for method, seeds in by_seed.items()}
    scale = Scale([value for row in rows for value in (row["value"], *(row["interval"] or ()), *macros.get(row["method"], ()))])
    for row in rows:
        first, last = row["rank_interval"] or (row["rank"], row["rank"])
        row["rank_text"] = f"[{numbers.count(first)}–{numbers.count(last)}]" if first != last else ""
        row["drawing"] = scale.drawing(row["value"], row["interval"], {}, macros.get(row["method"], ()))
    task_rows = []
    for task in tasks:
        cells = [(row.get("per_task") or {}).get(task) for row in rows]
        chance = next((cell.get("chance") for cell in cells if cell), None)
        filled = [cell and dict.fromkeys(("value", "interval", "n", "n_total", "at_chance")) | cell for cell in cells]
        task_rows.append({"name": task, "chance": chance, "cells": filled})
    return {
        "metric_text": board.get("metric_text") or "Mean of the tasks", "rows": rows, "tasks": task_rows,
        "matched": bool(board.get("matched")), "spread": board.get("match_spread"),
        "low": scale.low, "high": scale.high, "by_seed": by_seed,
    }  # fmt: skip
