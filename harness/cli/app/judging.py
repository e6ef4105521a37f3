"""`verify` and `compare`: what finished results say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app.options import JsonOption, RunArgument

commands = typer.Typer()


@commands.command(
    epilog="Examples:\n\n  selfteach verify quickstart\n\n"
    "  selfteach verify quickstart --claims teams_rl_2024 --claim policy_beats_random\n\n"
    "  selfteach verify results/runs/quickstart --claims my_claims.yaml --json\n\n"
    "docs/claims.md says how to write a claim file. Exit code 0: judged, whatever the verdicts. 2: no such run, claim file or claim, "
    "a mistake in a claim file, or nothing is scored yet. 4: a file of the run is damaged or was changed "
    "(with --claim: one that these claims rest on); claims that do not rest on it are judged all the same."
)
def verify(
    run: RunArgument,
    claims: Annotated[
        list[str] | None,
        typer.Option(
            "--claims", metavar="FILE", help="A claim file, or the name of a shipped one; may be repeated. Default: the run's own."
        ),
    ] = None,
    claim: Annotated[list[str] | None, typer.Option("--claim", metavar="ID", help="Show only this claim; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge claims on a finished run, with effect, interval, power and checksummed evidence; runs and writes nothing, needs no torch."""
    from harness.cli.verify import verify_command

    verify_command(run, claims=claims or [], only=claim or [], as_json=as_json)


@commands.command(
    epilog="Examples:\n\n  selfteach compare out/model-a out/model-b\n\n  selfteach compare a.eval b.eval --cluster passage\n\n"
    "  selfteach compare scores.csv --models base,tuned --margin 0.02\n\n"
    "  selfteach compare new=s1.csv new=s2.csv new=s3.csv old=o1.csv old=o2.csv old=o3.csv\n\n"
    "  selfteach compare results/runs/quickstart --html compare.html\n\n"
    "A log given as NAME=PATH is of model NAME; several with one NAME are its checkpoints. docs/compare.md says what is computed. "
    "Exit code 2: a log or option is wrong, or the logs do not match."
)
def compare(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]LOG...",
            help="Per-sample logs: lm-eval samples_*.jsonl (or its folder), Inspect .eval or .json, HELM per_instance_stats.json, a run's "
            "folder, or CSV, JSONL or Parquet with columns item, score [model, seed, task, metric, cluster].",
        ),
    ],
    models: Annotated[str | None, typer.Option(metavar="A,B", help="Only these models, in this order.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric; may be repeated.")] = None,
    by: Annotated[str | None, typer.Option(metavar="FIELD", help="A column, document or metadata field whose values are tasks.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="FIELD", help="A column or field that groups items (passage, template).")] = None,
    perturbation: Annotated[str, typer.Option(help="Which version of the items to compare, where a log has several.")] = "clean",
    item_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="A table's column of item ids.")] = None,
    score_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="A table's column of scores.")] = None,
    model_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="A table's column of models.")] = None,
    seed_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="A table's column of checkpoints (training seeds).")] = None,
    lower_is_better: Annotated[list[str] | None, typer.Option(metavar="METRIC", help="Less is better; may be repeated.")] = None,
    alpha: Annotated[float, typer.Option(help="Level of the tests; intervals have 1 - alpha.")] = 0.05,
    margin: Annotated[float | None, typer.Option(help="Differences within this count as equal (on the scores' scale).")] = None,
    intersect: Annotated[bool, typer.Option("--intersect", help="Accept logs whose items differ: compare the common ones.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a self-contained page.")] = None,
    latex: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a LaTeX table (booktabs).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether one model is really better than another, from their per-sample logs of any harness; needs no torch."""
    from harness.cli.compare import compare_command
    from harness.compare.cells import ReadOptions

    compare_command(
        logs,
        options=ReadOptions(
            item=item_column, score=score_column, model=model_column, seed=seed_column, task=by, cluster=cluster, perturbation=perturbation
        ),
        models=None if models is None else [name.strip() for name in models.split(",")],
        metrics=metric or [],
        lower=lower_is_better or [],
        alpha=alpha,
        margin=margin,
        intersect=intersect,
        html=html,
        latex=latex,
        as_json=as_json,
    )
