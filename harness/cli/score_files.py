"""Files of `selfteach score`: lm-eval's own layout, and samples.parquet with every row.

<out>/<model>/results_<date>.json and samples_<task>_<date>.jsonl are what `lm_eval --output_path --log_samples` writes, so other tools and
`selfteach compare` read them. Samples without a score are left out there (lm-eval has no word for them); samples.parquet has them.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.records import CLEAN, Status
from harness.verdicts.score_table import ScoreRow

_UNSAFE = re.compile(r"[\"<>:/|\\?*\[\]\s]+")
_SAMPLE = ("sample_id", "prompt", "target", "output")


def write_scores(samples: pd.DataFrame, rows: Sequence[ScoreRow], out: Path, *, model: str, about: dict[str, Any]) -> list[Path]:
    """Writes one checkpoint's scores below `out`/<model>; returns the files, results first.

    Args:
        about: what results.json says of the run besides scores (limits, seed, versions).
    """
    folder = out / _UNSAFE.sub("__", model)
    folder.mkdir(parents=True, exist_ok=True)
    date = datetime.datetime.now().isoformat().replace(":", "-")
    texts = {f"results_{date}.json": json.dumps(_results(samples, rows, model, date, about), indent=2, ensure_ascii=False) + "\n"}
    for row in rows:
        lines = list(_sample_lines(_scored(samples, row)))
        if lines:
            texts[f"samples_{_UNSAFE.sub('_', task_name(row))}_{date}.jsonl"] = "".join(lines)
    written = []
    for name, text in texts.items():
        _write(folder / name, text.encode("utf-8", "replace"))
        written.append(folder / name)
    table = folder / f"samples_{date}.parquet"
    temporary = table.with_suffix(".tmp")
    samples.to_parquet(temporary, index=False)
    os.replace(temporary, table)
    return [*written, table]


def task_name(row: ScoreRow) -> str:
    """The task, with its perturbation where it has one."""
    return row.task if row.perturbation == CLEAN else f"{row.task}@{row.perturbation}"


def _results(samples: pd.DataFrame, rows: Sequence[ScoreRow], model: str, date: str, about: dict[str, Any]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for row in rows:
        part = _scored(samples, row)
        entry: dict[str, Any] = {"alias": task_name(row), "name": task_name(row), "sample_len": row.n_scored}
        for metric, values in part.groupby("metric", sort=False)["value"]:
            scores_N = values.to_numpy(dtype=float)
            entry[f"{metric},none"] = float(scores_N.mean())
            entry[f"{metric}_stderr,none"] = float(scores_N.std(ddof=1) / len(scores_N) ** 0.5) if len(scores_N) > 1 else "N/A"
        results[task_name(row)] = entry
    # Of lm-eval's own tasks shots and version are lm-eval's affair, and not known here.
    ours = [task_name(row) for row in rows if row.suite != "lm_eval"]
    return {
        "results": results,
        "higher_is_better": {task_name(row): {row.metric: row.higher_is_better} for row in rows},
        "n-shot": dict.fromkeys(ours, 0),
        "n-samples": {task_name(row): {"original": row.n_asked, "effective": row.n_scored} for row in rows},
        "versions": dict.fromkeys(ours, 1.0),
        "config": about,
        "model_name": model,
        "model_source": "selfteach",
        "date": date,
    }


def _scored(samples: pd.DataFrame, row: ScoreRow) -> pd.DataFrame:
    mine = (samples["suite"] == row.suite) & (samples["task"] == row.task) & (samples["perturbation"] == row.perturbation)
    return samples[mine & (samples["status"] == Status.SCORED) & samples["value"].notna()]


def _sample_lines(part: pd.DataFrame) -> Iterator[str]:
    """One line a sample, with the metrics that every sample has."""
    if part.empty:
        return
    values: dict[str, dict[str, float]] = {}
    for sample_id, metric, value in zip(part["sample_id"], part["metric"], part["value"].astype(float), strict=True):
        values.setdefault(str(sample_id), {})[str(metric)] = float(value)
    metrics = [str(name) for name in dict.fromkeys(part["metric"]) if all(name in own for own in values.values())]
    for shown in part.drop_duplicates("sample_id").astype(dict.fromkeys((*_SAMPLE, "cluster"), str)).to_dict("records"):
        line = {
            "doc_id": shown["sample_id"],
            "doc": {key: shown[key] for key in ("sample_id", "cluster", "prompt")},
            "target": shown["target"],
            "arguments": {"gen_args_0": {"arg_0": shown["prompt"]}},
            "resps": [[shown["output"]]],
            "filtered_resps": [shown["output"]],
            "filter": "none",
            "metrics": metrics,
            "doc_hash": _hash(shown["sample_id"]),
            "prompt_hash": _hash(shown["prompt"]),
            "target_hash": _hash(shown["target"]),
            **{name: values[shown["sample_id"]][name] for name in metrics},
        }
        yield json.dumps(line, ensure_ascii=False) + "\n"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
