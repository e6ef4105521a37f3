"""Is A more robust than B: the difference of their losses under perturbation, paired by seed and item.

(A clean − A perturbed) − (B clean − B perturbed), negative where A loses less. Two separate tests, one of A's loss and one of B's, do not
answer it: a loss that is significant and one that is not need not differ (Gelman & Stern 2006).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.stats.crossed import Estimate, Moments, TaskScores, contrast, moments

WEIGHTS = np.array([1.0, -1.0, -1.0, 1.0])
"""Of the columns A clean, A perturbed, B clean, B perturbed."""


def loss_difference(tasks: Sequence[TaskScores], *, level: float = 0.95, score_range: float = 1.0) -> Estimate:
    """Loss of A − loss of B, mean over tasks, with the crossed model's interval.

    Args:
        tasks: scores (S, N, 4) in the order of `WEIGHTS`; a perturbed score is the item's mean over its perturbed versions.
        score_range: largest possible distance between two scores of one column.
    """
    return loss_contrast(moments(tasks), level=level, score_range=score_range)


def loss_contrast(fitted: Moments, *, level: float = 0.95, score_range: float = 1.0) -> Estimate:
    """`loss_difference` from moments of the same four columns."""
    return contrast(fitted, WEIGHTS, level=level, score_range=score_range)
