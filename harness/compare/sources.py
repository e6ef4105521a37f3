"""From what the user typed to cells: which kind of log a path is (by content, not by its name), and which model each log is of."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.compare.cells import Cell, Reading, ReadOptions, name_of, shown
from harness.compare.json_files import json_lines, load_json
from harness.compare.read_helm import FILE as HELM_FILE
from harness.compare.read_helm import is_helm, read_helm
from harness.compare.read_inspect import is_inspect, read_eval, read_log
from harness.compare.read_lm_eval import is_lm_eval, read_lm_eval
from harness.compare.read_run import is_run, read_run
from harness.compare.read_table import is_table_row, read_csv, read_json_table, read_parquet
from harness.errors import SpecError

READS = (
    "lm-eval samples_*.jsonl, Inspect .eval or .json, HELM per_instance_stats.json, a selfteach run, or a table with columns item and score"
)
_HEAD = 4096
_MOST_FILES = 2000
_IN_FOLDERS = ("samples_*.jsonl", "*.eval", HELM_FILE, "samples.parquet")
_TABLES = ("*.csv", "*.tsv", "*.parquet", "*.jsonl", "*.json")


@dataclass(frozen=True)
class Source:
    """One argument of the command: a path, and the model's name if the user gave one (NAME=PATH)."""

    path: Path
    name: str | None = None


def parse_source(text: str) -> Source:
    """PATH or NAME=PATH; a path that exists is taken as it is, whatever signs it holds."""
    if not text:
        raise SpecError("a path is empty", key="LOG")
    name, equals, rest = text.partition("=")
    try:
        if not Path(text).exists() and equals and name and rest:
            return Source(Path(rest), name_of(name))
        return Source(Path(text))
    except (OSError, ValueError) as error:
        raise SpecError(f"not a path: {error}", value=shown(text)) from None


def read_sources(sources: Sequence[Source], options: ReadOptions) -> Reading:
    """The cells of all arguments, each with its model and checkpoint.

    Logs that share a NAME are that model's checkpoints. Without names, logs that name one and the same model are told apart by their paths.

    Raises:
        SpecError: a path is missing, given twice, of no known kind, or two logs cannot be told apart.
    """
    _refuse_doubled(sources)
    readings = [_named(read_path(source.path, options), source) for source in sources]
    shared = _same_model(readings, sources)
    if shared:
        labels = _labels([source.path for source in sources])
        for index, reading in enumerate(readings):
            if sources[index].name is None:
                cells = [replace(cell, model=labels[index]) if cell.model in shared else cell for cell in reading.cells]
                reading.cells = cells
    total = Reading()
    for reading in readings:
        total.extend(reading)
    told = sorted(name for name in shared if name)
    if told:
        total.notes.append(f"several logs name the model {', '.join(told)}; they are called by their paths (NAME=PATH gives names)")
    total.cells = _checkpoints(total.cells, {source.name for source in sources if source.name})
    return total


def _refuse_doubled(sources: Sequence[Source]) -> None:
    """One log twice is no second checkpoint; under two names it may stand, as two models without a difference."""
    seen = set()
    for source in sources:
        place = (source.name, os.path.realpath(source.path))
        if place in seen:
            raise SpecError("this log is given twice", key="LOG", value=str(source.path))
        seen.add(place)


def read_path(path: Path, options: ReadOptions) -> Reading:
    """The cells of one file or folder."""
    try:
        if path.is_dir():
            return _read_folder(path, options)
        if path.exists() and not path.is_file():
            raise SpecError("not a file or folder", value=str(path))
        if not path.exists():
            beside = [str(path.parent / other.name) for other in path.parent.iterdir()][:1000] if path.parent.is_dir() else []
            raise SpecError("no such file or folder", value=str(path), valid=beside if len(beside) < 50 else ())
        return _read_file(path, options)
    except OSError as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"cannot be read: {error.strerror}", file=path) from None


def _read_folder(folder: Path, options: ReadOptions) -> Reading:
    if is_run(folder):
        return read_run(folder, options)
    files: list[Path] = []
    for pattern in _IN_FOLDERS:
        files += sorted(path for path in folder.rglob(pattern) if path.is_file())
    if not files:
        for pattern in _TABLES:
            files += sorted(path for path in folder.glob(pattern) if path.is_file() and not path.name.startswith("results"))
    if not files:
        raise SpecError(f"no log in this folder; expected {READS}", file=folder)
    if len(files) > _MOST_FILES:
        raise SpecError(f"{len(files)} logs in this folder; name those to compare", file=folder)
    reading = Reading()
    for path in files:
        reading.extend(_read_file(path, options))
    places: dict[tuple[str, str, str, str], list[Path]] = defaultdict(list)
    for cell in reading.cells:
        places[cell.model, cell.seed, cell.task, cell.metric].append(cell.place)
    for (model, _, task, _), found in places.items():
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(folder)) for path in found[:4])
            raise SpecError(
                f"{len(found)} logs of task {task!r} by {model or 'one model'!r} in this folder: {names}. Name the file to compare, or, if "
                f"they are checkpoints, give each with the model's name ({model or 'NAME'}=FILE {model or 'NAME'}=FILE)", file=folder,
            )  # fmt: skip
    return reading


def _read_file(path: Path, options: ReadOptions) -> Reading:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.strip():
        raise SpecError("the file is empty", file=path)
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        return read_eval(path, options)
    if head.startswith(b"PAR1"):
        return read_parquet(path, options)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] in (b"{", b"["):
        return _read_json(path, options, lines=start[:1] == b"{")
    if b"\x00" in head:
        raise SpecError(f"a binary file of no known kind; expected {READS}", file=path)
    first_line = start.split(b"\n", 1)[0]
    delimiter = "\t" if b"\t" in first_line and b"," not in first_line else ";" if b";" in first_line and b"," not in first_line else ","
    return read_csv(path, options, delimiter=delimiter)


def _read_json(path: Path, options: ReadOptions, *, lines: bool) -> Reading:
    """JSON lines by their first row; a JSON document by its shape."""
    first = None
    if lines:
        try:
            first = next(json_lines(path))[1]
        except SpecError as mistake:
            # A JSON document over several lines, perhaps: its first line alone is no JSON.
            if path.suffix != ".json":
                raise mistake
    if first is not None and not is_inspect(first):
        if is_lm_eval(first):
            return read_lm_eval(path, options)
        if is_table_row(list(first), options) or path.suffix != ".json":
            return read_json_table(path, first, options)
    value = load_json(path)
    if is_inspect(value):
        return read_log(path, value, options)
    if is_helm(value):
        return read_helm(path, value, options)
    keys = list(value)[:6] if isinstance(value, dict) else value
    raise SpecError(f"JSON of no known kind; expected {READS}", file=path, value=shown(keys))


def _named(reading: Reading, source: Source) -> Reading:
    if source.name is None:
        return reading
    models = sorted({cell.model for cell in reading.cells})
    if len(models) > 1:
        raise SpecError(
            f"holds {len(models)} models ({', '.join(models[:6])}); NAME=PATH is for a log of one (--models chooses among several)",
            file=source.path, value=source.name,
        )  # fmt: skip
    reading.cells = [replace(cell, model=source.name) for cell in reading.cells]
    return reading


def _same_model(readings: list[Reading], sources: Sequence[Source]) -> set[str]:
    """Models that two unnamed arguments share on one task and metric, and "" for logs that name none."""
    owners: dict[tuple[str, str, str, str], set[int]] = defaultdict(set)
    for index, reading in enumerate(readings):
        if sources[index].name is None:
            for cell in reading.cells:
                owners[cell.model, cell.seed, cell.task, cell.metric].add(index)
    shared = {model for (model, *_), who in owners.items() if len(who) > 1}
    return shared | ({""} if any(cell.model == "" for reading in readings for cell in reading.cells) else set())


def _labels(paths: Sequence[Path]) -> list[str]:
    """Short names that differ: the fewest last parts of the paths that do."""
    whole = [path.resolve() for path in paths]
    for depth in range(1, max(len(path.parts) for path in whole) + 1):
        names = ["/".join(path.parts[-depth:]) for path in whole]
        stems = [name.removesuffix(path.suffix) if path.is_file() else name for name, path in zip(names, whole, strict=True)]
        for tried in (stems, names):
            if len(set(tried)) == len(set(whole)):
                return [name_of(name) for name in tried]
    return [name_of(path) for path in whole]


def _checkpoints(cells: list[Cell], named: set[str]) -> list[Cell]:
    """Numbers the checkpoints of a model whose logs name none: the first log of a task is checkpoint 1, and so on."""
    totals = Counter((cell.model, cell.seed, cell.task, cell.metric) for cell in cells)
    seen: Counter[tuple[str, str, str, str]] = Counter()
    result = []
    for cell in cells:
        key = (cell.model, cell.seed, cell.task, cell.metric)
        seen[key] += 1
        if totals[key] == 1:
            result.append(cell)
        elif cell.model in named:
            result.append(replace(cell, seed=f"{cell.seed + ' ' if cell.seed else ''}#{seen[key]}"))
        else:
            same = [str(other.place) for other in cells if (other.model, other.seed, other.task, other.metric) == key]
            places = ", ".join(dict.fromkeys(same))
            if len(set(same)) == 1:  # a log of several models, which `read_sources` called by its path
                raise SpecError(
                    f"{places} holds models that another log has too, and they cannot be told apart; give logs of one model each as "
                    "NAME=PATH (of a run: its stages/ID/samples.parquet)", key="LOG",
                )  # fmt: skip
            raise SpecError(f"several logs of {cell.model!r} on task {cell.task!r}: {places}. NAME=PATH tells them apart", key="LOG")
    return result
