"""What each section of the page is given: formatted nowhere, positioned where a drawing is made in HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.core.blocks import blocks
from harness.core.journal import Journal
from harness.core.results import RunResults
from harness.report import boards, cards, charts, curves, front, holistic, numbers, robustness, spending, sweep, views
from harness.report.table import Table

Row = dict[str, Any]
OF_ONE_BLOCK = ("leaderboard", "tasks", "robustness", "robustness_pairs", "front", "tracks", "axes", "equal_quality", "folds")
"""Tables that compare methods: in a sweep over budgets or students they hold the runs at the study's own."""


def context(run: RunResults, methods: Sequence[str], palette: charts.Palette) -> Row:
    """Every value that the templates name, except the sample browser."""
    primary = views.primary_samples(run.study, run.samples)
    board, found = cards.leaderboard(run, primary), views.claims(run.verdicts)
    study = {key: value for key, value in run.study.items() if key not in ("plan", "provenance")}
    name = study.get("name") or "unnamed"
    claims = [cards.card(claim) for claim in found]
    readings = [reading for claim in claims for reading in (claim["primary"], *claim["others"])]
    whole = (
        {
            "name": name,
            "title": study.get("title") or name,
            "question": study.get("question"),
            "summary": views.summary(found, run.leaderboard),
            "facts": _facts(run),
            "claims": claims,
            "readings_table": boards.readings_table(readings) if readings else None,
            "leaderboard": board,
            "failures": [f"{trial.trial_id} ({trial.status})" for trial in run.trials.itertuples() if trial.status != views.FINISHED],
            "trial_count": len(run.trials),
            "notes": views.notes(run.study, run.trials, run.leaderboard, run.verdicts),
        }
        | _scores(run, methods, board, palette)
        | spending.context(run)
        | curves.context(run, primary, palette)
        | {
            "phase_chart": _phase_chart(run),
            "corpora": _corpora(run),
            "stages_table": boards.stages_table(run.trials.to_dict("records")) if len(run.trials) else None,
            "provenance": run.study.get("provenance") or {},
            "command": lookup(run.study, "command") or f"selfteach run studies/{name}.yaml",
            "spec_json": json.dumps(study, indent=2, ensure_ascii=False, default=str),
        }
        | holistic.context(run, methods)
        | sweep.context(run.leaderboard)
    )
    found_basis, covered = basis(run), coverage(run.study)
    return {key: with_basis(value, found_basis, covered) for key, value in whole.items()} | {"basis": found_basis}


def _phase_chart(run: RunResults) -> Markup | str:
    shares = views.phase_shares(run.ledger)
    return charts.phase_shares(shares) if shares else ""


def basis(run: RunResults) -> str:
    """What every number of a run rests on, in one line: study, seeds, device, number format, convention of compute, commit."""
    seeds = sorted({int(seed) for seed in run.trials["seed"]}) if len(run.trials) else []
    devices = sorted({str(device) for device in run.trials["device"].dropna().unique()}) if len(run.trials) else []
    threads, commit = lookup(run.study, "threads"), lookup(run.study, "commit")
    parts = [
        f"study {run.study.get('name') or 'unnamed'}",
        f"{len(seeds)} training seed{'' if len(seeds) == 1 else 's'} ({', '.join(map(str, seeds))})" if seeds else "",
        ", ".join(devices) + (f", {threads} thread{'' if threads == 1 else 's'} a worker" if threads else "") if devices else "",
        str(lookup(run.study, "precision") or ""),
        "compute by flops-v1",
        f"commit {str(commit)[:10]}" if commit else "",
    ]
    return "Basis: " + " · ".join(filter(None, parts)) + "."


def coverage(study: Mapping[str, Any]) -> str:
    """Which runs of a sweep over budgets or students the tables of one block cover; nothing where there is one block only."""
    own, *others = blocks(study)
    names = "; ".join(block.name for block in others)
    return f"Covers the runs at {own.name} alone, the study's own; not those at {names}." if names else ""


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
    """Leaderboard, tasks, seeds, cost and quality, robustness."""
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
    rows = board["rows"]
    drawings = {row["method"]: row["drawing"] for row in rows}
    ends = (numbers.percent(board["low"]), numbers.percent(board["high"]))
    return (
        {
            "leaderboard_table": boards.leaderboard_table(run.leaderboard, drawings=drawings, ends=ends) if rows else None,
            "task_table": boards.task_table(board["tasks"], [row["method"] for row in rows]) if board["tasks"] else None,
            "seed_table": boards.seed_table(seed_rows, tasks) if seed_rows else None,
        }
        | front.context(run, board["by_seed"], palette)
        | robustness.context(run.leaderboard, palette)
    )


def _corpora(run: RunResults) -> list[Row]:
    methods = dict(zip(run.trials["trial_id"], run.trials["method"], strict=True)) if len(run.trials) else {}
    grouped: dict[str, dict[str, list[Row]]] = {}
    for trial_id, corpus in run.corpora.items():
        if corpus:
            grouped.setdefault(str(methods.get(trial_id, trial_id)), {})[trial_id] = corpus
    found = []
    for index, (method, by_trial) in enumerate(grouped.items()):
        rows = [row for corpus in by_trial.values() for row in corpus]
        operations, reasons = views.corpus_counts(rows)
        trial_id, corpus = next(iter(by_trial.items()))
        found.append(
            {
                "method": method,
                "trials": len(by_trial),
                "made": len(rows),
                "kept": sum(bool(row.get("kept")) for row in rows),
                "operations": boards.operations_table(method, operations, index),
                "reasons": boards.reasons_table(method, reasons, index) if reasons else None,
                "example_trial": trial_id,
                "examples": views.lineages(corpus),
            }
        )
    return found


def tables(context: Mapping[str, Any]) -> list[Table]:
    """Every table of the page, in the order of the context."""
    found: list[Table] = []
    for value in context.values():
        if isinstance(value, Table):
            found.append(value)
        for entry in value if isinstance(value, list) else [value]:
            found += tables(entry) if isinstance(entry, Mapping) else []
    return found


def with_basis(value: Any, basis: str, covered: str = "") -> Any:
    """`value` with what the numbers rest on written into every table in it, and `covered` into the captions of tables of one block."""
    if isinstance(value, Table):
        caption = f"{value.caption} {covered}" if covered and value.name in OF_ONE_BLOCK else value.caption
        return replace(value, caption=caption, basis=basis)
    if isinstance(value, dict):
        return {key: with_basis(inner, basis, covered) for key, inner in value.items()}
    return [with_basis(inner, basis, covered) for inner in value] if isinstance(value, list) else value
