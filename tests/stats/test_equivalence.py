import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from harness.errors import SpecError
from harness.stats.clustered import mean_t
from harness.stats.crossed import paired_difference
from harness.stats.equivalence import equivalence, rope


@pytest.fixture(name="values")
def values_fixture():
    return np.random.default_rng(3).normal(0.01, 0.2, 80)


@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
def test_tost_is_statsmodels_on_independent_items(values, margin):
    found = equivalence(mean_t(values), margin)
    p_value, low, high = DescrStatsW(values).ttost_mean(-margin, margin)
    assert found.p_value == pytest.approx(p_value, abs=1e-12)
    assert (found.p_above_low, found.p_below_high) == pytest.approx((low[1], high[1]), abs=1e-12)


def test_tost_at_alpha_is_the_interval_of_two_alpha_inside(values):
    at_90 = mean_t(values, level=0.9)
    edge = max(abs(bound) for bound in at_90.interval)
    assert equivalence(at_90, edge + 1e-9).equal(0.05)
    assert not equivalence(at_90, edge - 1e-9).equal(0.05)
    assert equivalence(at_90, edge + 1e-9).decision == "practically equal"
    assert equivalence(at_90, edge - 1e-9).decision == "undecided"


def test_degrees_of_freedom_are_the_crossed_models():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.1, (3, 1)) + rng.normal(0, 0.3, (3, 60))
    found = paired_difference(scores, 0 * scores)
    assert found.df < 10
    above = stats.t.sf((found.estimate + 0.3) / found.se, found.df)
    below = stats.t.sf((0.3 - found.estimate) / found.se, found.df)
    both = equivalence(found, 0.3)
    assert both.p_value == pytest.approx(max(above, below))
    inside = stats.t(found.df, found.estimate, found.se)
    assert both.chance_inside == pytest.approx(inside.cdf(0.3) - inside.cdf(-0.3))


def test_shift_and_an_asymmetric_margin(values):
    here, there = equivalence(mean_t(values), (-0.02, 0.06)), equivalence(mean_t(values + 1), (0.98, 1.06))
    assert there.p_value == pytest.approx(here.p_value)
    assert there.p_outside == pytest.approx(here.p_outside)


def test_far_away_is_different(values):
    found = equivalence(mean_t(values + 1), 0.05)
    assert found.decision == "practically different"
    assert found.p_outside < 1e-6 < 0.999 < found.p_value


def test_rope_at_its_edges():
    assert rope((-0.1, 0.1), (-0.1, 0.1)) == "practically equal"
    assert rope((0.1, 0.2), (-0.1, 0.1)) == "undecided"
    assert rope((0.11, 0.2), (-0.1, 0.1)) == "practically different"


@pytest.mark.parametrize("margin", [0, -0.1, float("nan"), float("inf"), (0.1, 0.1), (0.2, 0.1)])
def test_what_is_no_margin_is_refused(values, margin):
    with pytest.raises(SpecError, match="margin"):
        equivalence(mean_t(values), margin)


@pytest.mark.slow
def test_false_equal_at_the_margin_is_at_most_alpha():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(2000):
        difference = 0.1 + rng.normal(0, 0.03, (5, 1)) + rng.normal(0, 0.3, (1, 200)) + rng.normal(0, 0.3, (5, 200))
        wrong += equivalence(paired_difference(difference, 0 * difference), 0.1).equal(0.05)
    assert wrong / 2000 < 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5
