"""What in a run's files says where it was made, how it is taken out, and the search that nothing was missed.

The rule, in one place (docs/leaderboards.md repeats it): the hashed host name goes; an absolute path becomes `<path>/` and its last part;
a student that was a folder, `file:/somewhere/name`, becomes `file:name`; a cluster's address in a command becomes `<host>`. Texts of items
and models are left as they are: they are data. Processor, memory, system and package versions stay, because results depend on them.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RULE = (
    "host removed; absolute paths cut to their last part; local students named by their folder's name; "
    "item texts, replies and self-made instructions unchanged"
)
_DROPPED = frozenset({"host"})
_ADDRESS = re.compile(r"(--address[ =])[^\s<]+")
_ROOTS = "home|Users|root|tmp|var|work|mnt|data|opt|scratch|private|srv|usr|workspace|content|lustre|gpfs"
_ABSOLUTE = re.compile(rf"(?<![\w.<>/])(?:/(?:{_ROOTS})(?:/[^\s\"'`,;:)\]]*)?|[A-Za-z]:\\[^\s\"'`,;)\]]+)")
_FILE_URI = re.compile(r"file:///[^\s\"'`,;)\]]*")
_SHORTEST = 4
"""A host name or path shorter than this occurs by chance."""


def scrubbed(value: Any) -> Any:
    """JSON-like `value` without what is machine-specific; keys are kept but for the host."""
    if isinstance(value, dict):
        return {key: scrubbed(part) for key, part in value.items() if key not in _DROPPED}
    if isinstance(value, list):
        return [scrubbed(part) for part in value]
    return scrubbed_text(value) if isinstance(value, str) else value


def scrubbed_text(text: str) -> str:
    """`text` with absolute paths cut to their last part."""
    if text.startswith("file:"):
        return f"file:{_last(text.removeprefix('file:'))}"
    text = _FILE_URI.sub(lambda match: f"file://<path>/{_last(match.group())}", _ADDRESS.sub(r"\1<host>", text))
    return _ABSOLUTE.sub(lambda match: f"<path>/{_last(match.group())}", text)


def _last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def traces(places: Iterable[Path], hosts: Iterable[str] = ()) -> list[str]:
    """Strings that would give this machine, or `hosts` (hashed names), away: its name, its user's home, and absolute `places`."""
    here = [Path.home(), Path.cwd(), Path(sys.prefix), Path(tempfile.gettempdir()), *places]
    folders = {os.path.abspath(place) + "/" for place in here} | {f"{place.resolve()}/" for place in here}
    # A folder directly under the root ("/tmp/") occurs in anybody's texts.
    long = {folder for folder in folders if folder.count("/") > 2}
    names = {name for name in (platform.node(), *hosts) if len(name) >= _SHORTEST and name != "localhost"}
    return sorted(long | names)


def first_trace(text: str, needles: Iterable[str]) -> str | None:
    """The first of `needles` that `text` holds."""
    return next((needle for needle in needles if needle in text), None)
