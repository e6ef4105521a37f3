"""`plan`: what a study will do, cost and be able to see, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from harness.cli.plan_axes import predicted_spend, print_spend, ranking_text
from harness.cli.sweep import planned_sweep, print_planned_sweep
from harness.cli.text import console, print_json, print_table, say
from harness.core.results import RunResults, find_run, load_run
from harness.core.spec import StudySpec, load_study
from harness.core.store import RunStore
from harness.report import numbers
from harness.stats.power import MOST_SEEDS
from harness.study.plan import Plan, Trial
from harness.study.sample_size import ClaimPlan, Costs, as_record, given_costs, plan_claims, study_costs
from harness.verdicts.claims import ClaimFile, find_claims, load_claims
from harness.verdicts.estimands import unit
from harness.verdicts.judge import ESTIMANDS

MOST_ROWS = 100
"""More trials or methods than this are not listed, unless all are asked for."""
MOST_READ = 500
"""Finished trials of the study's own run that are read without being asked for."""


def plan_command(
    path: Path,
    *,
    workers: int | None,
    threads: int | None,
    out: Path | None,
    pilot: str | None,
    seed_cost: float | None,
    item_cost: float | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Prints a study's plan.

    Args:
        pilot: a run whose variances are used for the claims; by default the study's own earlier run, if there is one.
        everything: list every trial, however many.
        seed_cost, item_cost: of one more seed and of one more scored item, instead of predicted times and the study's prices.
    Raises:
        SpecError: a mistake in the study, its claims, the pilot or the costs.
    """
    from harness.study.calibration import against_alone, calibrate, makespan_s, planned_items, predict, stage_items
    from harness.study.display import duration
    from harness.study.place import usable_gpus
    from harness.study.run import RUNS, Layout, make_plan

    study, layout = load_study(path), Layout.of(workers, threads, gpus=len(usable_gpus()))
    plan = make_plan(study, layout)
    run_dir = out or RUNS / study.name
    store = RunStore(run_dir)
    done = plan.stages.keys() & store.all_finished()
    calibration = calibrate(run_dir.parent, layout.threads)
    seconds = predict(study, plan, calibration)
    wall_s = makespan_s(plan, seconds, done, layout.workers)
    training = {
        trial.train_stage: float(plan.stages[trial.train_stage].content["train_flops"]) for trial in plan.trials if not trial.seedless
    }
    files = _claim_files(study, path)
    n_claims = sum(len(file.claims) for file in files)
    small = sum(trial.score_stage in done for trial in plan.trials) <= MOST_READ
    own = load_run(run_dir) if (run_dir / "study.json").exists() and small else None
    earlier = load_run(find_run(pilot)) if pilot else own
    costs = given_costs(seed_cost, item_cost) or study_costs(
        study, plan, seconds, device_hour_usd=_prices(study)["device_hour_usd"], trained_usd=_training_costs(earlier)
    )
    measured = earlier if earlier is not None and len(earlier.samples) else None
    plans = plan_claims(study, files, pilot=measured, pilot_name=pilot or "the last run", costs=costs)
    record: dict[str, Any] = {
        "study": study.name,
        "run_dir": str(run_dir),
        "trials": [_trial(trial, done) | {"trial": trial.id} for trial in plan.trials],
        "tuning": _tuning(study, plan, done),
        "stages": len(plan.stages),
        "stages_finished": len(done),
        "train_flops_per_trial": study.budget.train_flops,
        "train_flops": sum(training.values()),
        "sweep": planned_sweep(study, plan),
        "tune_flops": sum(float(stage.content["train_flops"]) for stage in plan.stages.values() if stage.kind == "tune"),
        "checkpoint_items_per_trial": next((stage_items(study, stage) for stage in plan.stages.values() if stage.kind == "checkpoints"), 0),
        "against_alone": against_alone(plan, seconds),
        "shared_parts": sum(stage.kind == "prepare" for stage in plan.stages.values()),
        "spend": predicted_spend(study, plan, seconds, earlier),
        "ranking_by_axis": ranking_text(earlier, study),
        "items_per_trial": planned_items(study),
        "workers": layout.workers,
        "threads": layout.threads,
        "predicted_wall_s": round(wall_s),
        "calibration": calibration.source,
        "label_prices": _prices(study),
        "label_costs": _label_costs(earlier),
        "alpha_each": {claim.id: file.alpha / n_claims for file in files for claim in file.claims},
        "detectable": [as_record(row, costs) for row in plans],
        "notes": study.notes,
    }
    if as_json:
        print_json(record)
        return
    writer = console()
    say(writer, f"{study.name}: {study.title}" if study.title else study.name)
    kept = any(row["checkpoints"] for row in record["trials"])
    _print_trials(writer, record["trials"], kept, everything)
    print_planned_sweep(writer, record["sweep"])
    _print_tuning(writer, record)
    each = " or ".join(f"{flops:.3g}" for flops in sorted(set(training.values())))
    say(
        writer,
        f"\n{len(plan.stages)} stages, {len(done)} finished. Training: {len(training)} trials x {each} FLOPs = "
        f"{record['train_flops']:.3g} FLOPs (flops-v1). Scoring: {record['items_per_trial']} items a trial, clean and perturbed"
        + (f", and {record['checkpoint_items_per_trial']} along its run" if kept else "")
        + ".\n"
        f"Predicted time: about {duration(wall_s)} with {layout.workers} workers x {layout.threads} threads ({calibration.source}).",
    )
    _print_sharing(writer, record)
    if not small:
        say(writer, f"More than {MOST_READ} trials are finished here; `--pilot {run_dir}` reads them, for variances and label costs.")
    print_spend(writer, record["spend"] if everything else record["spend"][:MOST_ROWS], record["ranking_by_axis"])
    _print_labels(writer, record)
    for note in study.notes:
        say(writer, f"Note: {note}")
    if plans:
        power, alpha = (" or ".join(sorted({f"{value:g}" for value in values})) for values in _levels(files))
        _print_claims(writer, plans, costs, f"power {power} at alpha {alpha}/{n_claims} (Holm's strictest step over {n_claims} claims)")


def _print_trials(writer: Console, trials: list[dict[str, Any]], kept: bool, everything: bool) -> None:
    if not everything and len(trials) > MOST_ROWS:
        say(writer, f"{len(trials)} trials; --all lists them")
        return
    rows = [(row["trial"], row["train"], row["score"], *([row["checkpoints"] or "-"] if kept else [])) for row in trials]
    print_table(writer, "", ("trial", "train", "score", *(["checkpoints"] if kept else [])), rows)


def _print_sharing(writer: Console, record: dict[str, Any]) -> None:
    from harness.study.progress import duration

    spend = record["against_alone"]
    if record["shared_parts"]:
        told = [
            f"{show(spend[name])} in place of {show(spend[f'alone_{name}'])} ({spend[name] / spend[f'alone_{name}']:.0%})"
            for name, show in (("train_flops", lambda flops: f"{flops:.3g}"), ("seconds", duration))
        ]
        say(
            writer,
            f"Shared: {record['shared_parts']} first parts of training are computed once. Each trial is charged its whole budget; "
            f"computed are {told[0]} FLOPs, in about {told[1]} of one worker's time, training and scoring.",
        )


def _trial(trial: Trial, done: set[str]) -> dict[str, str | None]:
    def state(stage: str) -> str:
        return f"{stage} {'finished' if stage in done else 'to do'}"

    checkpoints = state(trial.checkpoint_stage) if trial.checkpoint_stage else None
    return {"train": state(trial.train_stage), "score": state(trial.score_stage), "checkpoints": checkpoints}


def _tuning(study: StudySpec, plan: Plan, done: set[str]) -> list[dict[str, Any]]:
    """Per method the candidates that tuning will try, and how far it is; none where the study does not tune."""
    from harness.study.plan import method_grid

    if study.tune is None:
        return []
    stages = {trial.label: trial.tune_stages for trial in plan.trials if not trial.seedless}
    grids = {method.label: method_grid(study, method) for method in study.methods if method.label in stages}
    return [
        {"method": label, "grid": grids[label], "runs": len(ids), "finished": len(done.intersection(ids))} for label, ids in stages.items()
    ]


def _print_tuning(writer: Console, record: dict[str, Any]) -> None:
    for row in record["tuning"]:
        tried = "; ".join(f"{key}: {', '.join(map(str, values))}" for key, values in row["grid"].items())
        text = f"{row['runs']} runs, {row['finished']} finished; {tried}" if tried else "no grid, keeps its settings"
        say(writer, f"tuning {row['method']}: {text}")
    if record["tuning"]:
        say(writer, f"Tuning: {record['tune_flops']:.3g} FLOPs on account tune, beside the budget.")


def _prices(study: StudySpec) -> dict[str, float]:
    from harness.scoring.cost import Prices

    return Prices(**study.prices).model_dump()


def _label_costs(earlier: RunResults | None) -> list[dict[str, Any]]:
    """Labels and their price per method, as counted in an earlier run; how many a method takes shows only in training."""
    if earlier is None:
        return []
    trials = earlier.trials.dropna(subset=["cost_usd"])
    columns = ["demonstrations", "comparisons", "cost_usd", "human_s"]
    means = trials.groupby("method", sort=False)[columns].mean()
    return [{str(key): value for key, value in row.items()} for row in means.round(2).reset_index().to_dict("records")]


def _training_costs(earlier: RunResults | None) -> dict[str, float]:
    """Mean dollars of one training run of each method, labels included."""
    if earlier is None:
        return {}
    means = earlier.trials.dropna(subset=["cost_usd"]).groupby("method")["cost_usd"].mean()
    return {str(method): float(cost) for method, cost in means.items()}


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
    print_table(writer, "Labels per trial in an earlier run", columns, rows, right=columns[1:])


def _claim_files(study: StudySpec, path: Path) -> list[ClaimFile]:
    return [load_claims(find_claims(name, path.parent)) for name in study.claims]


def _levels(files: list[ClaimFile]) -> tuple[list[float], list[float]]:
    return [file.power for file in files], [file.alpha for file in files]


def _print_claims(writer: Console, plans: list[ClaimPlan], costs: Costs, at: str) -> None:
    columns = ("claim", "primary reading", "claimed", "detectable", "this study", "cheapest enough", f"cost ({costs.unit})", "variances")
    writer.print()
    print_table(writer, f"What this study could find, with {at}", columns, map(_claim_row, plans), right=columns[2:7])
    say(
        writer,
        f"Costs: {costs.seed:.4g} {costs.unit} a training seed, {costs.item:.3g} an item scored for one seed (all methods, all views). "
        "Detectable: smallest true effect that would be told from none (✓: smaller than claimed). Cheapest enough: seeds x items, 3 seeds "
        "or more, that would tell the claimed effect from none; to show an effect beyond the claimed one takes more.",
    )


def _claim_row(plan: ClaimPlan) -> tuple[object, ...]:
    reading, cheapest = plan.reading, plan.cheapest
    found = ESTIMANDS[plan.measure]
    counted_in = unit(reading.estimand)
    what = "–" if plan.detectable is None else numbers.magnitude(plan.detectable, found, counted_in)
    if plan.enough is not None:
        what += " ✓" if plan.enough else " ✗"
    here = f"{plan.n_seeds} x {plan.n_items}" if reading.estimand.scored else f"{plan.n_seeds} seeds"
    if cheapest is None:
        design, cost = ("–" if plan.components is None or plan.sought is None else f"none up to {MOST_SEEDS} seeds"), "–"
    else:
        design = f"{cheapest.n_seeds} x {cheapest.n_items}" if reading.estimand.scored else f"{cheapest.n_seeds} seeds"
        cost = numbers.number(cheapest.cost)
    row = {"threshold": reading.threshold, "margin": reading.margin, "direction": reading.direction}
    claimed_text = numbers.claimed(row | {"estimand": ESTIMANDS[reading.measure], "unit": counted_in})
    return plan.claim.id, reading.text, claimed_text, what, here, design, cost, plan.basis
