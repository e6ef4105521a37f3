"""The instruction browser's data: the rows of every corpus with their lineages, each text stored once, packed to fit a stated size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from harness.report import numbers
from harness.report.samples import Texts
from harness.report.text import packed, visible
from harness.report.views import reason_kind

SIZE_LIMIT_BYTES = 600_000
TEXT_LIMIT = 2000
"""Longest text in characters; longer ones are cut in their middle."""

Row = dict[str, Any]


def browser(corpora: Mapping[str, Sequence[Row]], *, size_limit_bytes: int = SIZE_LIMIT_BYTES) -> dict[str, Any]:
    """The packed payload of the instruction browser: packed (see `harness.report.text.packed`), shown and total rows.

    What does not fit is left out by a hash of the trial's and row's names: the same rows in every report.
    """
    rows = [(trial, row) for trial, corpus in corpora.items() for row in corpus]
    share = 1.0
    while True:
        chosen = [(trial, row) for trial, row in rows if _kept(trial, row, share)]
        result = packed(_payload(chosen))
        if len(result["data"]) <= size_limit_bytes or not chosen:
            return {"packed": result, "shown": len(chosen), "total": len(rows), "limit": TEXT_LIMIT}
        share *= 0.6


def _kept(trial: str, row: Row, share: float) -> bool:
    name = f"{trial}/{row.get('id')}"
    return int(hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8], 16) < share * 16**8


def _payload(rows: Sequence[tuple[str, Row]]) -> dict[str, Any]:
    """Rows: [trial, id, operation, kept, reason, family, steps [[operation, text] ...], response, facts]; texts are places in "texts"."""
    texts, trials = Texts(), Texts()

    def text(value: Any) -> int:
        return texts.add(value, TEXT_LIMIT)

    body = [
        [
            trials.add(trial, 200), visible(row.get("id")), text(row.get("operation") or "none"), bool(row.get("kept")),
            text("" if row.get("kept") else reason_kind(row)), text(row.get("family") or "not stated"), _steps(row, text),
            None if row.get("response") is None else text(row["response"]), text(_facts(row)),
        ]
        for trial, row in rows
    ]  # fmt: skip
    return {"texts": texts.list, "trials": trials.list, "rows": body}


def _steps(row: Row, text: Any) -> list[list[int]]:
    lineage = row.get("lineage") or [{"operation": row.get("operation") or "none", "text": row.get("instruction")}]
    return [[text(step.get("operation")), text(step.get("text"))] for step in lineage]


def _facts(row: Row) -> str:
    """What is known of a row beside its texts, in words."""
    verified = row.get("verified")
    parts = ["verified" if verified else "not verified"] if isinstance(verified, bool) else []
    if not row.get("kept"):
        parts.append(str(row.get("reject_reason") or "no reason recorded"))
    if not numbers.absent(row.get("pass_rate")):
        parts.append(f"passed {numbers.percent(row['pass_rate'])} of {numbers.count(row.get('samples'))} samples")
    parts += [f"{name} {numbers.number(value)}" for name, value in (row.get("reward") or {}).items()]
    parts += [f"constraint {constraint.get('kind')} {constraint.get('params')}" for constraint in row.get("constraints") or ()]
    return "; ".join(parts)
