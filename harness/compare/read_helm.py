"""HELM's runs: `per_instance_stats.json` with `run_spec.json` beside it. Train trials (other few-shot examples) are averaged."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from harness.compare.cells import Cell, Reading, ReadOptions, averaged, checked, name_of, shown, strings
from harness.compare.json_files import load_json
from harness.compare.numbers import number
from harness.core.records import CLEAN
from harness.errors import SpecError

FILE = "per_instance_stats.json"
_BOOKKEEPING = re.compile(
    r"num_|inference_|training_|finish_reason|batch_size$|prompt_|estimated_|max_prob$|logprob|predicted_index$|platt_|selective_|.*_length$"
)
"""Stats that describe a request, not the quality of its answer."""


def is_helm(value: Any) -> bool:
    """Whether a JSON value is HELM's list of stats by instance."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "instance_id" in value[0] and "stats" in value[0]


def read_helm(path: Path, stats: list[Any], options: ReadOptions) -> Reading:
    """The cells of one run: one per metric that says something of quality."""
    if options.cluster or options.task:
        raise SpecError("HELM's per-instance stats have no such field; it works for lm-eval, Inspect and tables", key="--cluster or --by")
    model, task, setup = _about(path)
    reading = Reading()
    columns: dict[str, tuple[list[str], list[float]]] = {}
    perturbed: Counter[str] = Counter()
    trials = set()
    for index, entry in enumerate(stats):
        where = f"{path}: entry {index + 1}"
        if not isinstance(entry, dict) or "instance_id" not in entry or not isinstance(entry.get("stats"), list):
            raise SpecError("expected instance_id and stats", file=where, value=shown(entry))
        view = _view(entry)
        if view != options.perturbation:
            perturbed[view] += 1
            continue
        trials.add(str(entry.get("train_trial_index", 0)))
        for stat in entry["stats"]:
            name, value = _stat(stat, where)
            if not _BOOKKEEPING.match(name):
                ids, values = columns.setdefault(name, ([], []))
                ids.append(str(entry["instance_id"]))
                values.append(value)
    if perturbed:
        counts = ", ".join(f"{name} {count}" for name, count in perturbed.most_common(6))
        reading.notes.append(
            f"{path.parent.name}: only {options.perturbation} instances are compared; left out: {counts} (--perturbation NAME)"
        )
    if len(trials) > 1:
        reading.notes.append(f"{path.parent.name}: the {len(trials)} train trials of an instance are averaged; they share one checkpoint")
    for metric, (ids, values) in columns.items():
        items, means, _ = averaged(strings(ids), np.array(values, dtype=np.float64))
        cell = Cell(model, "", task, name_of(metric), items, means, path, setup=setup)
        reading.cells.append(checked(cell))
    if not reading.cells:
        seen = ", ".join(perturbed) or "none"
        raise SpecError(f"no {options.perturbation} instance has a stat of quality (views: {seen})", file=path)
    return reading


def _about(path: Path) -> tuple[str, str, dict[str, str]]:
    """Model, task (the run's name without its model) and what should be equal in both runs."""
    place = path.with_name("run_spec.json")
    if not place.is_file():
        return name_of(path.parent.resolve().name), name_of(path.parent.resolve().name), {}
    spec = load_json(place)
    adapter = spec.get("adapter_spec") if isinstance(spec, dict) else None
    if not isinstance(adapter, dict) or not isinstance(spec.get("name"), str):
        raise SpecError("expected name and adapter_spec", file=place, value=shown(spec))
    name, _, arguments = spec["name"].partition(":")
    kept = [part for part in arguments.split(",") if part and not part.startswith(("model=", "model_deployment="))]
    task = name + (f":{','.join(kept)}" if kept else "")
    fields = {"few-shot examples": "max_train_instances", "instructions": "instructions", "adaptation": "method"}
    setup = {label: name_of(adapter[key]) for label, key in fields.items() if adapter.get(key) is not None}
    return name_of(adapter.get("model") or path.parent.resolve().name), name_of(task), setup


def _view(entry: dict[str, Any]) -> str:
    perturbation = entry.get("perturbation")
    return name_of(perturbation.get("name")) if isinstance(perturbation, dict) else CLEAN


def _stat(stat: Any, where: str) -> tuple[str, float]:
    """Name and mean of one stat; a stat that counted nothing has no score."""
    name = stat.get("name") if isinstance(stat, dict) else None
    label = name.get("name") if isinstance(name, dict) else name
    if not isinstance(label, str):
        raise SpecError("expected a stat with a name", file=where, value=shown(stat))
    count = number(stat.get("count"), where, f"{label}.count")
    total = number(stat.get("sum", stat.get("mean")), where, label)
    mean = stat.get("mean")
    return label, number(mean, where, label) if mean is not None else total / count if count > 0 else math.nan
