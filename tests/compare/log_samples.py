"""Logs as their harnesses write them, made small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def lm_eval_rows(values: Sequence[Any], *, metric: str = "acc", filters: Sequence[str] = ("none",), **fields: Any) -> list[dict[str, Any]]:
    """Rows of lm-eval's sample log (0.4.13): one per filter and document, filters one after another."""
    return [
        {
            "doc_id": index, "doc": {"question": f"q{index}", "passage": f"p{index // 2}"}, "target": "a",
            "arguments": {"gen_args_0": {"arg_0": f"q{index}", "arg_1": " a"}}, "resps": [[["-1.0", "False"]]],
            "filtered_resps": [["-1.0", "False"]], "filter": name, "metrics": [metric], "doc_hash": f"d{index}", "prompt_hash": f"p{index}",
            "target_hash": "t", metric: value, **fields,
        }
        for name in filters
        for index, value in enumerate(values)
    ]  # fmt: skip


def inspect_samples(values: Sequence[Any], *, epochs: int = 1, scorer: str = "match") -> list[dict[str, Any]]:
    """Sample summaries of an Inspect log; `values` holds epoch after epoch."""
    per_epoch = len(values) // epochs
    return [
        {"id": index % per_epoch, "epoch": index // per_epoch + 1, "input": f"q{index % per_epoch}", "target": "a",
         "metadata": {"subject": f"s{index % 3}"}, "scores": {scorer: {"value": value, "answer": "a"}}}
        for index, value in enumerate(values)
    ]  # fmt: skip
