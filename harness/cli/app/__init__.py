"""The command line: what each command is called, takes and prints, by topic. Heavy imports happen inside the commands.

EXIT_CODES (options.py) says what an exit code means; harness.errors assigns them.
"""

from __future__ import annotations

import errno
import sys
import warnings
from typing import NoReturn

import typer

from harness.cli.app import boards, corpora, judging, listing, scoring, sharing, studies
from harness.cli.app.options import EXIT_CODES
from harness.cli.text import fail
from harness.errors import SelfteachError, StoreError

STOPPED = 130
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
_NAME_ERRORS = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
"""What a path in the user's words can be the cause of."""
app = typer.Typer(
    name="selfteach",
    help="Is a language model that teaches itself better than SFT and RLHF at the same compute?",
    epilog=f"Start with: selfteach run studies/quickstart.yaml\n\n{EXIT_CODES}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
for topic in (studies.commands, judging.commands, scoring.commands, listing.commands, sharing.commands, listing.machine):
    app.add_typer(topic)
for name, group in (("models", listing.models), ("corpus", corpora.corpus), ("leaderboard", boards.leaderboard)):
    app.add_typer(group, name=name)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the command line; errors of the user's or the machine's become one message and an exit code."""
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)  # PEFT's call, not ours
    try:
        app(args=arguments, prog_name="selfteach")
    except SelfteachError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno not in (*_DISK_ERRORS, *_NAME_ERRORS):
            raise
        place = f"{error.filename}: " if error.filename else ""
        fail(f"{place}{error.strerror}; finished stages are untouched", StoreError.exit_code)
    except SystemExit as stop:
        if stop.code == STOPPED:
            fail("stopped; finished stages are kept, continue with the same command", STOPPED)
        raise
    sys.exit(0)
