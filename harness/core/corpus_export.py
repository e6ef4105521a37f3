"""A corpus in the formats that `datasets` and TRL's trainers read.

There is no preference format: a preference needs the text of a worse response, and a corpus keeps only accepted ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.core.corpus import COLUMNS, REWARD_PARTS, Row
from harness.core.store import write_text

if TYPE_CHECKING:
    from datasets import Dataset, Features

Format = Literal["sft", "prompt-completion", "datasets"]


def corpus_features() -> Features:
    """The column types of a corpus, whatever its rows happen to hold: `load_dataset("json", ..., features=corpus_features())`.

    Parameters of constraints differ from kind to kind, and reasons from row to row, so they are JSON columns.
    """
    from datasets import Features, Json, List, Value

    text, number = Value("string"), Value("float64")
    types = {
        **dict.fromkeys(COLUMNS, text),
        "lineage": List({"operation": text, "text": text}),
        "constraints": List({"kind": text, "params": Json()}),
        "reward": dict.fromkeys(REWARD_PARTS, number),
        "verified": Value("bool"),
        "kept": Value("bool"),
        "samples": Value("int64"),
        "pass_rate": number,
        "step": Value("int64"),
        "rejected_samples": Json(),
    }
    return Features({name: types[name] for name in COLUMNS})


def as_dataset(rows: Sequence[Row]) -> Dataset:
    """Rows as a data set with the columns of `corpus_features`; keys of a plug-in's own are left out."""
    from datasets import Dataset

    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    # Without parameters is an empty object, never null.
    columns["constraints"] = [[{"kind": one["kind"], "params": one.get("params") or {}} for one in row["constraints"]] for row in rows]
    return Dataset.from_dict(columns, features=corpus_features())


def select(rows: Sequence[Row], form: Format, *, rejected: bool = False, verified_by: str | None = None) -> list[Row]:
    """The rows to export: the kept ones, with `rejected` the others too; only those with a response, unless as a data set."""
    return [
        row
        for row in rows
        if (row["kept"] or rejected)
        and (form == "datasets" or row["response"] is not None)
        and (verified_by is None or (row["verified"] and row["verified_by"] == verified_by))
    ]


def write_export(rows: Sequence[Row], form: Format, path: Path) -> None:
    """Writes rows atomically: JSON lines in TRL's conversational formats, or the whole rows as Parquet."""
    if form == "datasets":
        _write_parquet(as_dataset(rows), path)
        return
    convert = _messages if form == "sft" else _prompt_completion
    write_text(path, "".join(json.dumps(convert(row), ensure_ascii=True) + "\n" for row in rows))


def _messages(row: Row) -> Row:
    return {"messages": [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["response"]}]}


def _prompt_completion(row: Row) -> Row:
    prompt, completion = _messages(row)["messages"]
    return {"prompt": [prompt], "completion": [completion]}


def _write_parquet(dataset: Dataset, path: Path) -> None:
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = are_progress_bars_disabled()
    disable_progress_bars()
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        dataset.to_parquet(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
        if not quiet:
            enable_progress_bars()
