"""Searches a published run for what scrubbing missed: folders of this machine everywhere, anybody's home and whole names in the records.

Records are what the harness and methods write about a run (study.json, meta.json and the other .json files of stages, ledgers and curves).
Texts are items, replies and self-made instructions: they may speak of any path or name. Pages, such as the report, are made of both: a
home counts there unless the texts have it too.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from harness.core.scrub import WEB, whole_word
from harness.errors import StoreError

_ANYBODY = frozenset(
    {
        "root",
        "user",
        "users",
        "username",
        "admin",
        "administrator",
        "ubuntu",
        "debian",
        "centos",
        "ec2-user",
        "runner",
        "vscode",
        "jovyan",
        "codespace",
        "student",
        "guest",
        "default",
        "nobody",
        "home",
        "work",
        "share",
        "shared",
        "public",
        "localhost",
        "host",
        "node",
        "pool",
        "server",
        "worker",
        "login",
        "head",
        "cluster",
        "gpu",
        "linux",
    }
)
"""Names of accounts and machines that say nothing of whose they are."""
TABLES = ("ledger.parquet", "curves.parquet")
"""Tables that are records; a method's own may hold texts."""
_SHORTEST = 3
"""A name shorter than this occurs by chance."""
_HOME = re.compile(
    r"[/\\](?:home|[Uu]sers)[/\\]+([^\s\"'`,;:)\[\]<>|/\\&]+(?: [^\s\"'`,;:)\[\]<>|/\\-][^\s\"'`,;:)\[\]<>|/\\]*(?=[/\\]))?)"
)
_WEB = re.compile(WEB)


@dataclass(frozen=True)
class Traces:
    """What must not be left: `folders` and hashed `hosts` in any file, `names` as whole words in records."""

    folders: tuple[str, ...]
    hosts: tuple[str, ...]
    names: tuple[str, ...]


def traces(places: Iterable[Path], hosts: Iterable[str], names: Iterable[str]) -> Traces:
    """Those of this machine (home, working, temporary and Python's folder) and of the run.

    Args:
        places: folders besides.
        hosts: hashed host names.
        names: of users and machines (`names_in`).
    """
    here = [Path.cwd(), Path(sys.prefix), Path(tempfile.gettempdir()), *places]
    if Path.home().name.lower() not in _ANYBODY:
        here.append(Path.home())
    folders = {os.path.abspath(place) + "/" for place in here} | {f"{place.resolve()}/" for place in here}
    # A folder directly under the root ("/tmp/") occurs in anybody's texts.
    return Traces(tuple(sorted(folder for folder in folders if folder.count("/") > 2)), tuple(filter(None, hosts)), tuple(names))


def names_in(study: dict[str, Any], records: Collection[Any]) -> tuple[str, ...]:
    """Names to be replaced: this machine's, its user's, and those of the homes that paths in `study` (study.json) or `records` lie in.

    A name that the study has for something else (a method called like a user; a word of its title) is left out: it says nothing, and
    without it the run could not be read. So are names that anybody may have.
    """
    node = platform.node()
    found = {node, node.split(".")[0], Path.home().name}
    with contextlib.suppress(OSError, KeyError, ImportError):  # a user without a name, as in some containers
        found.add(getpass.getuser())
    for text in _strings_in([study, *records]):
        found.update(_HOME.findall(_WEB.sub("", text)))
    ordinary = _ordinary(study, records)
    return tuple(sorted(name for name in found if len(name) >= _SHORTEST and name.lower() not in _ANYBODY and name not in ordinary))


def search(folder: Path, left: Traces) -> None:
    """Searches every file of a published run.

    Raises:
        StoreError: something of `left`, or anybody's home in a record, is in one of them.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    in_texts = {
        home for path in paths if _kind(path.relative_to(folder)) == "text" for text in _texts_of(path) for home in _HOME.findall(text)
    }
    for path in paths:
        kind = _kind(path.relative_to(folder))
        for text in _texts_of(path):
            found = next((needle for needle in (*left.folders, *left.hosts) if needle in text), None)
            if kind != "text":
                homes = (match for match in _HOME.finditer(_WEB.sub("", text)) if kind == "record" or match[1] not in in_texts)
                found = found or next((match.group() for match in homes), None)
            if found is not None:
                raise _left(path.relative_to(folder), found, "where")
        if kind == "record":
            words = [(name, whole_word(name)) for name in left.names]
            for text in _values_of(path):
                named = next((name for name, word in words if word.search(text)), None)
                if named is not None:
                    raise _left(path.relative_to(folder), named, "where or by whom")


def _left(path: Path, found: str, what: str) -> StoreError:
    return StoreError(f"not published: {path} holds {found!r}, which says {what} the run was made")


def _kind(path: Path) -> Literal["record", "text", "page"]:
    if path.suffix in (".jsonl", ".parquet") and path.name not in TABLES:
        return "text"
    in_stage = path.parts[0] == "stages" and path.suffix in (".json", ".parquet")
    return "record" if in_stage or path.name in ("study.json", "tuned.json") else "page"


def _texts_of(path: Path) -> Iterator[str]:
    if path.suffix != ".parquet":
        yield path.read_text(encoding="utf-8", errors="replace")
        return
    frame = pd.read_parquet(path)
    for column in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            yield "\n".join(map(str, frame[column].dropna().unique()))


def _values_of(path: Path) -> Iterator[str]:
    """A record's values; keys are settings' and files' names, and those of meta.json's files are not ours to change."""
    return _strings_in(json.loads(path.read_text(encoding="utf-8"))) if path.suffix == ".json" else _texts_of(path)


def _strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings_in(part)


def _ordinary(study: dict[str, Any], records: Iterable[Any]) -> set[str]:
    """Words that the study has for its own things: keys, names and single words outside of configs, and the words of its titles."""
    words = set(re.findall(r"\w+", " ".join(str(study.get(key) or "") for key in ("name", "title", "question"))))

    def walk(value: Any, own: bool) -> None:
        if isinstance(value, dict):
            words.update(map(str, value))
            for key, part in value.items():
                walk(part, key == "name" or (own and key not in ("config", "command", "host")))
        elif isinstance(value, list):
            for part in value:
                walk(part, own)
        elif isinstance(value, str) and own and not re.search(r"[\s/\\@]", value):
            words.add(value)

    walk([study, *records], True)
    return words
