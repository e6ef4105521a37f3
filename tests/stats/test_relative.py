import math

import numpy as np
import pytest
from scipy import stats

from harness.stats.crossed import TaskScores, contrast, moments, seed_moments
from harness.stats.relative import RatioUndefinedError, power_product, power_product_tails, ratio, ratio_tails


@pytest.fixture
def fitted():
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.05, (5, 1, 2))
    return moments([TaskScores((rng.random((5, 80, 2)) < np.array([0.6, 0.4]) + luck).astype(float)) for _ in range(2)])


def test_single_seed_interval_is_fiellers():
    rng = np.random.default_rng(1)
    a, b = rng.normal(3, 1, 40), rng.normal(2, 1, 40)
    found = ratio(moments([TaskScores(np.stack([a, b], axis=1)[None])]))
    cov = np.cov(a, b) / 40
    t2 = stats.t.ppf(0.975, 39) ** 2
    # Roots of (a − ρb)² = t²·(v11 − 2ρ·v12 + ρ²·v22).
    coefficients = [b.mean() ** 2 - t2 * cov[1, 1], -2 * (a.mean() * b.mean() - t2 * cov[0, 1]), a.mean() ** 2 - t2 * cov[0, 0]]
    assert found.estimate == pytest.approx(a.mean() / b.mean())
    assert found.interval == pytest.approx(tuple(sorted(np.roots(coefficients).real)), rel=1e-6)


def test_interval_ends_are_where_the_test_turns(fitted):
    found = ratio(fitted)
    for end in found.interval:
        assert 2 * min(ratio_tails(fitted, end)) == pytest.approx(0.05, rel=1e-4)
    assert found.interval[0] < found.estimate < found.interval[1]
    assert found.p_value == pytest.approx(contrast(fitted, (1, -1)).p_value)


def test_ratio_has_no_unit():
    rng = np.random.default_rng(2)
    scores = rng.random((4, 30, 2)) + 0.2
    one, cents = ratio(moments([TaskScores(scores)])), ratio(moments([TaskScores(100 * scores)]), score_range=100)
    assert cents.estimate == pytest.approx(one.estimate)
    assert cents.interval == pytest.approx(one.interval)
    assert cents.se == pytest.approx(one.se)


def test_a_comparator_near_zero_is_refused():
    scores = np.zeros((3, 50, 2))
    scores[:, :20, 0] = 1
    scores[0, 0, 1] = 1
    with pytest.raises(RatioUndefinedError, match="not clearly above 0"):
        ratio(moments([TaskScores(scores)]))


def test_equal_methods_have_ratio_one_and_p_one():
    scores = np.repeat((np.random.default_rng(3).random((3, 60, 1)) < 0.5).astype(float), 2, axis=2)
    found = ratio(moments([TaskScores(scores)]))
    assert found.estimate == 1
    assert found.p_value == 1
    assert found.interval[0] < 1 < found.interval[1]


@pytest.mark.parametrize("n_tasks", [1, 2])
def test_methods_that_answered_alike_are_no_surer_alike_as_a_ratio_than_as_a_difference(n_tasks):
    rng = np.random.default_rng(3)
    tasks = [TaskScores(np.repeat((rng.random((3, 60, 1)) < 0.5).astype(float), 2, axis=2)) for _ in range(n_tasks)]
    fitted = moments(tasks)
    apart, found = contrast(fitted, (1, -1)), ratio(fitted)
    half = apart.interval[1] / fitted.mean_P[1]
    assert found.interval[1] - 1 >= half
    assert found.interval[1] - 1 == pytest.approx(half, rel=0.2)
    assert 2 * ratio_tails(fitted, 1.01)[1] > 0.5
    for end in found.interval:
        assert 2 * min(ratio_tails(fitted, end)) == pytest.approx(0.05, rel=1e-4)


def test_power_product_of_one_over_one_is_close_to_fieller_in_large_samples():
    rng = np.random.default_rng(4)
    fitted = moments([TaskScores((rng.random((10, 2000, 2)) < (0.6, 0.4)).astype(float))])
    log_scale, exact = power_product(fitted, (1, -1)), ratio(fitted)
    assert log_scale.estimate == pytest.approx(exact.estimate)
    assert log_scale.interval == pytest.approx(exact.interval, rel=2e-3)


def test_power_product_tails_are_dual_to_its_interval(fitted):
    found = power_product(fitted, (1, -1))
    low, high = found.interval
    assert power_product_tails(found, low)[0] == pytest.approx(0.025, rel=1e-6)
    assert power_product_tails(found, high)[1] == pytest.approx(0.025, rel=1e-6)
    assert math.log(found.estimate) == pytest.approx((math.log(low) + math.log(high)) / 2)


def test_components_rebuild_the_standard_error(fitted):
    found = ratio(fitted)
    parts = found.components
    assert found.se**2 == pytest.approx(parts.seed / 5 + parts.item / 160 + parts.residual / 800)


def test_counted_equal_values_have_a_point_interval():
    found = ratio(seed_moments(np.tile([30.0, 100.0], (3, 1))))
    assert found.interval == (0.3, 0.3)
