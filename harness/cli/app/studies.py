"""`run`, `plan`, `status` and `report`: a study from its file to its report."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.app.options import (
    EXIT_CODES,
    JsonOption,
    OutOption,
    RunArgument,
    StudyArgument,
    ThreadsOption,
    WorkersOption,
)

commands = typer.Typer()


@commands.command(
    epilog="Examples:\n\n  selfteach run studies/quickstart.yaml\n\n  selfteach run studies/quickstart.yaml --workers 1 --out /data/q\n\n"
    "  selfteach run studies/quickstart.yaml --report-to tensorboard\n\n"
    "  selfteach run studies/quickstart.yaml --executor ray --address 10.0.0.5:6379 --threads 8 --share s3://bucket/quickstart\n\n"
    "  selfteach run studies/quickstart.yaml --executor slurm --threads 8 --slurm partition=gpu --slurm gres=gpu:1 --slurm time=4:00:00\n\n"
    "docs/executors.md says when to use which. Stopped or killed, it continues with the same command. " + EXIT_CODES
)
def run(
    context: typer.Context,
    study: StudyArgument,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    executor: Annotated[
        str, typer.Option(help="Where stages run: local (processes of this machine), ray, or slurm (from a login node).")
    ] = "local",
    gpus: Annotated[
        str, typer.Option(metavar="IDS", help="GPUs that this machine's workers share: auto, none, or ids such as 0,1.")
    ] = "auto",
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A Ray cluster that runs, or `auto`. Default: one of this machine's own.")
    ] = None,
    share: Annotated[
        str | None, typer.Option(metavar="URI", help="With --address: where stages are copied, if nodes do not see the run's folder.")
    ] = None,
    slurm: Annotated[
        list[str] | None, typer.Option("--slurm", metavar="KEY=VALUE", help="An option of sbatch, such as partition=gpu; may be repeated.")
    ] = None,
    out: OutOption = None,
    report_to: Annotated[
        str,
        typer.Option(
            "--report-to",
            metavar="A,B",
            help="Show training curves in mlflow, tensorboard, trackio or wandb too, or in all that are installed. Changes no result.",
        ),
    ] = "none",
    as_json: JsonOption = False,
) -> None:
    """Train, score, judge and report a study; finished stages are reused."""
    from harness.cli.commands import run_command
    from harness.cli.given import command_line
    from harness.study.place import Place

    place = Place.of(executor, workers=workers, gpus=gpus, address=address, share=share, slurm=slurm or [])
    run_command(
        study,
        workers=workers,
        threads=threads,
        place=place,
        out=out,
        as_json=as_json,
        report_to=report_to,
        command=command_line(context),
    )


@commands.command(
    epilog="Examples:\n\n  selfteach plan studies/quickstart.yaml\n\n  selfteach plan studies/quickstart.yaml --pilot quickstart\n\n"
    "  selfteach plan studies/quickstart.yaml --seed-cost 40 --item-cost 0.01\n\n"
    "Variances come from the pilot, from an earlier run of the study, or from the study's `planning`; docs/claims.md says how."
)
def plan(
    study: StudyArgument,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    out: OutOption = None,
    pilot: Annotated[
        str | None, typer.Option(metavar="RUN", help="Plan the claims with this run's variances. Default: an earlier run of the study.")
    ] = None,
    seed_cost: Annotated[
        float | None, typer.Option("--seed-cost", min=0, help="Cost of one more training seed. Default: predicted time and prices.")
    ] = None,
    item_cost: Annotated[
        float | None, typer.Option("--item-cost", min=0, help="Cost of scoring one more item for one seed, in the same unit.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List every trial, however many.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show trials, compute, predicted time, label costs, detectable effects and the cheapest sufficient design; trains nothing."""
    from harness.core.memory import without_collecting

    with without_collecting():
        from harness.cli.plan import plan_command

        plan_command(
            study,
            workers=workers,
            threads=threads,
            out=out,
            pilot=pilot,
            seed_cost=seed_cost,
            item_cost=item_cost,
            everything=everything,
            as_json=as_json,
        )


@commands.command(epilog="Examples:\n\n  selfteach status quickstart\n\n  selfteach status results/runs/quickstart --json")
def status(
    run: RunArgument,
    everything: Annotated[bool, typer.Option("--all", help="List every trial, however many; many are summed up otherwise.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what of a run is done, running, failed; spend against budget. Works while it runs, from another terminal."""
    from harness.cli.status import status_command

    status_command(run, everything=everything, as_json=as_json)


@commands.command(epilog="Example:\n\n  selfteach report quickstart --open")
def report(
    run: RunArgument,
    open_page: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Judge finished results again and write report.html and the tables; needs no torch."""
    from harness.cli.commands import report_command

    report_command(run, open_page=open_page, as_json=as_json)
