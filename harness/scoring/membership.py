"""Losses of training texts and of others: what a membership-inference attack sees of a student.

The attacker is given a text and the model, and guesses "member" where the loss is low (Yeom et al. 2018), or low against the loss of the
same model before training (the reference-calibrated attack of Carlini et al. 2021 and Watson et al. 2022): texts that are easy for any
model are then no longer taken for members. The loss is the mean negative log-likelihood a token of the response, given its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from harness.core.budget import Ledger
from harness.core.records import CLEAN, SAMPLE_COLUMNS, Status, TrainingRecord
from harness.models.student import Student
from harness.scoring.engine import ScoredStudent, StudentEngine
from harness.scoring.suites import Selection
from harness.seeds import seed_from

MEMBER, NON_MEMBER = "member", "non-member"
LOSS, CALIBRATED = "loss", "calibrated_loss"
Pair = tuple[str, str]


def membership_rows(student: ScoredStudent, training: TrainingRecord | None, selection: Selection, *, ledger: Ledger) -> pd.DataFrame:
    """One row per text and metric: `loss` and `calibrated_loss` in nats a token, target "member" or "non-member".

    Of each side the first `limit` / 2 texts in an order fixed by their content are taken, equally many of both. The reference is the
    student's own starting checkpoint, loaded anew and charged to `ledger`.
    """
    reason = _why_not(student, training)
    if reason:
        return _frame([_row(selection, "none", CALIBRATED, None, Status.SKIPPED, output=reason)])
    assert training is not None
    assert isinstance(student, Student)
    texts = _chosen(training, selection.task.limit if selection.limit is None else selection.limit)
    pairs = [pair for pair, _ in texts]
    trained = response_losses(student, pairs)
    reference = Student.load(student.source, adaptation=None, seed=0, device=student.device)
    reference.attach(ledger)
    untouched = response_losses(reference, pairs)
    rows = []
    for (pair, target), own, before in zip(texts, trained, untouched, strict=True):
        for metric, value in ((LOSS, own), (CALIBRATED, own - before)):
            rows.append(_row(selection, _identity(pair), metric, value, Status.SCORED, prompt=pair[0], output=pair[1], target=target))
    return _frame(rows)


def _why_not(student: ScoredStudent, training: TrainingRecord | None) -> str:
    if training is None:
        return "nothing is known of what this model was trained on"
    if not isinstance(student, Student):
        return "the student's starting checkpoint cannot be loaded as a reference"
    if not training.members:
        return "the student was trained on no text"
    if not training.nonmembers:
        return "there are no held-out texts of the same families to compare with"
    return ""


def _chosen(training: TrainingRecord, limit: int | None) -> list[tuple[Pair, str]]:
    members = dict.fromkeys(training.members)
    sides = {MEMBER: list(members), NON_MEMBER: [pair for pair in dict.fromkeys(training.nonmembers) if pair not in members]}
    size = min(len(side) for side in sides.values())
    size = size if limit is None else min(size, max(1, limit // 2))
    return [(pair, target) for target, side in sides.items() for pair in sorted(side, key=lambda pair: seed_from("subset", *pair))[:size]]


def response_losses(student: Student, pairs: Sequence[Pair]) -> list[float]:
    """Mean negative log-likelihood per token of each response, its end-of-turn token included, given its rendered prompt."""
    engine = StudentEngine(student)
    encoded = []
    for prompt, response in pairs:
        head, tail = student.encode(prompt), student.encode(student.response_text(response))
        encoded.append((None, head or [engine.prefix_token_id], tail))
    with torch.inference_mode():
        found = engine._loglikelihood_tokens(encoded)
    return [-logprob / max(1, len(tail)) for (logprob, _), (_, _, tail) in zip(found, encoded, strict=True)]


def _identity(pair: Pair) -> str:
    return f"{seed_from('text', *pair):016x}"


def _row(
    selection: Selection,
    sample_id: str,
    metric: str,
    value: float | None,
    status: Status,
    *,
    output: str,
    prompt: str = "",
    target: str = "",
) -> dict[str, Any]:
    return {
        "suite": selection.suite.name,
        "task": selection.task.name,
        "perturbation": CLEAN,
        "sample_id": sample_id,
        "cluster": sample_id,
        "metric": metric,
        "value": value if value is None or np.isfinite(value) else None,
        "status": str(status if value is None or np.isfinite(value) else Status.UNPARSED),
        "prompt": prompt,
        "target": target,
        "output": output,
        "generated_tokens": None,
    }


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS)).astype({"value": "Float64", "generated_tokens": "Int64"})
