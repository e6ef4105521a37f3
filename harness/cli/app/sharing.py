"""`export` and `publish`: a student, or a whole run, for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app.options import JsonOption, RunArgument

commands = typer.Typer()


@commands.command(
    epilog="Examples:\n\n  selfteach export quickstart selfteach-0 --out my-student\n\n"
    "  selfteach export results/runs/quickstart sft-1 --out sft-1 --dtype bfloat16\n\n"
    "  selfteach export quickstart --all --out students"
)
def export(
    run: RunArgument,
    trial: Annotated[str | None, typer.Argument(metavar="[TRIAL]", help="Which trial of the run, such as selfteach-0.")] = None,
    *,
    out: Annotated[Path, typer.Option("--out", help="The folder to make; it must not exist yet.")],
    everything: Annotated[bool, typer.Option("--all", help="Every student that was trained, each in a folder of its own in OUT.")] = False,
    dtype: Annotated[str, typer.Option(help="Type of the weights: float32, bfloat16 or float16.")] = "float32",
    as_json: JsonOption = False,
) -> None:
    """Write a trained student, adapters merged, as a folder that transformers and vLLM load, with a model card."""
    from harness.cli.export import export_command

    export_command(run, trial=trial, out=out, dtype=dtype, everything=everything, as_json=as_json)


@commands.command(
    epilog="Examples:\n\n  selfteach publish quickstart --out results/quickstart\n\n"
    "  selfteach publish results/runs/mine --out results/mine --partial\n\n"
    "docs/leaderboards.md says what is left out, and by which rule paths and names are removed. Exit code 2: no such run, --out exists, "
    "or the run is not finished. 4: a stage is damaged, or a file would still say where the run was made."
)
def publish(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", help="The folder to make; it must not exist yet.")],
    partial: Annotated[bool, typer.Option("--partial", help="Publish a run that is not finished, as far as it is.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a finished run without weights into a folder fit for git, which report, verify, compare and leaderboard read."""
    from harness.cli.publish import publish_command

    publish_command(run, out=out, partial=partial, as_json=as_json)
