"""The sample browser's data: every answer of every method, each text stored once, packed to fit a stated size."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from harness.core.records import CLEAN
from harness.report import numbers
from harness.report.text import packed, shorten, visible

SIZE_LIMIT_BYTES = 3_400_000
"""Largest packed size; leaves room for the rest of a report below 5 MB."""
_LIMITS = ((4000, 6000), (1200, 1600), (400, 600))
"""Longest output and prompt in characters, tried in turn until the packed size fits; after the last, items are left out."""


class Texts:
    """Each different text once, referred to by its place."""

    def __init__(self) -> None:
        self.list: list[str] = []
        self._place: dict[str, int] = {}

    def add(self, value: Any, limit: int) -> int:
        text = "" if value is None or value is pd.NA or value != value else shorten(visible(value), limit)
        if text not in self._place:
            self._place[text] = len(self.list)
            self.list.append(text)
        return self._place[text]


def browser(
    samples: pd.DataFrame,
    methods: list[str],
    *,
    metrics: Mapping[str, str] = MappingProxyType({}),
    size_limit_bytes: int = SIZE_LIMIT_BYTES,
) -> dict[str, Any]:
    """The packed payload of the sample browser, and what had to be left out of it.

    Args:
        metrics: each task's primary metric, by which an answer is called right or wrong; the first one written where it is not named.
    Returns:
        packed: see `harness.report.text.packed`; shown, total: items shown and items there are;
        output_limit, prompt_limit: characters after which a text is cut in its middle.
    """
    total = len(samples[["suite", "task", "sample_id"]].drop_duplicates()) if len(samples) else 0
    shown = samples
    share = 1.0
    for attempt in range(12):
        output_limit, prompt_limit = _LIMITS[min(attempt, len(_LIMITS) - 1)]
        if attempt >= len(_LIMITS):
            share *= 0.6
            shown = _fewer_items(samples, share)
        payload = _payload(shown, methods, metrics, output_limit, prompt_limit)
        result = packed(payload)
        if len(result["data"]) <= size_limit_bytes:
            break
    return {"packed": result, "shown": len(payload["items"]), "total": total, "output_limit": output_limit, "prompt_limit": prompt_limit}


def _fewer_items(samples: pd.DataFrame, share: float) -> pd.DataFrame:
    """About `share` of the items, chosen by a hash of their names: the same in every report, of every method and perturbation."""

    def kept(sample_id: object) -> bool:
        return int(hashlib.sha256(str(sample_id).encode()).hexdigest()[:8], 16) < share * 16**8

    return samples[samples["sample_id"].map(kept)]


def _payload(samples: pd.DataFrame, methods: list[str], metrics: Mapping[str, str], output_limit: int, prompt_limit: int) -> dict[str, Any]:
    """Items with their versions and answers.

    An item: [task, name, {perturbation: version}]; a version: [prompt, target, answers]; an answer: [method, seed, output, status,
    [[metric, value] ...]], the task's primary metric first. All but values are places in the payload's lists.
    """
    texts, lists = Texts(), {name: Texts() for name in ("tasks", "perturbations", "metrics", "statuses")}
    seeds = sorted({int(seed) for seed in samples["seed"]}) if len(samples) else []
    seed_place, method_place = {seed: place for place, seed in enumerate(seeds)}, {name: place for place, name in enumerate(methods)}
    lists["perturbations"].add(CLEAN, 99)
    items: dict[Hashable, list[Any]] = {}
    answers: dict[Hashable, list[Any]] = {}
    for row in samples.to_dict("records"):
        method, seed, perturbation = (
            method_place[row["method"]],
            seed_place[int(row["seed"])],
            lists["perturbations"].add(row["perturbation"], 99),
        )
        key = (row["suite"], row["task"], row["sample_id"])
        if key not in items:
            items[key] = [lists["tasks"].add(row["task"], 200), visible(row["sample_id"]), {}]
        version = items[key][2].setdefault(
            perturbation, [texts.add(row["prompt"], prompt_limit), texts.add(row["target"], output_limit), []]
        )
        place = (*key, perturbation, method, seed)
        if place not in answers:
            answers[place] = [method, seed, texts.add(row["output"], output_limit), lists["statuses"].add(row["status"], 99), []]
            version[2].append(answers[place])
        value = None if numbers.absent(row["value"]) else round(float(row["value"]), 4)
        scores = answers[place][4]
        scores.insert(0 if row["metric"] == metrics.get(row["task"]) else len(scores), [lists["metrics"].add(row["metric"], 99), value])
    return {
        "texts": texts.list,
        "methods": [visible(name) for name in methods],
        "seeds": seeds,
        **{name: entries.list for name, entries in lists.items()},
        "items": list(items.values()),
    }
