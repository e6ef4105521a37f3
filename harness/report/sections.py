"""What each section of the page is given: formatted nowhere, positioned where a drawing is made in HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from harness.core.results import RunResults
from harness.report import charts, numbers, views

Row = dict[str, Any]
_VERDICT_KEYS = (
    "claim_id", "sentence", "source", "reading", "treatment", "comparator", "estimand", "metric_text", "threshold", "direction", "verdict", "why",
    "effect", "interval", "level", "p_value", "p_holm", "n_seeds", "n_items", "mde", "needed", "components", "baseline_value", "treatment_value",
    "evidence", "undefined_in_source",
)  # fmt: skip
_ROW_KEYS = (
    "value", "interval", "n_seeds", "n_items", "rank", "rank_interval", "tied_with_best", "train_flops", "wall_s", "cost_usd", "demonstrations",
    "comparisons",
)  # fmt: skip


def context(run: RunResults, methods: Sequence[str], palette: charts.Palette) -> Row:
    """Every value that the templates name, except the sample browser."""
    board, found = _leaderboard(run), views.claims(run.verdicts)
    study = {key: value for key, value in run.study.items() if key not in ("plan", "provenance")}
    name = study.get("name") or "unnamed"
    return (
        {
            "name": name, "title": study.get("title") or name, "question": study.get("question"), "summary": views.summary(found, run.leaderboard),
            "facts": _facts(run), "claims": [_card(claim) for claim in found], "leaderboard": board,
            "failures": [f"{trial.trial_id} ({trial.status})" for trial in run.trials.itertuples() if trial.status != views.FINISHED],
            "trial_count": len(run.trials), "notes": views.notes(run.study, run.trials, run.leaderboard, run.verdicts),
            "corpora": _corpora(run), "stages": run.trials.to_dict("records"), "provenance": run.study.get("provenance") or {},
            "command": f"selfteach run {lookup(run.study, 'study_file') or f'studies/{name}.yaml'}",
            "spec_json": json.dumps(study, indent=2, ensure_ascii=False, default=str),
        }
        | _scores(run, methods, board, palette)
        | _training(run, palette)
    )  # fmt: skip


def lookup(value: Any, *names: str) -> Any:
    """The first entry called one of `names` anywhere in nested mappings, outer ones first; None if there is none."""
    if not isinstance(value, Mapping):
        return None
    for name in names:
        if value.get(name) not in (None, "", {}):
            return value[name]
    found = (lookup(inner, *names) for inner in value.values())
    return next((inner for inner in found if inner is not None), None)


def _facts(run: RunResults) -> list[tuple[str, Any]]:
    study, samples = run.study, run.samples
    devices = [str(device) for device in run.trials["device"].dropna().unique()] if len(run.trials) else []
    processor, student = lookup(study, "processor"), study.get("student")
    seeds = sorted({int(seed) for seed in run.trials["seed"]}) if len(run.trials) else []
    versions = lookup(study, "versions") or {}
    items = len(samples[["suite", "task", "sample_id"]].drop_duplicates()) if len(samples) else 0
    facts = [
        ("student", student.get("model") if isinstance(student, Mapping) else student),
        ("device", ", ".join(devices) + (f" ({processor})" if processor else "")),
        ("threads", lookup(study, "threads")),
        ("number format", lookup(study, "precision")),
        ("training seeds", f"{len(seeds)} ({', '.join(map(str, seeds))})" if seeds else None),
        ("items scored", numbers.count(items)),
        ("budget per trial", numbers.flops(lookup(study, "train_flops"))),
        ("date", lookup(study, "date", "started", "created", "finished")),
        ("versions", ", ".join(f"{package} {version}" for package, version in versions.items()) if isinstance(versions, Mapping) else versions),
    ]
    return [(name, value) for name, value in facts if value not in (None, "", numbers.MISSING)]


class _Scale:
    """Places numbers on a track as percentages of its width, with a margin at both ends."""

    def __init__(self, values: Sequence[Any]) -> None:
        known = [float(value) for value in values if not numbers.absent(value)] or [0.0, 1.0]
        margin = 0.06 * (max(known) - min(known)) or 0.05
        self.low, self.high = min(known) - margin, max(known) + margin

    def at(self, value: Any) -> float | None:
        return None if numbers.absent(value) else round(100 * (float(value) - self.low) / (self.high - self.low), 2)

    def drawing(self, value: Any, interval: Sequence[Any] | None, lines: Mapping[str, Any], seeds: Sequence[float] = ()) -> Row:
        ends = [self.at(bound) for bound in interval or ()]
        known = len(ends) == 2
        left, right = ((0.0 if ends[0] is None else ends[0], 100.0 if ends[1] is None else ends[1])) if known else (0.0, 0.0)
        marks = [{"kind": kind, "at": self.at(place)} for kind, place in lines.items() if not numbers.absent(place)]
        return {"at": self.at(value), "range": (left, round(right - left, 2)) if known else None, "lines": marks, "seeds": [self.at(seed) for seed in seeds]}


def _card(claim: views.Claim) -> Row:
    primary = dict.fromkeys(_VERDICT_KEYS) | claim.primary
    primary["estimand"], primary["verdict"] = str(primary["estimand"] or "difference"), str(primary["verdict"])
    others = [dict.fromkeys(_VERDICT_KEYS) | other | {"estimand": str(other.get("estimand") or "difference")} for other in claim.others]
    drawing = None
    if not numbers.absent(primary["effect"]):
        zero = 1.0 if "ratio" in primary["estimand"] else 0.0
        lines = {"null": zero, "threshold": primary["threshold"]}
        drawing = _Scale([zero, primary["threshold"], primary["effect"], *(primary["interval"] or ())]).drawing(primary["effect"], primary["interval"], lines)
    return {"primary": primary, "others": others, "drawing": drawing}


def _leaderboard(run: RunResults) -> Row:
    board = run.leaderboard
    rows = [dict.fromkeys(_ROW_KEYS) | row for row in board.get("rows") or []]
    tasks = list(dict.fromkeys(task for row in rows for task in row.get("per_task") or {}))
    by_seed = views.seed_scores(run.samples, tasks)
    macros = {method: [scores[""] for scores in seeds.values() if "" in scores] for method, seeds in by_seed.items()}
    scale = _Scale([value for row in rows for value in (row["value"], *(row["interval"] or ()), *macros.get(row["method"], ()))])
    for row in rows:
        first, last = row["rank_interval"] or (row["rank"], row["rank"])
        row["rank_text"] = f"[{numbers.count(first)}–{numbers.count(last)}]" if first != last else ""
        row["drawing"] = scale.drawing(row["value"], row["interval"], {}, macros.get(row["method"], ()))
    task_rows = []
    for task in tasks:
        cells = [(row.get("per_task") or {}).get(task) for row in rows]
        chance = next((cell.get("chance") for cell in cells if cell), None)
        task_rows.append({"name": task, "chance": chance, "cells": [cell and {"value": None, "interval": None, "n": None} | cell for cell in cells]})
    return {
        "metric_text": board.get("metric_text") or "Mean of the tasks", "rows": rows, "tasks": task_rows, "matched": bool(board.get("matched")),
        "spread": board.get("match_spread"), "low": scale.low, "high": scale.high, "by_seed": by_seed,
    }  # fmt: skip


def _scores(run: RunResults, methods: Sequence[str], board: Row, palette: charts.Palette) -> Row:
    """Per-seed table, cost-quality chart and robustness."""
    tasks = [task["name"] for task in board["tasks"]]
    seed_rows = [
        {"method": method, "seed": seed, "macro": scores.get(""), "tasks": [scores.get(task) for task in tasks]}
        for method in methods
        for seed, scores in sorted(board["by_seed"].get(method, {}).items())
    ]
    drops = views.robustness(run.leaderboard)
    complete = [row for row in drops if not numbers.absent(row.get("clean")) and not numbers.absent(row.get("value"))]
    bells = [(f"{row['method']} · {row['perturbation']}", row["method"], row["clean"], row["value"]) for row in complete]
    chart = charts.dumbbells(bells, palette, x_label="mean score", first="clean", second="perturbed", name="robustness") if bells else ""
    return {"seed_rows": seed_rows, "robustness": drops, "robustness_chart": chart, "base_repeated": _base_repeated(run)} | _cost(run, board, palette)


def _base_repeated(run: RunResults) -> bool:
    trials = run.trials
    return bool(len(trials) and (trials.groupby("method")["score_stage"].nunique() < trials.groupby("method")["seed"].nunique()).any())


def _cost(run: RunResults, board: Row, palette: charts.Palette) -> Row:
    as_flops = all(not row["cost_usd"] for row in board["rows"])
    column = "train_flops" if as_flops else "cost_usd"
    costs = {(trial["method"], trial["seed"]): trial[column] for trial in run.trials.to_dict("records")}
    points = []
    for row in board["rows"]:
        if numbers.absent(row[column]) or numbers.absent(row["value"]):
            continue
        seeds = [
            (float(costs[row["method"], seed]), scores[""])
            for seed, scores in board["by_seed"].get(row["method"], {}).items()
            if "" in scores and not numbers.absent(costs.get((row["method"], seed)))
        ]
        points.append(charts.Point(row["method"], float(row[column]), float(row["value"]), row["interval"], seeds))
    if not points:
        return {"cost_chart": "", "cost_caption": ""}
    x_label = "training compute (FLOP)" if as_flops else "training cost in dollars (device time, labels, queries)"
    caption = "Large marks: mean over seeds with 95 % interval; faint marks: single seeds. Left and high is better."
    return {"cost_chart": charts.cost_quality(points, palette, x_label=x_label, y_label="mean score", as_flops=as_flops), "cost_caption": caption}


def _training(run: RunResults, palette: charts.Palette) -> Row:
    """Compute audit, learning curves, pool validation."""
    shares, validation = views.phase_shares(run.ledger), views.pool_validation(run.samples)
    for row in validation:
        row["mean_change"] = float(np.mean(row["changes"]))
    splits = {row["task"] for row in validation}
    bells = [(row["method"] + (f" · {row['task']}" if len(splits) > 1 else ""), row["method"], row["before"], row["after"]) for row in validation]
    spend, curve_charts = views.spend(run.trials, run.ledger), _curve_charts(run.curves, palette)
    return {
        "spend": spend, "budget": next((row["budget_flops"] for row in spend), None), "phase_chart": charts.phase_shares(shares) if shares else "",
        "curve_charts": curve_charts, "validation": validation,
        "validation_chart": charts.dumbbells(bells, palette, x_label="pool validation score", first="before", second="after", name="pool") if bells else "",
    }  # fmt: skip


def _curve_charts(curves: pd.DataFrame, palette: charts.Palette) -> list[dict[str, Markup | str]]:
    found: list[dict[str, Markup | str]] = []
    for index, (name, group) in enumerate(curves.groupby("curve", sort=False) if len(curves) else ()):
        lines = [
            charts.Curve(str(method), own["train_flops"].to_numpy(float), own["value"].to_numpy(float))
            for (method, _), own in group.sort_values("train_flops").groupby(["method", "seed"], sort=False)
        ]
        lines = [line for line in lines if np.isfinite(line.value).all()]
        if lines:
            caption = f"{name}: {len(lines)} trial{'s' if len(lines) > 1 else ''}, {numbers.count(len(group))} observations."
            found.append({"svg": charts.learning_curves(str(name), lines, palette, index), "caption": caption})
    return found


def _corpora(run: RunResults) -> list[Row]:
    methods = dict(zip(run.trials["trial_id"], run.trials["method"], strict=True)) if len(run.trials) else {}
    grouped: dict[str, dict[str, list[Row]]] = {}
    for trial_id, corpus in run.corpora.items():
        if corpus:
            grouped.setdefault(str(methods.get(trial_id, trial_id)), {})[trial_id] = corpus
    found = []
    for method, by_trial in grouped.items():
        rows = [row for corpus in by_trial.values() for row in corpus]
        operations, reasons = views.corpus_counts(rows)
        trial_id, corpus = next(iter(by_trial.items()))
        found.append({
            "method": method, "trials": len(by_trial), "made": len(rows), "kept": sum(bool(row.get("kept")) for row in rows),
            "operations": operations, "reasons": reasons, "example_trial": trial_id, "examples": views.lineages(corpus),
        })  # fmt: skip
    return found
