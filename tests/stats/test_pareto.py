import numpy as np
import pytest
from scipy import stats

from harness.errors import SpecError
from harness.stats.crossed import TaskScores, moments, paired_difference
from harness.stats.pareto import front, pareto


def fitted(values_S_N_P):
    return moments([TaskScores(values_S_N_P)])


def study(rng, *, seeds=5, items=60, means=(0.3, 0.4), seed_sd=0.03, item_sd=0.2):
    shape = (seeds, 1, len(means))
    item_1_N_1 = rng.normal(0, item_sd, (1, items, 1))
    return np.asarray(means) + rng.normal(0, seed_sd, shape) + item_1_N_1 + rng.normal(0, 0.1, (seeds, items, len(means)))


def test_front_of_plain_points():
    cost, quality = np.array([0.0, 1.0, 2.0, 3.0, 2.0]), np.array([0.2, 0.5, 0.4, 0.6, 0.5])
    assert front(cost, quality).tolist() == [True, True, False, True, False]


def test_equal_points_are_both_on_the_front():
    assert front(np.array([1.0, 1.0]), np.array([0.5, 0.5])).tolist() == [True, True]


def test_a_cost_within_the_tolerance_counts_as_equal():
    cost, quality = np.array([100.0, 101.0]), np.array([0.4, 0.6])
    assert front(cost, quality).tolist() == [True, True]
    assert front(cost, quality, tolerance=0.02).tolist() == [False, True]
    assert front(cost, np.array([0.5, 0.5]), tolerance=0.02).tolist() == [True, True], "cheaper by less than the tolerance is not cheaper"


def test_front_ignores_order_and_scale():
    rng = np.random.default_rng(0)
    cost, quality, order = rng.random((50, 6)), rng.random((50, 6)), rng.permutation(6)
    here = front(cost, quality, tolerance=0.1)
    assert (front(7 * cost, 3 * quality + 1, tolerance=0.1) == here).all()
    assert (front(cost[:, order], quality[:, order], tolerance=0.1) == here[:, order]).all()
    assert here.any(axis=1).all(), "someone is always on the front"


def test_share_at_equal_cost_is_one_minus_the_paired_one_sided_p():
    """Two methods at one cost: the worse is on the front when its score is at least the better's, which the paired test measures."""
    rng = np.random.default_rng(1)
    values = study(rng, seeds=6, means=(0.30, 0.33), item_sd=0.0)
    quality = values.mean(axis=1)
    worse, better = pareto(np.full((6, 2), 5.0), quality, fitted(values), rng=rng, draws=100_000)
    difference = quality[:, 1] - quality[:, 0]
    expected = stats.t.sf(difference.mean() / (difference.std(ddof=1) / np.sqrt(6)), 5)
    assert worse.share_on_front == pytest.approx(expected, abs=0.02)
    assert worse.share_on_front + better.share_on_front == pytest.approx(1, abs=1e-9)
    assert paired_difference(values[:, :, 1], values[:, :, 0]).p_greater(0) == pytest.approx(worse.share_on_front, abs=0.03)


def test_cheaper_is_on_the_front_however_bad():
    rng = np.random.default_rng(2)
    values = study(rng, means=(0.1, 0.5))
    cost = np.column_stack([np.full(5, 1.0), 10 + rng.normal(0, 0.1, 5)])
    assert [place.share_on_front for place in pareto(cost, values.mean(axis=1), fitted(values), rng=rng)] == [1.0, 1.0]


def test_region_has_the_t_intervals_of_its_margins_and_their_correlation():
    rng = np.random.default_rng(3)
    luck_S = rng.normal(0, 1, 8)
    values = 0.4 + 0.05 * luck_S[:, None, None] + np.zeros((8, 40, 1)) + rng.normal(0, 0.001, (8, 40, 1))
    cost = (20 - 2 * luck_S)[:, None]
    (place,) = pareto(cost, values.mean(axis=1), fitted(values), rng=rng)
    assert place.cost_se == pytest.approx(cost.std(ddof=1) / np.sqrt(8))
    assert place.quality_se == pytest.approx(values.mean(axis=1).std(ddof=1) / np.sqrt(8), rel=0.01)
    assert place.correlation == pytest.approx(-1, abs=0.01), "the dearer training is the worse one"
    assert place.radius == pytest.approx(stats.t.ppf(0.975, 7), rel=0.05), "on a line there is but one way to be wrong"


def test_radius_of_unrelated_cost_and_quality_is_that_of_a_bivariate_t():
    rng = np.random.default_rng(9)
    values = 0.4 + rng.normal(0, 0.05, (8, 1, 1)) + rng.normal(0, 0.001, (8, 40, 1))
    (place,) = pareto(20 + rng.normal(0, 1, (8, 1)), values.mean(axis=1), fitted(values), rng=rng, draws=50_000)
    assert place.radius == pytest.approx(np.sqrt(2 * stats.f.ppf(0.95, 2, 7)), rel=0.03)


def test_region_without_spread_of_cost_is_the_interval_of_quality():
    rng = np.random.default_rng(4)
    values = study(rng, means=(0.4,), item_sd=0.0)
    (place,) = pareto(np.full((5, 1), 3.0), values.mean(axis=1), fitted(values), rng=rng, draws=50_000)
    assert place.cost_se == 0
    assert place.radius == pytest.approx(stats.t.ppf(0.975, 4), rel=0.1)


def test_regions_hold_the_true_means_as_often_as_they_say():
    rng, held, studies = np.random.default_rng(5), 0, 300
    for _ in range(studies):
        luck = rng.normal(0, 1, (5, 1))
        values = 0.4 + 0.03 * luck[:, None] + rng.normal(0, 0.3, (1, 50, 1)) + rng.normal(0, 0.1, (5, 50, 1))
        cost = 10 + 0.5 * luck + rng.normal(0, 0.5, (5, 1))
        (place,) = pareto(cost, values.mean(axis=1), fitted(values), rng=rng, draws=2000)
        u, v, r = (place.cost - 10) / place.cost_se, (place.quality - 0.4) / place.quality_se, place.correlation
        held += (u * u - 2 * r * u * v + v * v) / (1 - r * r) <= place.radius**2
    assert 0.92 <= held / studies <= 0.99


def test_one_seed_has_the_spread_of_items_only():
    rng = np.random.default_rng(6)
    values = study(rng, seeds=1, means=(0.4, 0.4))
    places = pareto(np.array([[1.0, 1.0]]), values.mean(axis=1), fitted(values), rng=rng)
    assert [place.cost_se for place in places] == [0, 0]
    assert places[0].quality_se == pytest.approx(values[0, :, 0].std(ddof=1) / np.sqrt(60))


def test_same_generator_same_places():
    values = study(np.random.default_rng(7))
    found = [pareto(np.ones((5, 2)), values.mean(axis=1), fitted(values), rng=np.random.default_rng(seed), draws=500) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("cost", [np.ones((5, 3)), np.full((5, 2), np.nan), np.ones(5)])
def test_wrong_costs_are_refused(cost):
    values = study(np.random.default_rng(8))
    with pytest.raises(SpecError, match="costs and scores"):
        pareto(cost, values.mean(axis=1), fitted(values), rng=np.random.default_rng(0))
