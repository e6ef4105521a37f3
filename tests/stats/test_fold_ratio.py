"""Ratios over leave-one-family-out folds: against the test over folds, by invariance, and by coverage in worlds with known truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from harness.stats.crossed import TaskScores
from harness.stats.fold_ratio import against, design_components, fold_ratio, tails
from harness.stats.folds import fold_effect
from harness.stats.power import standard_error
from harness.stats.relative import RatioUndefinedError

FloatArray = npt.NDArray[np.float64]


def world(rng: np.random.Generator, ratio: float, *, n_seeds: int = 4, n_folds: int = 5, n_items: int = 12) -> dict[str, TaskScores]:
    """Comparator .5 a family on average, treatment `ratio` times as much; both vary with seed, family, cell and item."""
    family_K = rng.normal(0.5, 0.06, n_folds)
    better_K = rng.normal(0, 0.04, n_folds)
    seeds = rng.normal(0, 0.04, (n_seeds, 1, 2))
    folds = {}
    for fold in range(n_folds):
        level = np.array([ratio * family_K[fold] + better_K[fold], family_K[fold]])
        cells = (
            seeds + rng.normal(0, 0.03, (n_seeds, 1, 2)) + rng.normal(0, 0.1, (1, n_items, 2)) + rng.normal(0, 0.1, (n_seeds, n_items, 2))
        )
        folds[f"family {fold}"] = TaskScores(level + cells)
    return folds


def test_the_interval_holds_the_ratios_that_the_test_does_not_reject() -> None:
    folds = world(np.random.default_rng(0), 1.2)
    found = fold_ratio(folds)
    means = [np.mean([scores.values_S_N_P[..., side].mean() for scores in folds.values()]) for side in (0, 1)]
    assert found.estimate == pytest.approx(means[0] / means[1])
    for bound in found.interval:
        assert 2 * min(tails(against(folds, bound))) == pytest.approx(0.05, abs=1e-6)
    assert found.p_value == pytest.approx(fold_effect(folds).p_value)
    above, below = tails(against(folds, found.interval[0] - 0.01))
    assert above < 0.025 < below


def test_scaling_the_treatment_scales_the_ratio_and_turning_it_round_inverts_it() -> None:
    folds = world(np.random.default_rng(1), 1.2)
    found = fold_ratio(folds)
    double = fold_ratio({name: TaskScores(scores.values_S_N_P * np.array([2.0, 1.0])) for name, scores in folds.items()})
    assert (double.estimate, *double.interval) == pytest.approx((2 * found.estimate, *(2 * end for end in found.interval)))
    turned = fold_ratio({name: TaskScores(scores.values_S_N_P[..., ::-1]) for name, scores in folds.items()})
    assert turned.estimate == pytest.approx(1 / found.estimate)
    assert turned.interval == pytest.approx((1 / found.interval[1], 1 / found.interval[0]), rel=1e-6)


def test_a_comparator_that_may_be_nothing_has_no_ratio() -> None:
    folds = world(np.random.default_rng(2), 1.2)
    for scores, level in zip(folds.values(), (-0.6, 0.0, 0.4, 0.0, -0.5), strict=True):
        scores.values_S_N_P[..., 1] += level
    with pytest.raises(RatioUndefinedError, match="not clearly above 0"):
        fold_ratio(folds)


def test_the_components_for_designs_give_the_variance_of_the_effect() -> None:
    found = fold_effect(world(np.random.default_rng(3), 1.1))
    parts = design_components(found)
    assert parts.seed is not None
    assert parts.residual is not None
    variance = parts.seed / found.n_seeds + parts.item / found.n_items + parts.residual / (found.n_seeds * found.n_items)
    assert min(parts.seed, parts.item) > 0, "no part of this world is cut off at 0"
    assert variance == pytest.approx(found.se**2)
    se, df = standard_error(parts, n_seeds=found.n_seeds, n_items=found.n_items, item_df=found.n_folds - 1)
    assert se == pytest.approx(found.se)
    assert df == pytest.approx(found.df, rel=0.05)
    assert standard_error(parts, n_seeds=found.n_seeds, n_items=found.n_items)[1] > 2 * df


def test_methods_that_scored_alike_are_no_surer_alike_as_a_ratio_than_as_a_difference() -> None:
    rng = np.random.default_rng(5)
    folds = {f"f{at}": TaskScores(np.repeat((rng.random((3, 40, 1)) < 0.5).astype(float), 2, axis=2)) for at in range(4)}
    apart, found = fold_effect(folds), fold_ratio(folds)
    half = apart.interval[1] / np.mean([fold.values_S_N_P.mean() for fold in folds.values()])
    assert found.interval[1] - 1 >= 0.95 * half
    assert found.interval[0] < 1 < found.interval[1]
    assert tails(against(folds, 1.01))[1] > 0.25
    assert against(folds, 1.0).se == apart.se


def test_95_percent_cover_about_that() -> None:
    rng = np.random.default_rng(4)
    intervals = [fold_ratio(world(rng, 1.15)).interval for _ in range(300)]
    assert 0.92 <= np.mean([low <= 1.15 <= high for low, high in intervals]) <= 0.99
