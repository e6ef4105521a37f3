"""Inspect's logs: `.eval` (a zip of JSON) and `.json`. Epochs are averaged: repeated answers of one checkpoint are no training runs."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness.compare.cells import Cell, Reading, ReadOptions, averaged, checked, name_of, shown, strings
from harness.compare.json_files import parse_json
from harness.compare.numbers import word_or_number
from harness.compare.zip_files import Archive
from harness.errors import SpecError

_HEADERS = ("header.json", "_journal/start.json")
_SUMMARIES = "summaries.json"
_JOURNAL = re.compile(r"_journal/summaries/(\d+)\.json")
_COMPARED_TEXT = 1000
"""Characters of a question that count for its fingerprint; summaries keep the start of long ones."""


def is_inspect(value: Any) -> bool:
    """Whether a JSON value is an Inspect log."""
    return isinstance(value, dict) and isinstance(value.get("eval"), dict) and "model" in value["eval"]


def read_eval(path: Path, options: ReadOptions) -> Reading:
    """The cells of an `.eval` file: its summaries where it has them, its samples otherwise."""
    with Archive(path) as archive:
        names = archive.names()
        header_name = next((name for name in _HEADERS if name in names), None)
        if header_name is None:
            raise SpecError("a zip file, but not an Inspect log (no header.json in it)", file=path)
        header = parse_json(archive.read(header_name), f"{path}: {header_name}")
        journal = sorted((name for name in names if _JOURNAL.fullmatch(name)), key=lambda name: int(_JOURNAL.fullmatch(name)[1]))  # type: ignore[index]
        parts = [_SUMMARIES] if _SUMMARIES in names else journal
        samples: list[Any] = []
        for name in parts:
            part = parse_json(archive.read(name), f"{path}: {name}")
            if not isinstance(part, list):
                raise SpecError("expected a list of samples", file=f"{path}: {name}", value=shown(part))
            samples += part
        if not parts:
            chosen = [name for name in names if name.startswith("samples/") and name.endswith(".json")]
            samples = [parse_json(archive.read(name), f"{path}: {name}") for name in chosen]
    return read_log(path, {"eval": header.get("eval") if isinstance(header, dict) else None, "samples": samples}, options)


def read_log(path: Path, log: dict[str, Any], options: ReadOptions) -> Reading:
    """The cells of a log that is already parsed: one per scorer (and per entry of a score that is a dictionary)."""
    about, samples = log["eval"], log.get("samples")
    if not isinstance(about, dict) or not isinstance(about.get("model"), str):
        raise SpecError("names no model in eval.model", file=path)
    if not isinstance(samples, list) or not samples:
        raise SpecError("holds no samples (was it written with log_samples off?)", file=path)
    reading = Reading()
    samples = _last_of_each(samples, path, reading)
    rows = list(_rows(samples, path, options))
    task = name_of(about.get("task") or path.stem)
    for by in dict.fromkeys(row["by"] for row in rows):
        part = [row for row in rows if row["by"] == by]
        # A sample that failed has no scores at all: it counts as unscored under every metric.
        for metric in dict.fromkeys(metric for row in part for metric in row["scores"]):
            reading.cells.append(_cell(path, about, part, metric, f"{task}/{by}" if by else task))
    if not reading.cells:
        raise SpecError(f"none of its {len(samples)} samples has a score", file=path)
    epochs = max(row["epoch"] for row in rows)
    if epochs > 1:
        reading.notes.append(f"{path.name}: the {epochs} epochs of a sample are averaged; they are answers of one checkpoint")
    return reading


def _last_of_each(samples: list[Any], path: Path, reading: Reading) -> list[dict[str, Any]]:
    """A retried sample stands twice in the journal: the last one counts, as in Inspect."""
    kept: dict[tuple[str, int], dict[str, Any]] = {}
    for index, sample in enumerate(samples):
        where = f"{path}: sample {index + 1}"
        if not isinstance(sample, dict) or isinstance(sample.get("id"), list | dict | None):
            raise SpecError("expected a sample with an id", file=where, value=shown(sample))
        epoch = sample.get("epoch", 1)
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise SpecError("expected a number", file=where, key="epoch", value=shown(epoch))
        kept[str(sample["id"]), epoch] = sample
    again = len(samples) - len(kept)
    if again:
        reading.notes.append(f"{path.name}: {again} samples stand twice with the same id and epoch; the last one counts, as in Inspect")
    return list(kept.values())


def _rows(samples: list[dict[str, Any]], path: Path, options: ReadOptions) -> Iterator[dict[str, Any]]:
    for sample in samples:
        where = f"{path}: sample {shown(sample['id'])}"
        scores = sample.get("scores") or {}
        if not isinstance(scores, dict):
            raise SpecError("expected scores by scorer", file=where, key="scores", value=shown(scores))
        yield {
            "id": str(sample["id"]), "epoch": sample.get("epoch", 1), "content": _fingerprint(sample),
            "cluster": _metadata(sample, options.cluster, where), "by": _metadata(sample, options.task, where) or "",
            "scores": {metric: value for scorer, score in scores.items() for metric, value in _values(scorer, score, where)},
        }  # fmt: skip


def _values(scorer: str, score: Any, where: str) -> Iterator[tuple[str, float]]:
    value = score.get("value") if isinstance(score, dict) else score
    if isinstance(value, dict):
        for key, entry in value.items():
            yield f"{scorer}/{key}", _number(entry, where, f"{scorer}/{key}")
    elif isinstance(value, list):
        raise SpecError("a score that is a list cannot be compared", file=where, key=scorer, value=shown(value))
    else:
        yield scorer, _number(value, where, scorer)


def _number(value: Any, where: str, key: str) -> float:
    # Inspect writes NaN for a sample that its scorer left unscored.
    unscored = isinstance(value, float) and math.isnan(value)
    return math.nan if unscored else word_or_number(value, where, key)


def _fingerprint(sample: dict[str, Any]) -> str:
    question = sample.get("input")
    text = question[:_COMPARED_TEXT] if isinstance(question, str) else ""
    whole = json.dumps([text, sample.get("target")], default=str)
    return hashlib.blake2b(whole.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _metadata(sample: dict[str, Any], name: str | None, where: str) -> str | None:
    if name is None:
        return None
    value: Any = sample.get("metadata")
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            known = list(map(str, sample["metadata"])) if isinstance(sample.get("metadata"), dict) else []
            raise SpecError("the sample's metadata has no such field", file=where, key="metadata", value=name, valid=known[:50])
        value = value[part]
    return name_of(value)


def _cell(path: Path, about: dict[str, Any], rows: list[dict[str, Any]], metric: str, task: str) -> Cell:
    ids = strings(row["id"] for row in rows)
    items, means, first = averaged(ids, np.array([row["scores"].get(metric, math.nan) for row in rows], dtype=np.float64))
    content = strings(row["content"] for row in rows)
    cluster = strings(row["cluster"] for row in rows)
    setup = {"task version": about.get("task_version"), "solver": about.get("solver"), "task arguments": about.get("task_args") or None}
    return checked(
        Cell(
            name_of(about["model"]), "", name_of(task), name_of(metric), items, means, path,
            cluster_N=None if cluster.null_count else pc.take(cluster, pa.array(first)),
            content_N=pc.take(content, pa.array(first)),
            setup={key: name_of(value) for key, value in setup.items() if value is not None},
        )
    )  # fmt: skip
