"""`leaderboard`: frozen scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app.options import JsonOption

leaderboard = typer.Typer(help="Freeze the scores of runs into a file, show it, reproduce it.", no_args_is_help=True, rich_markup_mode=None)
BoardArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A leaderboard file, such as results/leaderboards/reference_cpu.yaml.")]


@leaderboard.command(
    "build",
    epilog="Examples:\n\n  selfteach leaderboard build results/reference_cpu --out results/leaderboards/reference_cpu.yaml\n\n"
    "  selfteach leaderboard build results/a results/b --out both.yaml --margin 0.03\n\n"
    "What the runs have and the file has not is listed. Exit code 2: no such run, one that is not finished (--partial) or not published "
    "inside the file's repository (--unpublished), nothing ranked in it, or --out exists. 4: a stage is damaged.",
)
def leaderboard_build(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Published runs.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.", dir_okay=False)],
    margin: Annotated[float, typer.Option(help="A new score this close to the frozen one is the same; at most 0.1.")] = 0.05,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Freeze a run that is not finished, as far as it is.")] = False,
    unpublished: Annotated[
        bool,
        typer.Option("--unpublished", help="Freeze a run that others cannot have, for this machine: not published, or elsewhere on it."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Freeze a run's scores: a row for each method and task, with interval, checksums of samples and weights, and provenance."""
    from harness.cli.leaderboard import build_command

    build_command(runs, out=out, margin=margin, force=force, partial=partial, unpublished=unpublished, as_json=as_json)


@leaderboard.command(
    "show",
    epilog="Examples:\n\n  selfteach leaderboard show results/leaderboards/reference_cpu.yaml\n\n"
    "  selfteach leaderboard show results/leaderboards/published.yaml --format markdown",
)
def leaderboard_show(
    board: BoardArgument,
    form: Annotated[str, typer.Option("--format", help="table, markdown, csv or latex.")] = "table",
    as_json: JsonOption = False,
) -> None:
    """Print a frozen leaderboard, best first, with intervals."""
    from harness.cli.leaderboard import show_command

    show_command(board, form=form, as_json=as_json)


@leaderboard.command(
    "reproduce",
    epilog="Examples:\n\n  selfteach leaderboard reproduce results/leaderboards/reference_cpu.yaml\n\n"
    "  selfteach leaderboard reproduce results/leaderboards/reference_cpu.yaml --rows 'sft/*' --train --limit-seeds 1\n\n"
    "  selfteach leaderboard reproduce results/leaderboards/published.yaml --json\n\n"
    "Each row is recomputed from its kept samples, then its students are scored again where their weights are here or can be fetched. "
    "Called again it goes on where it was. docs/leaderboards.md says what the verdicts mean. "
    "Exit code 0: nothing differs (rows may be undecided, or not runnable here). 6: a row differs. 7: no row at all could be checked, "
    "such as where the run's folder is not here. 2: a mistake in the file or an option. "
    "4: no row differs, but a file of a run was changed on which none rests (without --rows).",
)
def leaderboard_reproduce(
    board: BoardArgument,
    rows: Annotated[str | None, typer.Option("--rows", metavar="GLOB", help="Only rows whose id matches, such as 'base/*'.")] = None,
    runs: Annotated[
        Path, typer.Option("--runs", metavar="DIR", help="Where trained students are looked for and trained.", file_okay=False)
    ] = Path("results/runs"),
    train: Annotated[bool, typer.Option("--train", help="Train students again whose weights are not here.")] = False,
    limit_seeds: Annotated[int | None, typer.Option("--limit-seeds", min=1, help="Only the first so many students of each model.")] = None,
    student: Annotated[
        Path | None, typer.Option("--student", metavar="FOLDER", help="The untrained student, where it was a local folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute and re-score a frozen leaderboard; each row is reproduced, differs, is undecided, or cannot run here (and why)."""
    from harness.cli.leaderboard import reproduce_command

    code = reproduce_command(board, rows=rows, runs=runs, train=train, limit_seeds=limit_seeds, student=student, as_json=as_json)
    if code:
        raise typer.Exit(code)
