"""`publish`: a finished run as small files for a repository."""

from __future__ import annotations

from pathlib import Path

from harness.cli.text import console, print_json, say
from harness.core.publish import publish_run
from harness.core.results import find_run


def publish_command(place: str, *, out: Path, partial: bool, as_json: bool) -> None:
    """Writes the run, without weights, to `out`.

    Raises:
        SpecError: no such run, `out` exists, or the run is not finished.
        StoreError: a stage is damaged, or a file would say where the run was made.
    """
    from harness.cli.conclude import conclude_with_tables

    found = publish_run(find_run(place), out, partial=partial, conclude=conclude_with_tables)
    if as_json:
        print_json(vars(found))
        return
    missing = f", {found.missing} not finished" if found.missing else ""
    writer = console()
    say(writer, f"{found.folder}: {found.stages} stages{missing}, {found.files} files, {found.size_bytes / 1e6:.2f} MB, no weights")
    say(
        writer,
        f"every command reads it as it reads a run; `selfteach leaderboard build {found.folder}` freezes its scores",
    )
