"""CSV, TSV, JSON lines and Parquet with columns item and score, and if need be model, seed, task, metric, cluster.

samples.parquet of our own stages (SAMPLE_COLUMNS) is such a table too.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as arrow_parquet

from harness.compare.cells import ALL_ITEMS, Cell, FloatArray, Reading, ReadOptions, checked, counted, name_of, shown, strings
from harness.compare.json_files import json_lines, read_columns
from harness.compare.numbers import number
from harness.errors import SpecError

_USUAL = {
    "item": ("item", "item_id", "sample_id", "question_id", "instance_id", "doc_id", "id"),
    "score": ("score", "value"),
    "model": ("model", "method"),
    "seed": ("seed",),
    "task": ("task",),
    "cluster": ("cluster",),
    "metric": ("metric",),
    "perturbation": ("perturbation",),
    "status": ("status",),
}
"""Column names that are understood without being told."""
_LABELS = ("model", "seed", "task", "metric")
_BLOCK = 16 * 2**20
_TEXT = pa.string()


def is_table_row(names: list[str], options: ReadOptions) -> bool:
    """Whether columns of these names hold items and scores."""
    lowered = {name.strip().lower() for name in names}
    item = options.item in names if options.item else bool(lowered & set(_USUAL["item"]))
    return item and (options.score in names if options.score else bool(lowered & set(_USUAL["score"])))


def read_csv(path: Path, options: ReadOptions, *, delimiter: str) -> Reading:
    """The cells of a CSV or TSV file with a header."""
    parse = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        header = arrow_csv.open_csv(path, arrow_csv.ReadOptions(block_size=_BLOCK), parse).schema.names
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _unreadable(path, error, delimiter) from None
    names = _columns(header, options, path)
    convert = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(header, _TEXT), include_columns=list(names.values()), strings_can_be_null=True, null_values=[""]
    )
    try:
        table = arrow_csv.read_csv(path, arrow_csv.ReadOptions(block_size=_BLOCK), parse, convert)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _unreadable(path, error, delimiter) from None
    return _cells(path, table, names, options, first_row=2)


def _unreadable(path: Path, error: Exception, delimiter: str) -> SpecError:
    reason = " ".join(str(error).split())
    if "straddling" in reason:
        reason = f"a row is longer than {_BLOCK >> 20} MiB"
    elif isinstance(error, UnicodeDecodeError) or "UTF8" in reason:
        reason = "not text in UTF-8"
    elif line := _ragged_line(path, delimiter):
        return SpecError("has another number of columns than the header (an unclosed quote?)", file=f"{path}: line {line}")
    return SpecError(f"cannot be read as a table: {reason[:200]}", file=path)


def _ragged_line(path: Path, delimiter: str) -> int | None:
    """The first line whose number of columns is not the header's; None if Python's reader finds none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter)
            width = len(next(rows))
            return next((rows.line_num for row in rows if row and len(row) != width), None)
    except (csv.Error, UnicodeDecodeError, StopIteration):
        return None


def read_parquet(path: Path, options: ReadOptions) -> Reading:
    """The cells of a Parquet file."""
    try:
        names = _columns(arrow_parquet.read_schema(path).names, options, path)
        table = arrow_parquet.read_table(path, columns=list(names.values()), partitioning=None)
    except pa.ArrowException as error:
        raise SpecError(f"is not a Parquet file that can be read: {str(error).splitlines()[0][:200]}", file=path) from None
    except OSError as error:
        raise SpecError(f"cannot be read: {str(error)[:200]}", file=path) from None
    return _cells(path, table, names, options, first_row=1)


def read_json_table(path: Path, first: dict[str, object], options: ReadOptions) -> Reading:
    """The cells of a JSON-lines file of rows; `first` is its first row."""
    names = _columns(list(first), options, path)
    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: _TEXT}
    fields = {name: pa.float64() if role == "score" else kinds.get(type(first[name]), _TEXT) for role, name in names.items()}
    table = read_columns(path, fields)
    score = None if table is None else table[names["score"]]
    if table is None or score is None or not np.isfinite(score.drop_null().to_numpy()).all():
        table = _json_rows(path, names)
    return _cells(path, table, names, options, first_row=1)


def _json_rows(path: Path, names: dict[str, str]) -> pa.Table:
    """The slow way, for rows that Arrow cannot read: mixed types, true/false scores, and mistakes that need their line."""
    columns: dict[str, list[object]] = {role: [] for role in names}
    for line, row in json_lines(path):
        where = f"{path}: line {line}"
        for role, name in names.items():
            value = row.get(name)
            if name not in row and role in ("item", "score"):
                raise SpecError("the row lacks this field", file=where, key=name, valid=list(row)[:50])
            if role != "score" and isinstance(value, list | dict):
                raise SpecError("expected a text or a number", file=where, key=name, value=shown(value))
            columns[role].append(number(value, where, name) if role == "score" else None if value is None else str(value))
    arrays = {names[role]: pa.array(values, pa.float64()) if role == "score" else strings(values) for role, values in columns.items()}
    return pa.table(arrays)


def _columns(header: list[str], options: ReadOptions, path: Path) -> dict[str, str]:
    """The column that plays each role; item and score are needed."""
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise SpecError("a column stands twice", file=path, value=shown(twice))
    by_name = {name.strip().lower(): name for name in reversed(header)}
    found = {}
    for role, usual in _USUAL.items():
        told = getattr(options, role, None) if role != "perturbation" else None
        if told is not None:
            if told not in header:
                raise SpecError(f"no column of this name for the {role}", file=path, value=told, valid=header[:50])
            found[role] = told
        elif match := next((by_name[name] for name in usual if name in by_name), None):
            found[role] = match
    for role in ("item", "score"):
        if role not in found:
            raise SpecError(
                f"no column {role!r}; name it with --{role}-column, one of: {', '.join(map(name_of, header[:20])) or 'no columns'}",
                file=path,
            )
    return found


def _cells(path: Path, table: pa.Table, names: dict[str, str], options: ReadOptions, *, first_row: int) -> Reading:
    if not table.num_rows:
        raise SpecError("holds no rows", file=path)
    reading = Reading()
    rows = np.arange(table.num_rows)
    scores = _scores(table[names["score"]], path, names["score"], first_row)
    text = {role: _text(table[name], path, name) for role, name in names.items() if role != "score"}
    if "status" in text:
        scores = np.where(_is(text["status"], "scored"), scores, np.nan)
    if "perturbation" in text:
        kept = _is(text["perturbation"], options.perturbation)
        if not kept.any():
            raise SpecError("no row has this perturbation", file=path, value=options.perturbation, valid=_values(text["perturbation"]))
        if not kept.all():
            others = ", ".join(name for name in _values(text["perturbation"]) if name != options.perturbation)
            reading.notes.append(
                f"{path.name}: only {options.perturbation} rows are compared; {int((~kept).sum())} left out (--perturbation: {others})"
            )
        rows = rows[kept]
    keys = [text[role] for role in _LABELS if role in text]
    for part in _groups(keys, rows):
        labels: dict[str, str] = {role: name_of(text[role][int(part[0])].as_py() or "") for role in _LABELS if role in text}
        reading.cells.append(_cell(path, labels, text, scores, part))
    return reading


def _cell(path: Path, labels: dict[str, str], text: dict[str, pa.Array], scores: FloatArray, rows: np.ndarray) -> Cell:
    index = pa.array(rows)
    cluster = pc.take(text["cluster"], index) if "cluster" in text else None
    items = pc.take(text["item"], index)
    if cluster is not None and (cluster.null_count or cluster.equals(items)):
        if 0 < cluster.null_count < len(cluster):
            raise SpecError(f"{cluster.null_count} of {len(cluster)} rows have no cluster", file=path)
        cluster = None
    cell = Cell(
        labels.get("model", ""), labels.get("seed", ""), labels.get("task") or ALL_ITEMS, labels.get("metric") or "score",
        items, scores[rows], path, cluster_N=cluster,
    )  # fmt: skip
    missing = {"seed": "checkpoints (--seed-column)", "model": "models (--model-column)", "task": "tasks (--by)"}
    several = " or ".join(text for role, text in missing.items() if not labels.get(role))
    return checked(cell, hint=f"If the rows are of several {several}, name the column." if several else "")


def _groups(keys: list[pa.Array], rows: np.ndarray) -> list[np.ndarray]:
    """Rows of each combination of keys, in order of appearance."""
    if not keys:
        return [rows]
    code = np.zeros(len(rows), dtype=np.int64)
    for key in keys:
        encoded = pc.fill_null(key, "").dictionary_encode()
        code = code * max(len(encoded.dictionary), 1) + encoded.indices.to_numpy(zero_copy_only=False)[rows]
        code = np.unique(code, return_inverse=True)[1]
    order = np.argsort(code, kind="stable")
    parts = np.split(rows[order], np.flatnonzero(np.diff(code[order])) + 1)
    return sorted(parts, key=lambda part: int(part[0]))


def _scores(column: pa.ChunkedArray, path: Path, name: str, first_row: int) -> FloatArray:
    """The score column as floats, null as NaN."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _scores(column.cast(kind.value_type), path, name, first_row)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or _is_text(kind) or pa.types.is_null(kind)
    ):
        raise SpecError(f"expected numbers, not {kind}", file=path, key=name)
    if _is_text(kind):
        return _parsed(column, path, name, first_row)
    values: FloatArray = np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    bad = ~np.isfinite(values) & column.is_valid().to_numpy()
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise SpecError(
            f"{counted(int(bad.sum()), 'score')} not finite; leave the cell empty for an item without a score",
            file=f"{path}: row {row + first_row}", key=name, value=float(values[row]),
        )  # fmt: skip
    return values


def _parsed(column: pa.ChunkedArray, path: Path, name: str, first_row: int) -> FloatArray:
    """Numbers, true and false written as text."""
    trimmed = pc.utf8_trim_whitespace(pc.cast(column, _TEXT))
    words = pc.utf8_lower(trimmed)
    numeric = pc.if_else(pc.equal(words, "true"), "1", pc.if_else(pc.equal(words, "false"), "0", trimmed))
    numeric = pc.if_else(pc.equal(numeric, ""), pa.scalar(None, _TEXT), numeric)
    try:
        return _scores(numeric.cast(pa.float64()), path, name, first_row)
    except pa.ArrowException:
        for row, value in enumerate(numeric.to_pylist()):
            if value is not None and not _is_number(value):
                where = f"{path}: row {row + first_row}"
                raise SpecError("expected a number, true or false", file=where, key=name, value=shown(value)) from None
    return np.array([np.nan if value is None else float(value) for value in numeric.to_pylist()], dtype=np.float64)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _text(column: pa.ChunkedArray, path: Path, name: str) -> pa.Array:
    try:
        return strings(column)
    except pa.ArrowException:
        raise SpecError(f"expected texts or numbers, not {column.type}", file=path, key=name) from None


def _is(array: pa.Array, value: str) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.equal(array, value), False).to_numpy(zero_copy_only=False))


def _values(array: pa.Array) -> list[str]:
    return [name_of(value) for value in pc.unique(array).to_pylist() if value is not None][:20]
