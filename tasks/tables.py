"""Rows of a user's own data: a JSON, JSON Lines, CSV or Parquet file, or a data set of the hub, each row with where it stands.

Files are read here and not by `datasets`, whose readers name neither line nor key of a mistake and turn mixed types into one; the rows are
equal. Hub sets are loaded by `datasets`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import SourceError, SpecError
from harness.models.cache import cache_root

_HUB_FORM = re.compile(r"hub:(?P<name>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")
FORMS = "expected file:PATH (.jsonl, .json, .csv or .parquet) or hub:org/name[@revision]"
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Row:
    """A row, or in `problem` why it could not be read. `where` is how messages call its place: "pairs.jsonl:7", "pairs.parquet, row 7"."""

    where: str
    values: dict[str, Any]
    problem: str | None = None


def check_source(source: str) -> str:
    """The source, if it has a known form.

    Raises:
        SpecError: it has not.
    """
    path = Path(source.removeprefix("file:"))
    if source.startswith("file:") and path.suffix.lower() not in SUFFIXES:
        raise SpecError(FORMS, value=source, valid=[str(path.with_suffix(suffix)) for suffix in SUFFIXES] if path.name else ())
    if not source.startswith("file:") and not _HUB_FORM.fullmatch(source):
        raise SpecError(FORMS, value=source)
    return source


def read_rows(source: str, *, split: str, subset: str | None) -> list[Row]:
    """All rows of a source, in order.

    Args:
        split, subset: of a hub set.
    Raises:
        SpecError: a file is missing, empty or not what its name says; the hub has no such set, revision, subset or split.
        SourceError: the hub cannot be reached.
    """
    if source.startswith("hub:"):
        return _hub_rows(source, split=split, subset=subset)
    path = Path(source.removeprefix("file:"))
    try:
        if path.suffix.lower() == ".parquet":
            rows = _parquet_rows(path)
        else:
            text = path.read_text(encoding="utf-8-sig")
            rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else list(_json_rows(path, text))
    except UnicodeDecodeError as error:
        raise SpecError(f"not a text file in UTF-8 (byte {error.start})", file=path) from error
    except OSError as error:
        raise SpecError(f"cannot be read ({error.strerror or error})", file=path) from error
    if not rows:
        raise SpecError("the file has no rows", file=path)
    return rows


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    """Of an array of objects, or of one object a line (whatever the file is called: both are found under either name)."""
    if text.lstrip().startswith("["):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecError(f"not valid JSON ({error})", file=path) from error
        for number, value in enumerate(values, start=1):
            yield _object(f"{path}, row {number}", value)
        return
    # Not splitlines(): U+2028 may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Row(where, {}, f"not valid JSON ({error})")
            else:
                yield _object(where, value)


def _object(where: str, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(where, value)
    return Row(where, {}, f"expected a JSON object with a key for each column, found {_shown(value)}")


def _csv_rows(path: Path, text: str) -> list[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    try:
        for values in reader:
            where = f"{path}:{reader.line_num}"
            if None in values:
                rows.append(Row(where, {}, f"more fields than the {len(reader.fieldnames or ())} columns of the first line"))
            else:
                # A cell that is missing and one that is empty are the same in this format.
                rows.append(Row(where, {key: value or None for key, value in values.items()}))
    except csv.Error as error:
        raise SpecError(f"not valid CSV ({error})", file=f"{path}:{reader.line_num}") from error
    return rows


def _parquet_rows(path: Path) -> list[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        values = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise SpecError(f"not a Parquet file ({' '.join(str(error).split())})", file=path) from error
    return [Row(f"{path}, row {number}", value) for number, value in enumerate(values, start=1)]


def _hub_rows(source: str, *, split: str, subset: str | None) -> list[Row]:
    match = _HUB_FORM.fullmatch(source)
    assert match, source
    # Imported here because it takes a second, and most studies read no hub set.
    import datasets
    from datasets.exceptions import DatasetBuildError, DatasetNotFoundError
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        found = datasets.load_dataset(
            match["name"], subset, split=split, revision=match["revision"], cache_dir=str(cache_root() / "hub-datasets")
        )
    except DatasetNotFoundError as error:
        raise SpecError(f"the hub has no such data set or revision, or it is private ({error})", key="source", value=source) from error
    except ConnectionError as error:
        raise SourceError(f"{source}: the hub cannot be reached and the data set is not in the cache; check the network") from error
    except (ValueError, RuntimeError, FileNotFoundError, DatasetBuildError) as error:
        # An unknown split or subset, a set that needs a script, files that do not parse: `datasets` says which.
        raise SpecError(" ".join(str(error).split()), key="source", value=source) from error
    rows = [Row(f"{source} ({split}), row {number}", value) for number, value in enumerate(found, start=1)]
    if not rows:
        raise SpecError(f"the split {split} has no rows", key="source", value=source)
    return rows


def _shown(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {value!r:.40}"
