"""`plan`: what a study will do, cost and be able to see, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.cli.plan_axes import predicted_spend, print_spend, ranking_text
from harness.cli.sweep import planned_sweep, print_planned_sweep
from harness.cli.text import console, print_json, print_table, say
from harness.core.spec import StudySpec, load_study
from harness.core.store import RunStore, find_run
from harness.study.plan import Plan, Trial

if TYPE_CHECKING:
    from harness.core.results import RunResults

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
    from harness.study.gpus import usable_gpus
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
    small = sum(trial.score_stage in done for trial in plan.trials) <= MOST_READ
    earlier = None
    if pilot or ((run_dir / "study.json").exists() and small):
        from harness.core.results import load_run

        earlier = load_run(find_run(pilot) if pilot else run_dir)
    claims = None
    if study.claims or seed_cost is not None or item_cost is not None:
        from harness.cli.plan_claims import planned_claims

        claims = planned_claims(study, path, plan, seconds, given=(seed_cost, item_cost), earlier=earlier, pilot=pilot)
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
        "alpha_each": claims.alpha_each() if claims else {},
        "detectable": claims.records() if claims else [],
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
    if claims:
        claims.print(writer)


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
