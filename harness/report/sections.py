"""What each section of the page is given: formatted nowhere, positioned where a drawing is made in HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from harness.core.journal import Journal
from harness.core.results import RunResults
from harness.report import cards, charts, holistic, numbers, robustness, spending, sweep, views

Row = dict[str, Any]


def context(run: RunResults, methods: Sequence[str], palette: charts.Palette) -> Row:
    """Every value that the templates name, except the sample browser."""
    primary = views.primary_samples(run.study, run.samples)
    board, found = cards.leaderboard(run, primary), views.claims(run.verdicts)
    study = {key: value for key, value in run.study.items() if key not in ("plan", "provenance")}
    name = study.get("name") or "unnamed"
    return (
        {
            "name": name,
            "title": study.get("title") or name,
            "question": study.get("question"),
            "summary": views.summary(found, run.leaderboard),
            "facts": _facts(run),
            "claims": [cards.card(claim) for claim in found],
            "leaderboard": board,
            "failures": [f"{trial.trial_id} ({trial.status})" for trial in run.trials.itertuples() if trial.status != views.FINISHED],
            "trial_count": len(run.trials),
            "notes": views.notes(run.study, run.trials, run.leaderboard, run.verdicts),
            "corpora": _corpora(run),
            "stages": run.trials.to_dict("records"),
            "provenance": run.study.get("provenance") or {},
            "command": lookup(run.study, "command") or f"selfteach run studies/{name}.yaml",
            "spec_json": json.dumps(study, indent=2, ensure_ascii=False, default=str),
        }
        | _scores(run, methods, board, palette)
        | _training(run, primary, palette)
        | spending.context(run)
        | holistic.context(run, methods)
        | sweep.context(run.leaderboard)
    )


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
    suites = samples[["suite", "task", "sample_id"]].drop_duplicates()["suite"]
    judged, validation = int((suites != views.POOL_VALIDATION).sum()), int((suites == views.POOL_VALIDATION).sum())
    facts = [
        ("student", student.get("model") if isinstance(student, Mapping) else student),
        ("device", ", ".join(devices) + (f" ({processor})" if processor else "")),
        ("threads", lookup(study, "threads")),
        ("number format", lookup(study, "precision")),
        ("training seeds", f"{len(seeds)} ({', '.join(map(str, seeds))})" if seeds else None),
        ("items scored", numbers.count(judged) + (f" and {numbers.count(validation)} of the pool's validation" if validation else "")),
        ("budget per trial", _budgets(run) or numbers.flops(lookup(study, "train_flops"))),
        ("last run", _last_run(run.run_dir)),
        (
            "versions",
            ", ".join(f"{package} {version}" for package, version in versions.items()) if isinstance(versions, Mapping) else versions,
        ),
    ]
    return [(name, value) for name, value in facts if value not in (None, "", numbers.MISSING)]


def _budgets(run: RunResults) -> str:
    """The budgets of a sweep that varies them."""
    found = sorted({float(budget) for budget in run.trials["budget_flops"].dropna()}) if len(run.trials) else []
    return ", ".join(map(numbers.flops, found)) if len(found) > 1 else ""


def _last_run(run_dir: Path) -> str | None:
    """When the run's last event was written, UTC."""
    events = Journal(run_dir / "journal.jsonl").events()
    return datetime.fromtimestamp(events[-1]["t"], UTC).strftime("%Y-%m-%d %H:%M UTC") if events else None


def _scores(run: RunResults, methods: Sequence[str], board: Row, palette: charts.Palette) -> Row:
    """Per-seed table, cost-quality chart and robustness."""
    tasks = [task["name"] for task in board["tasks"]]
    shared = set(run.trials.loc[run.trials.duplicated(["method", "score_stage"]), "method"])
    seed_rows = [
        {
            "method": method,
            "seed": "all" if method in shared else seed,
            "macro": scores.get(""),
            "tasks": [scores.get(task) for task in tasks],
        }
        for method in methods
        for seed, scores in sorted(board["by_seed"].get(method, {}).items())
    ]
    return {"seed_rows": seed_rows} | robustness.context(run.leaderboard, palette) | _cost(run, board, palette)


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
    x_label = "training compute" if as_flops else "training cost in dollars (device time, labels, queries)"
    caption = "Large marks: mean over seeds with 95 % interval; faint marks beside them: single seeds. Left and high is better."
    return {
        "cost_chart": charts.cost_quality(points, palette, x_label=x_label, y_label="mean score", as_flops=as_flops),
        "cost_caption": caption,
    }


def _training(run: RunResults, primary: pd.DataFrame, palette: charts.Palette) -> Row:
    """Compute audit, learning curves, pool validation."""
    shares, validation = views.phase_shares(run.ledger), views.pool_validation(primary)
    splits = {row["task"] for row in validation}
    bells = [
        (row["method"] + (f" · {row['task']}" if len(splits) > 1 else ""), row["method"], row["before"], row["after"]) for row in validation
    ]
    spend, curve_charts = views.spend(run.trials, run.ledger), _curve_charts(run.curves, palette)
    return {
        "spend": spend,
        "budget": next((row["budget_flops"] for row in spend), None),
        "phase_chart": charts.phase_shares(shares) if shares else "",
        "curve_charts": curve_charts,
        "validation": validation,
        "validation_chart": charts.dumbbells(bells, palette, x_label="pool validation score", first="before", second="after", name="pool")
        if bells
        else "",
    }


def _curve_charts(curves: pd.DataFrame, palette: charts.Palette) -> list[dict[str, Markup | str]]:
    found: list[dict[str, Markup | str]] = []
    groups = list(curves.groupby("curve", sort=False)) if len(curves) else []
    # Losses and rewards first, those that most methods share before the others.
    groups.sort(key=lambda pair: (not str(pair[0]).endswith(("loss", "reward")), -pair[1]["method"].nunique()))
    for index, (name, group) in enumerate(groups):
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
        found.append(
            {
                "method": method,
                "trials": len(by_trial),
                "made": len(rows),
                "kept": sum(bool(row.get("kept")) for row in rows),
                "operations": operations,
                "reasons": reasons,
                "example_trial": trial_id,
                "examples": views.lineages(corpus),
            }
        )
    return found
