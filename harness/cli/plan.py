"""`plan`: what a study will do, cost and be able to see, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.cli.text import console, print_json, print_table, say
from harness.core.results import load_run
from harness.core.spec import StudySpec, load_study
from harness.core.store import RunStore
from harness.study.plan import Plan
from harness.verdicts.claims import ClaimFile, Reading, find_claims, load_claims

ASSUMED_COMPONENTS = (0.02**2, 0.45**2, 0.45**2)
"""Variance components (seed, item, residual) of a difference between two methods where no earlier run of the study has measured them:
seeds 2 points apart, and items as discordant as two right-or-wrong scores that agree on about 60 % of items."""


def plan_command(path: Path, *, workers: int | None, out: Path | None, as_json: bool) -> None:
    """Prints a study's plan."""
    from harness.study.calibration import calibrate, makespan_s, planned_items, predict
    from harness.study.display import duration
    from harness.study.run import RUNS, Layout, make_plan

    study, layout = load_study(path), Layout.of(workers)
    plan = make_plan(study, layout)
    run_dir = out or RUNS / study.name
    store = RunStore(run_dir)
    done = {stage for stage in plan.stages if store.finished(stage)}
    calibration = calibrate(run_dir.parent, layout.threads)
    seconds = predict(study, plan, calibration)
    wall_s = makespan_s(plan, seconds, done, layout.workers)
    trained = sum(not trial.seedless for trial in plan.trials)
    record: dict[str, Any] = {
        "study": study.name,
        "run_dir": str(run_dir),
        "trials": [_trial(plan, trial.train_stage, trial.score_stage, done) | {"trial": trial.id} for trial in plan.trials],
        "stages": len(plan.stages),
        "stages_finished": len(done),
        "train_flops_per_trial": study.budget.train_flops,
        "train_flops": study.budget.train_flops * trained,
        "items_per_trial": planned_items(study),
        "workers": layout.workers,
        "threads": layout.threads,
        "predicted_wall_s": round(wall_s),
        "calibration": calibration.source,
        "label_prices": _prices(study),
        "label_costs": _label_costs(run_dir),
        "detectable": _detectable(study, path, run_dir, planned_items(study)),
    }
    if as_json:
        print_json(record)
        return
    writer = console()
    say(writer, f"{study.name}: {study.title}" if study.title else study.name)
    rows = [(row["trial"], row["train"], row["score"]) for row in record["trials"]]
    print_table(writer, "", ("trial", "train", "score"), rows)
    say(
        writer,
        f"\n{len(plan.stages)} stages, {len(done)} finished. Training: {trained} trials x {study.budget.train_flops:.3g} FLOPs = "
        f"{record['train_flops']:.3g} FLOPs (flops-v1). Scoring: {record['items_per_trial']} items a trial, clean and perturbed.\n"
        f"Predicted time: about {duration(wall_s)} with {layout.workers} workers x {layout.threads} threads ({calibration.source}).",
    )
    _print_labels(writer, record)
    _print_detectable(writer, record["detectable"])


def _trial(plan: Plan, train: str, score: str, done: set[str]) -> dict[str, str]:
    def state(stage: str) -> str:
        return f"{stage} {'finished' if stage in done else 'to do'}"

    return {"train": state(train), "score": state(score)}


def _prices(study: StudySpec) -> dict[str, float]:
    from harness.scoring.cost import Prices

    return Prices(**study.prices).model_dump()


def _label_costs(run_dir: Path) -> list[dict[str, Any]]:
    """Labels and their price per method, as counted in an earlier run of the study; how many a method takes shows only in training."""
    if not (run_dir / "study.json").exists():
        return []
    trials = load_run(run_dir).trials.dropna(subset=["cost_usd"])
    columns = ["demonstrations", "comparisons", "cost_usd", "human_s"]
    means = trials.groupby("method", sort=False)[columns].mean()
    return [{str(key): value for key, value in row.items()} for row in means.round(2).reset_index().to_dict("records")]


def _print_labels(writer: Any, record: dict[str, Any]) -> None:
    prices = record["label_prices"]
    say(
        writer,
        f"Prices: {prices['demonstration_usd']:.2f} $ a demonstration, {prices['comparison_usd']:.2f} $ a comparison, "
        f"{prices['device_hour_usd']:.2f} $ a device hour.",
    )
    if not record["label_costs"]:
        say(writer, "Label costs: known after a first run, because how many labels a method takes depends on what its budget buys.")
        return
    rows = [
        (
            row["method"],
            f"{row['demonstrations']:.0f}",
            f"{row['comparisons']:.0f}",
            f"{row['cost_usd']:.2f} $",
            f"{row['human_s'] / 3600:.1f} h",
        )
        for row in record["label_costs"]
    ]
    columns = ("method", "demonstrations", "comparisons", "cost", "human time")
    print_table(writer, "Labels per trial in the last run", columns, rows, right=columns[1:])


def _detectable(study: StudySpec, path: Path, run_dir: Path, items: int) -> list[dict[str, Any]]:
    """Smallest effect of each primary reading that this design would find with the claim file's power."""
    known = {(row["claim_id"], row["reading"]): row for row in load_run(run_dir).verdicts} if (run_dir / "study.json").exists() else {}
    rows = []
    for name in study.claims:
        claims = load_claims(find_claims(name, path.parent))
        for claim in claims.claims:
            reading = next(reading for reading in claim.readings if reading.primary)
            earlier = known.get((claim.id, reading.text))
            if earlier and earlier["mde"]:
                mde, basis = earlier["mde"], "variance measured in the last run"
            else:
                mde, basis = _assumed(study, claims, reading, items)
            about = {"claim": claim.id, "reading": reading.text, "threshold": reading.threshold}
            rows.append({**about, "detectable": mde, "basis": basis})
    return rows


def _assumed(study: StudySpec, claims: ClaimFile, reading: Reading, items: int) -> tuple[float | None, str]:
    from harness.stats.crossed import Components
    from harness.stats.power import mde

    if len(study.seeds) < 2:
        return None, "needs at least 2 seeds"
    if reading.estimand.kind != "score":
        return None, "known after a first run"
    clean = max(1, items // (1 + len(study.perturbations)))
    points = mde(Components(*ASSUMED_COMPONENTS), n_seeds=len(study.seeds), n_items=clean, alpha=claims.alpha, power=claims.power)
    return points, f"absolute difference; assumed SDs: seed {ASSUMED_COMPONENTS[0] ** 0.5:.2f}, item {ASSUMED_COMPONENTS[1] ** 0.5:.2f}"


def _print_detectable(writer: Any, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    cells = [
        (
            row["claim"],
            row["reading"],
            f"{row['threshold']:+.2f}",
            "-" if row["detectable"] is None else f"{row['detectable']:.3f}",
            row["basis"],
        )
        for row in rows
    ]
    columns = ("claim", "primary reading", "claimed", "detectable", "basis")
    print_table(writer, "Smallest detectable effects at this size of study", columns, cells, right=columns[2:4])
