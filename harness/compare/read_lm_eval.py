"""lm-eval's `samples_<task>_<date>.jsonl`, with `results_<date>.json` beside it where there is one.

One row per document and filter; a metric is called "exact_match,strict-match" where filters differ, as in lm-eval's own results.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.compare.cells import ALL_ITEMS, Cell, Reading, ReadOptions, checked, name_of, shown, strings
from harness.compare.json_files import first_object, json_lines, load_json, read_columns
from harness.compare.numbers import number
from harness.errors import SpecError

_FILE = re.compile(r"samples_(?P<task>.+?)(_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+))?\.jsonl?", re.DOTALL)
_HASHES = ("doc_hash", "target_hash", "prompt_hash")
_NO_FILTER = "none"


def is_lm_eval(row: dict[str, Any]) -> bool:
    """Whether a JSON-lines row is one of lm-eval's sample logs."""
    return "doc_id" in row and ("metrics" in row or "filtered_resps" in row or "resps" in row)


def read_lm_eval(path: Path, options: ReadOptions) -> Reading:
    """The cells of one sample log: one per metric and filter."""
    match = _FILE.fullmatch(path.name)
    about = _About.find(path, match["date"] if match else None)
    task = match["task"] if match else ALL_ITEMS
    first = first_object(path)
    metrics, skipped = _metrics(first, path)
    table = _fast(path, first, metrics, options)
    if table is None:
        table, skipped = _slow(path, metrics, skipped, options)
        metrics = [metric for metric in metrics if metric not in skipped]
    reading = Reading(notes=[f"{path.name}: {metric} is not one number a sample; left out" for metric in skipped])
    if not metrics:
        raise SpecError("no metric is one number a sample", file=path, key="metrics", value=", ".join(skipped) or None)
    filters = pc.unique(table["filter"]).to_pylist()
    for name in filters:
        part = table if len(filters) == 1 else table.filter(pc.equal(table["filter"], name))
        for by, rows in _split(part, options):
            for metric in metrics:
                full = metric if name == _NO_FILTER else f"{metric},{name}"
                reading.cells.append(_cell(path, rows, metric, name_of(full), name_of(task + by), about))
    return reading


@dataclass(frozen=True)
class _About:
    """What results_<date>.json tells of the run; model is "" without that file."""

    model: str
    results: dict[str, Any]

    @classmethod
    def find(cls, path: Path, date: str | None) -> _About:
        """From the results file of the same date, else from the only one in the folder; lm-eval names folders by the model."""
        exact = path.with_name(f"results_{date}.json")
        others = sorted(path.parent.glob("results*.json"))
        place = exact if date and exact.is_file() else others[0] if len(others) == 1 and date is None else None
        results = load_json(place) if place else {}
        if not isinstance(results, dict):
            raise SpecError("expected a JSON object", file=place, value=shown(results))
        return cls(name_of(results.get("model_name") or path.parent.resolve().name), results)

    def of(self, task: str, key: str) -> Any:
        """The entry of a task in one of the results' tables."""
        table = self.results.get(key)
        return table.get(task) if isinstance(table, dict) else None

    def setup(self, task: str) -> dict[str, str]:
        """What should be equal in two logs of a task."""
        found = {"few-shot examples": self.of(task, "n-shot"), "task version": self.of(task, "versions")}
        found["chat template"] = str(self.results.get("chat_template_sha") or "none")[:12] if self.results else None
        return {key: name_of(value) for key, value in found.items() if value is not None}


def _metrics(first: dict[str, Any], path: Path) -> tuple[list[str], list[str]]:
    """Names of the metrics that are one number a sample, and of those that are not (word_perplexity's pairs)."""
    names = first.get("metrics")
    if names is None:
        # Logs of lm-eval before 0.4.3 do not list their metrics.
        fixed = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", *_HASHES}
        names = [key for key in first if key not in fixed]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SpecError("expected a list of metric names", file=f"{path}: line 1", key="metrics", value=shown(names))
    odd = [name for name in names if isinstance(first.get(name), list | dict | str)]
    return [name for name in names if name not in odd and name in first], odd


def _fast(path: Path, first: dict[str, Any], metrics: list[str], options: ReadOptions) -> pa.Table | None:
    if not isinstance(first.get("doc_id"), int | str) or isinstance(first.get("doc_id"), bool) or options.cluster or options.task:
        return None
    fields = {"doc_id": pa.string() if isinstance(first["doc_id"], str) else pa.int64(), "metrics": pa.list_(pa.string())}
    fields |= {"filter": pa.string()} | {name: pa.string() for name in _HASHES} | {name: pa.float64() for name in metrics}
    table = read_columns(path, fields)
    if table is None or table["doc_id"].null_count:
        return None
    # The same metrics in every line, and a number for each; anything else is read line by line.
    if "metrics" in first and pc.unique(pc.binary_join(table["metrics"], "\n")).to_pylist() != ["\n".join(first["metrics"])]:
        return None
    if not all(np.isfinite(table[name].to_numpy()).all() for name in metrics):
        return None
    filled = table.set_column(table.schema.get_field_index("filter"), "filter", pc.fill_null(table["filter"], _NO_FILTER))
    return filled.set_column(filled.schema.get_field_index("doc_id"), "doc_id", filled["doc_id"].cast(pa.string()))


def _slow(path: Path, metrics: list[str], skipped: list[str], options: ReadOptions) -> tuple[pa.Table, list[str]]:
    columns: dict[str, list[Any]] = {name: [] for name in ("doc_id", "filter", "by", "cluster", *_HASHES, *metrics)}
    first_metrics = [*metrics, *skipped]
    odd: Counter[str] = Counter()
    for line, row in json_lines(path):
        where = f"{path}: line {line}"
        if not is_lm_eval(row):
            raise SpecError("expected a row of lm-eval's sample log (doc_id, metrics)", file=where, value=shown(list(row)[:8]))
        if row["doc_id"] is None or isinstance(row["doc_id"], list | dict):
            raise SpecError("expected an id", file=where, key="doc_id", value=shown(row["doc_id"]))
        listed = row.get("metrics", first_metrics)
        if not isinstance(listed, list) or set(map(str, listed)) != set(first_metrics):
            raise SpecError(f"expected the metrics of line 1 ({', '.join(first_metrics)})", file=where, key="metrics", value=shown(listed))
        columns["doc_id"].append(str(row["doc_id"]))
        columns["filter"].append(str(row.get("filter") or _NO_FILTER))
        for name in _HASHES:
            columns[name].append(str(row[name]) if row.get(name) is not None else None)
        columns["by"].append(_field(row, options.task, where))
        columns["cluster"].append(_field(row, options.cluster, where))
        for name in metrics:
            if isinstance(row.get(name), list | dict):
                odd[name] += 1
            columns[name].append(np.nan if odd[name] else number(row.get(name), where, name))
    skipped = [*skipped, *odd]
    texts = ("doc_id", "filter", "by", "cluster", *_HASHES)
    arrays = {name: strings(values) if name in texts else pa.array(values, pa.float64()) for name, values in columns.items()}
    return pa.table({name: array for name, array in arrays.items() if name in texts or name not in skipped}), skipped


def _field(row: dict[str, Any], name: str | None, where: str) -> str | None:
    """A field of the document by its name, dots for nested ones."""
    if name is None:
        return None
    value: Any = row.get("doc")
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            keys = list(map(str, row["doc"])) if isinstance(row.get("doc"), dict) else []
            raise SpecError("the document has no such field", file=where, key="doc", value=name, valid=keys[:50])
        value = value[part]
    return name_of(value)


def _split(table: pa.Table, options: ReadOptions) -> list[tuple[str, pa.Table]]:
    if options.task is None:
        return [("", table)]
    return [(f"/{value}", table.filter(pc.equal(table["by"], value))) for value in pc.unique(table["by"]).to_pylist()]


def _cell(path: Path, rows: pa.Table, metric: str, full: str, task: str, about: _About) -> Cell:
    base = about.of(task, "higher_is_better")
    higher = base.get(metric) if isinstance(base, dict) else None
    cell = Cell(
        about.model, "", task, full, strings(rows["doc_id"]), np.asarray(rows[metric].to_numpy(), dtype=np.float64), path,
        cluster_N=strings(rows["cluster"]) if "cluster" in rows.column_names and not rows["cluster"].null_count else None,
        content_N=_joined(rows, "doc_hash", "target_hash"), prompt_N=_joined(rows, "prompt_hash"),
        setup=about.setup(task), higher_is_better=higher if isinstance(higher, bool) else None,
    )  # fmt: skip
    return checked(cell, hint="lm-eval appends when two runs share a file; name one log a file.")


def _joined(rows: pa.Table, *names: str) -> pa.Array | None:
    if any(name not in rows.column_names or rows[name].null_count for name in names):
        return None
    return strings(pc.binary_join_element_wise(*(rows[name] for name in names), "\n") if len(names) > 1 else rows[names[0]])
