"""A paired difference over leave-one-family-out folds × training seeds, with items inside folds.

Fold k trains without family k and is scored on family k alone; the same seeds train every fold. The cell means over a fold's items follow
    d_sk = μ + a_s + f_k + e_sk,      seeds and families both random,
their mean squares give A = MS_S/(S·K), B = MS_F/(S·K), C = MS_E/(S·K), and were folds independent, Var(mean) = A + max(B − C, 0).
They are not: any two folds share K − 2 of their K − 1 training families, so what the training families contribute moves all folds alike,
hardly shows between them and is missed. No estimate from the folds themselves can find it (Bengio & Grandvalet 2004). Nadeau & Bengio
(2003) assume a correlation of n_test / (n_test + n_train) = 1/K, by which the fold part counts 1 + K/(K − 1) times:
    Var(mean) = A + (1 + K/(K − 1))·max(B − C, 0),    df = Var² / (A²/(S − 1) + (fold part)²/(K − 1))   (Satterthwaite).
In simulated worlds with 3 to 5 seeds × 4 to 6 folds where a family's worth as training data varies as much as its difficulty as a test
(about what is assumed), 95 % intervals cover .94 to .97; with no overlap effect .96 to .97, with four times its variance .93 to .94; the
uncorrected crossed interval covers .88 to .97 (tests/stats/test_folds.py). What must hold besides: the families are a sample of those
one speaks of, and weigh the same. For these families and no others see `these_families`, whose error is that of seeds and items alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.errors import SpecError
from harness.stats.crossed import Components, Estimate, TaskScores, complete_items, contrast, moments
from harness.stats.freedom import FloatArray
from harness.stats.student import t_quantile, t_tail


@dataclass(frozen=True)
class FoldEffect:
    """Mean of treatment − comparator over folds, equal weights.

    Attributes:
        interval, p_value: of the mean over families like these, the training sets' overlap allowed for.
        these_families: the same mean for these families alone.
        per_fold: each fold's difference.
        components: variance per seed, per family ("item") and per cell ("residual"), at least 0.
    """

    estimate: float
    se: float
    df: float
    interval: tuple[float, float]
    level: float
    null: float
    p_value: float
    these_families: Estimate
    per_fold: dict[str, float]
    components: Components
    n_folds: int
    n_seeds: int
    n_items: int
    n_dropped: int


def fold_effect(folds: Mapping[str, TaskScores], *, null: float = 0.0, level: float = 0.95, score_range: float = 1.0) -> FoldEffect:
    """The effect over folds.

    Args:
        folds: per left-out family the scores (S, N_k, 2) of treatment and comparator on its items, the same S seeds in every fold; an item
            without a score (NaN) anywhere in its fold is dropped and counted.
        null: value that `p_value` (two-sided) tests.
        score_range: largest possible distance between two scores.
    Raises:
        SpecError: fewer than 2 folds or seeds, folds on different seeds, or a fold with fewer than 2 complete items or clusters.
    """
    complete = complete_folds(folds)
    n_dropped = sum(fold.values_S_N_P.shape[1] - complete[name].values_S_N_P.shape[1] for name, fold in folds.items())
    these = contrast(moments(list(complete.values())), (1, -1), null=null, level=level, score_range=score_range, n_dropped=n_dropped)
    cells_S_K = np.stack([(fold.values_S_N_P[..., 0] - fold.values_S_N_P[..., 1]).mean(axis=1) for fold in complete.values()], axis=1)
    seed, fold, residual = _contributions(cells_S_K)
    n_seeds, n_folds = cells_S_K.shape
    fold_part = (1 + n_folds / (n_folds - 1)) * max(fold - residual, 0.0)
    variance = seed + fold_part
    if these.degenerate or variance == 0:
        # No variation anywhere: what is known of these families is the most that can be said.
        variance, df = these.se**2, these.df
    else:
        df = variance**2 / (seed**2 / (n_seeds - 1) + fold_part**2 / (n_folds - 1))
    estimate, se = float(cells_S_K.mean()), math.sqrt(variance)
    half = float(t_quantile((1 + level) / 2, df)) * se if se else 0.0
    components = Components(n_seeds * max(seed - residual, 0.0), n_folds * max(fold - residual, 0.0), n_seeds * n_folds * residual)
    p_value = min(1.0, 2 * float(t_tail(abs(estimate - null), se, df)))
    per_fold = dict(zip(complete, map(float, cells_S_K.mean(axis=0)), strict=True))
    return FoldEffect(
        estimate, se, df, (estimate - half, estimate + half), level, null, p_value, these, per_fold, components, n_folds, n_seeds,
        these.n_items, n_dropped,
    )  # fmt: skip


def _contributions(cells_S_K: FloatArray) -> tuple[float, float, float]:
    """A, B and C: what seeds, folds and cells contribute to the variance of the mean."""
    n_seeds, n_folds = cells_S_K.shape
    rest = cells_S_K - cells_S_K.mean(axis=0) - cells_S_K.mean(axis=1, keepdims=True) + cells_S_K.mean()
    residual = float((rest**2).sum()) / ((n_seeds - 1) * (n_folds - 1) * n_seeds * n_folds)
    return float(cells_S_K.mean(axis=1).var(ddof=1)) / n_seeds, float(cells_S_K.mean(axis=0).var(ddof=1)) / n_folds, residual


def complete_folds(folds: Mapping[str, TaskScores]) -> dict[str, TaskScores]:
    """The items that have every score.

    Raises:
        SpecError: see `fold_effect`.
    """
    if len(folds) < 2:
        raise SpecError("at least 2 folds are needed", key="folds", value=len(folds))
    shapes = {fold.values_S_N_P.shape[0::2] for fold in folds.values()}
    if len(shapes) > 1 or next(iter(shapes))[1] != 2:
        raise SpecError("every fold needs treatment and comparator on the same seeds", key="folds", value=sorted(shapes))
    if next(iter(shapes))[0] < 2:
        raise SpecError("at least 2 training seeds are needed: one training of each cannot tell the method from the run", key="folds")
    kept: dict[str, TaskScores] = {}
    for name, fold in folds.items():
        keep_N = complete_items(fold.values_S_N_P)
        kept[name] = TaskScores(fold.values_S_N_P[:, keep_N], None if fold.clusters_N is None else np.asarray(fold.clusters_N)[keep_N])
    return kept
