"""Writing to a terminal what may come from a model or a file: nothing in it is markup or a control sequence."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.report.text import visible


def console(*, stderr: bool = False) -> Console:
    """A terminal writer that never cuts text when the output is no terminal."""
    real = Console(stderr=stderr)
    return real if real.is_terminal else Console(stderr=stderr, width=max(160, real.width), soft_wrap=True)


def say(writer: Console, text: object, style: str | None = None) -> None:
    """Prints one line or paragraph as it is."""
    writer.print(escape(visible(text)), style=style, highlight=False, soft_wrap=True)


def print_table(
    writer: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()
) -> None:
    """Prints a table; columns named in `right` are right-aligned."""
    table = Table(title=Text(visible(title)) if title else None, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    writer.print(table)


def print_json(value: Any) -> None:
    """Prints indented JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def fail(message: str, exit_code: int) -> NoReturn:
    """Prints one message on standard error and exits."""
    say(console(stderr=True), f"selfteach: {message}", style="bold red" if sys.stderr.isatty() else None)
    sys.exit(exit_code)
