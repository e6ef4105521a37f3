"""Writing to a terminal what may come from a model or a file: nothing in it is markup or a control sequence."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, NoReturn, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.report.text import visible


class _Lasting:
    """A standard stream whose reader may leave (`| head`, a closed terminal): what is written then is lost, and the writer goes on."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._left = stream, False

    def write(self, text: str) -> int:
        try:
            return len(text) if self._left else int(self._stream.write(text))
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise error
        self._left = True
        with suppress(OSError):  # the stream still holds text, which Python would try to write when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def console(*, stderr: bool = False) -> Console:
    """A terminal writer that never cuts text when the output is no terminal, and goes on when nobody reads it any more."""
    stream = cast("IO[str]", _Lasting(sys.stderr if stderr else sys.stdout))
    real = Console(file=stream, stderr=stderr)
    return real if real.is_terminal else Console(file=stream, stderr=stderr, width=max(160, real.width), soft_wrap=True)


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
    stream = _Lasting(sys.stdout)
    stream.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")
    stream.flush()


def told_damage(run_dir: object, damaged: Mapping[str, str]) -> str:
    """One line for what is wrong with stages of a run (RunResults.damaged, not empty)."""
    first, *others = damaged.values()
    more = f"; {len(others)} more of its stages are damaged as well" if others else ""
    return f"{run_dir} was changed: {first}{more}"


def fail(message: str, exit_code: int) -> NoReturn:
    """Prints one message on standard error and exits."""
    say(console(stderr=True), f"selfteach: {message}", style="bold red" if sys.stderr.isatty() else None)
    sys.exit(exit_code)
