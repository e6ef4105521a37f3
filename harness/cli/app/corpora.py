"""`corpus`: the instructions that methods wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app.options import JsonOption

corpus = typer.Typer(help="Read, measure and export the instructions that methods wrote.", no_args_is_help=True, rich_markup_mode=None)
CorpusArgument = Annotated[
    str, typer.Argument(metavar="RUN_OR_FILE", help="A run's folder, a study's name under results/runs, or a corpus.jsonl.")
]
TrialOption = Annotated[str | None, typer.Option("--trial", help="Which trial of the run, such as selfteach-0.")]


@corpus.command(
    "show",
    epilog="Examples:\n\n  selfteach corpus show quickstart\n\n"
    "  selfteach corpus show quickstart --trial selfteach-0 --operation breadth\n\n"
    "  selfteach corpus show corpus.jsonl --rejected --limit 3",
)
def corpus_show(
    place: CorpusArgument,
    trial: TrialOption = None,
    seed: Annotated[str | None, typer.Option("--seed", help="Only this seed instruction: its id, or the beginning of it.")] = None,
    operation: Annotated[str | None, typer.Option("--operation", help="Only what this operation made, and what led there.")] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Only what was rejected, and what led there.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many seeds. Default: 10; with --json all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how instructions evolved, as trees: operation, verdict, pass rate, reward by component. Without --trial: list the trials."""
    from harness.cli.corpus import corpus_show_command

    corpus_show_command(place, trial=trial, seed=seed, operation=operation, rejected=rejected, limit=limit, as_json=as_json)


@corpus.command(
    "export",
    epilog="Examples:\n\n  selfteach corpus export quickstart --trial selfteach-0 --format sft --out train.jsonl\n\n"
    "  selfteach corpus export corpus.jsonl --format datasets --all --out corpus.parquet",
)
def corpus_export(
    place: CorpusArgument,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    form: Annotated[
        str,
        typer.Option(
            "--format", help="sft ({messages}), prompt-completion: JSON lines as TRL reads them; datasets: whole rows as Parquet."
        ),
    ] = "sft",
    trial: TrialOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Rejected rows too (sft, prompt-completion: those with a response).")] = False,
    verified_by: Annotated[str | None, typer.Option("--verified-by", help="Only responses verified by this: rule or consistency.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the kept instructions with their responses for TRL's SFTTrainer or `datasets`."""
    from harness.cli.corpus import corpus_export_command

    corpus_export_command(place, form=form, out=out, trial=trial, rejected=everything, verified_by=verified_by, as_json=as_json)


@corpus.command(
    "stats",
    epilog="Examples:\n\n  selfteach corpus stats quickstart\n\n  selfteach corpus stats quickstart --against evol_instruct --semantic",
)
def corpus_stats(
    place: CorpusArgument,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Compare with this method: paired over training seeds, texts at equal number and length."),
    ] = None,
    semantic: Annotated[bool, typer.Option("--semantic", help="Vendi score too (embeds the texts; loads torch).")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure corpora by method: what was kept and verified, operations used, diversity of the kept instructions."""
    from harness.cli.corpus_stats import corpus_stats_command

    corpus_stats_command(place, against=against, semantic=semantic, as_json=as_json)
