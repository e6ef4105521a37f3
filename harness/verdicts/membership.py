"""Membership inference as an estimand: the AUC of an attack on every trained student, compared over training seeds.

A student's members are the texts it was trained on, so two methods share no items: what pairs them is the training seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.core.records import Status
from harness.stats.membership import MIN_TEXTS, auc
from harness.verdicts.frames import Frames, NotTestableError

METRIC = "calibrated_loss"
"""The attack that knows the untouched student; the plain loss mistakes easy texts for members."""


def membership_auc(treatment: str, comparator: str, results: Frames, seeds: Sequence[int]) -> npt.NDArray[np.float64]:
    """AUC (seeds, 2) of the attack on treatment and comparator.

    Raises:
        NotTestableError: the run scored no membership, or a student has too few texts of a kind; the message says why.
    """
    rows = results.samples[results.samples["task"] == "membership"] if len(results.samples) else results.samples
    if rows.empty:
        raise NotTestableError("the study scores no membership inference (suite holistic, task membership)")
    return np.array([[_student_auc(rows, method, seed) for method in (treatment, comparator)] for seed in seeds])


def _student_auc(rows: pd.DataFrame, method: str, seed: int) -> float:
    mine = rows[(rows["method"] == method) & (rows["seed"] == seed)]
    scored = mine[(mine["status"] == Status.SCORED) & (mine["metric"] == METRIC) & mine["value"].notna()]
    members, others = (-scored.loc[scored["target"] == side, "value"].to_numpy(dtype=float) for side in ("member", "non-member"))
    if min(len(members), len(others)) < MIN_TEXTS:
        reasons = mine.loc[mine["status"] == Status.SKIPPED, "output"]
        reason = str(reasons.iloc[0]) if len(reasons) else f"{len(members)} members and {len(others)} others have a loss"
        raise NotTestableError(f"no membership attack on {method}, seed {seed}: {reason}")
    area, _ = auc(members, others)
    assert math.isfinite(area), (method, seed)
    return area
