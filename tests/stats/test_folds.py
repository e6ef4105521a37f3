"""Effects over leave-one-family-out folds: by hand, by invariance, and by coverage in worlds with known truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from harness.errors import SpecError
from harness.stats.crossed import TaskScores, contrast, moments
from harness.stats.folds import fold_effect
from harness.stats.student import t_quantile

FloatArray = npt.NDArray[np.float64]


def folds_of(difference_S_K_N: FloatArray) -> dict[str, TaskScores]:
    return {
        f"family {k}": TaskScores(np.stack([difference_S_K_N[:, k], np.zeros_like(difference_S_K_N[:, k])], axis=-1))
        for k in range(difference_S_K_N.shape[1])
    }


def world(
    rng: np.random.Generator, n_seeds: int, n_folds: int, *, n_items: int = 12, test_sd: float = 0.04, train_sd: float = 0.04,
    seed_sd: float = 0.02, cell_sd: float = 0.03, item_sd: float = 0.1,
) -> FloatArray:  # fmt: skip
    """Differences (S, K, N) whose true mean is 0: a fold's is what its family does as a test plus what the others do as training data."""
    as_test_K, as_training_K = rng.normal(0, test_sd, n_folds), rng.normal(0, train_sd, n_folds)
    trained_K = (as_training_K.sum() - as_training_K) / (n_folds - 1)
    seeds_S, cells_S_K = rng.normal(0, seed_sd, n_seeds), rng.normal(0, cell_sd, (n_seeds, n_folds))
    items_K_N, rest = rng.normal(0, item_sd, (n_folds, n_items)), rng.normal(0, item_sd, (n_seeds, n_folds, n_items))
    return seeds_S[:, None, None] + (as_test_K + trained_K)[None, :, None] + cells_S_K[..., None] + items_K_N + rest


def test_by_hand() -> None:
    """Two seeds, two folds, cell means (1, 3) and (2, 6): A = 1/2·½·..., by the mean squares of a two-way table."""
    cells_S_K = np.array([[1.0, 3.0], [2.0, 6.0]])
    values = np.stack([cells_S_K - 0.01, cells_S_K + 0.01], axis=-1)
    found = fold_effect(folds_of(values), score_range=10)
    seed, fold, residual = 2.0 / 2, 4.5 / 2, 0.25
    # Seed means 2 and 4 (variance 2), fold means 1.5 and 4.5 (4.5); interaction ±.5 in each cell: MS_E = 1, over S·K = 4.
    assert found.estimate == pytest.approx(3.0)
    part = 3 * (fold - residual)
    assert found.se**2 == pytest.approx(seed + part)
    assert found.df == pytest.approx((seed + part) ** 2 / (seed**2 + part**2))
    half = float(t_quantile(0.975, found.df)) * found.se
    assert found.interval == pytest.approx((3 - half, 3 + half))
    assert found.per_fold == pytest.approx({"family 0": 1.5, "family 1": 4.5})
    assert (found.components.seed, found.components.item, found.components.residual) == pytest.approx((1.5, 4.0, 1.0))


def test_invariances() -> None:
    rng = np.random.default_rng(1)
    values = world(rng, 4, 5)
    found = fold_effect(folds_of(values))
    swapped = fold_effect({name: TaskScores(fold.values_S_N_P[..., ::-1]) for name, fold in folds_of(values).items()})
    assert swapped.estimate == pytest.approx(-found.estimate)
    assert swapped.p_value == pytest.approx(found.p_value)
    scaled = fold_effect(folds_of(10 * values + 1), score_range=10)
    assert scaled.estimate == pytest.approx(10 * found.estimate + 1)
    assert scaled.se == pytest.approx(10 * found.se)
    mixed = fold_effect(dict(reversed(list(folds_of(values[::-1]).items()))))
    assert mixed.interval == pytest.approx(found.interval)
    assert fold_effect(folds_of(values), null=found.estimate).p_value == pytest.approx(1.0)


def test_these_families_alone_are_the_crossed_macro_mean() -> None:
    folds = folds_of(world(np.random.default_rng(2), 4, 5))
    found = fold_effect(folds)
    crossed = contrast(moments(list(folds.values())), (1, -1))
    assert found.these_families == crossed
    assert found.estimate == pytest.approx(crossed.estimate)
    assert found.se > crossed.se


def test_no_variation_at_all_is_no_certainty() -> None:
    flat = np.zeros((3, 4, 6))
    found = fold_effect(folds_of(flat))
    assert found.se == pytest.approx(found.these_families.se)
    assert found.se > 0


def test_items_without_a_score_are_dropped_and_counted() -> None:
    values = world(np.random.default_rng(3), 3, 4)
    gaps = values.copy()
    gaps[1, 2, 5] = np.nan
    found, kept = fold_effect(folds_of(gaps)), folds_of(values)
    kept["family 2"] = TaskScores(np.delete(kept["family 2"].values_S_N_P, 5, axis=1))
    assert found.n_dropped == 1
    assert found.interval == pytest.approx(fold_effect(kept).interval)


@pytest.mark.parametrize(
    ("shape", "message"), [((3, 1, 5), "at least 2 folds"), ((1, 4, 5), "at least 2 training seeds"), ((3, 4, 1), "at least 2 items")]
)
def test_too_little_is_refused(shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        fold_effect(folds_of(np.zeros(shape)))


def coverage(n_seeds: int, n_folds: int, repeats: int, rng_seed: int, **sds: float) -> float:
    rng = np.random.default_rng(rng_seed)
    intervals = [fold_effect(folds_of(world(rng, n_seeds, n_folds, **sds))).interval for _ in range(repeats)]
    return float(np.mean([low <= 0 <= high for low, high in intervals]))


def test_95_percent_cover_about_that() -> None:
    assert 0.93 <= coverage(3, 5, 1200, 0) <= 0.975


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [3, 4, 5])
@pytest.mark.parametrize("n_folds", [4, 5, 6])
def test_95_percent_cover_93_to_97(n_seeds: int, n_folds: int) -> None:
    """Under the assumption: a family's worth as training data varies as much as its difficulty as a test."""
    assert 0.935 <= coverage(n_seeds, n_folds, 6000, 1) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("train_sd", "low", "high"), [(0.0, 0.945, 0.98), (0.08, 0.90, 0.955)])
def test_away_from_the_assumption(train_sd: float, low: float, high: float) -> None:
    """Without an overlap effect intervals are somewhat wide, with four times its variance somewhat narrow."""
    assert low <= coverage(4, 5, 6000, 2, train_sd=train_sd) <= high
