"""Reading JSON from strangers: a mistake names file and line, a hostile file costs no more than its own size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as arrow_json

from harness.compare.cells import shown
from harness.errors import SpecError

LONGEST_LINE = 64 * 2**20
_BLOCK = 16 * 2**20


def parse_json(text: str | bytes, where: object) -> Any:
    """The value of a JSON text.

    Raises:
        SpecError: it is not JSON in UTF-8, or nested beyond what can be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise SpecError("is nested too deeply to be read", file=where) from None
    except UnicodeDecodeError as error:
        raise SpecError(f"is not text in UTF-8 (byte {error.start})", file=where) from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise SpecError(f"is not JSON: {error.msg} ({line}column {error.colno})", file=where) from None
    except ValueError as error:
        raise SpecError(f"is not JSON that can be read: {error}", file=where) from None


def read_bytes(path: Path) -> bytes:
    """The whole file.

    Raises:
        SpecError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=path) from None


def load_json(path: Path) -> Any:
    """The value of a JSON file."""
    return parse_json(read_bytes(path), path)


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every object of a JSON-lines file with its line number; blank lines are passed over.

    Raises:
        SpecError: a line is not a JSON object, or longer than LONGEST_LINE.
    """
    number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                where = f"{path}: line {number}"
                if len(line) > LONGEST_LINE:
                    raise SpecError(f"is longer than {LONGEST_LINE >> 20} MiB", file=where)
                if not line.strip():
                    continue
                value = parse_json(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, where)
                if not isinstance(value, dict):
                    raise SpecError("expected a JSON object", file=where, value=shown(value))
                yield number, value
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=path) from None


def first_object(path: Path) -> dict[str, Any]:
    """The first object of a JSON-lines file; {} for an empty one."""
    return next((value for _, value in json_lines(path)), {})


def read_columns(path: Path, fields: dict[str, pa.DataType]) -> pa.Table | None:
    """The named fields of a JSON-lines file as columns, read by Arrow in parallel; None where Arrow cannot.

    The caller then reads line by line, which finds the line at fault or copes with what Arrow does not (booleans beside numbers, NaN).
    """
    schema = pa.schema(list(fields.items()))
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        return arrow_json.read_json(path, arrow_json.ReadOptions(block_size=_BLOCK), options)
    except pa.ArrowException:
        return None
