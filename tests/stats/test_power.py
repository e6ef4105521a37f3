from itertools import pairwise

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from harness.errors import SpecError
from harness.stats.crossed import Components, paired_difference
from harness.stats.power import cheapest_design, designs_needed, items_needed, mde, power, seeds_needed, standard_error

PARTS = Components(0.01, 0.2, 0.3)


def test_mde_is_the_one_sample_t_tests_where_seeds_are_all_that_varies():
    found = mde(Components(0.04, 0.0, 0.0), n_seeds=6, n_items=100, power=0.9)
    reference = 0.2 * TTestPower().solve_power(nobs=6, alpha=0.05, power=0.9)
    # statsmodels counts rejections in the wrong direction as power, which is below 1e-6 here.
    assert found == pytest.approx(reference, rel=1e-4)


def test_more_seeds_items_and_alpha_detect_less():
    here = mde(PARTS, n_seeds=5, n_items=100)
    assert mde(PARTS, n_seeds=10, n_items=100) < here
    assert mde(PARTS, n_seeds=5, n_items=400) < here
    assert mde(PARTS, n_seeds=5, n_items=100, alpha=0.2) < here < mde(PARTS, n_seeds=5, n_items=100, power=0.95)


def test_items_cannot_replace_seeds():
    floor = mde(Components(0.01, 0.0, 0.0), n_seeds=5, n_items=1)
    assert mde(PARTS, n_seeds=5, n_items=10**7) == pytest.approx(floor, rel=1e-3)


def test_seeds_needed_is_the_smallest_that_suffices():
    seeds = seeds_needed(PARTS, 0.15, n_items=200)
    assert mde(PARTS, n_seeds=seeds, n_items=200) <= 0.15 < mde(PARTS, n_seeds=seeds - 1, n_items=200)
    assert seeds_needed(PARTS, 1e-4, n_items=200) is None
    assert seeds_needed(PARTS, 0.0, n_items=200) is None


def test_designs_trade_seeds_for_items():
    designs = designs_needed(Components(0.001, 0.2, 0.3), 0.1, n_items=50)
    assert [design.n_items for design in designs] == sorted({design.n_items for design in designs})
    assert len(designs) >= 2
    assert all(first.n_seeds > second.n_seeds for first, second in pairwise(designs))


def test_rejection_rate_at_the_mde_is_the_power():
    rng = np.random.default_rng(0)
    parts, s, n = Components(0.02, 0.1, 0.2), 5, 40
    effect = mde(parts, n_seeds=s, n_items=n)
    hits = 0
    for _ in range(600):
        diff = effect + rng.normal(0, 0.02**0.5, (s, 1)) + rng.normal(0, 0.1**0.5, (1, n)) + rng.normal(0, 0.2**0.5, (s, n))
        hits += paired_difference(diff, 0 * diff).p_value < 0.05
    assert hits / 600 == pytest.approx(0.8, abs=0.06)


def test_one_seeds_components_cannot_plan():
    with pytest.raises(SpecError, match="one seed"):
        standard_error(Components(None, 0.1, None), n_seeds=5, n_items=10)
    with pytest.raises(SpecError, match="at least 2 seeds"):
        standard_error(PARTS, n_seeds=1, n_items=10)


def test_power_and_mde_are_inverse():
    effect = mde(PARTS, n_seeds=6, n_items=80, power=0.9, alpha=0.01)
    assert power(PARTS, effect, n_seeds=6, n_items=80, alpha=0.01) == pytest.approx(0.9)
    assert power(PARTS, -effect, n_seeds=6, n_items=80, alpha=0.01) == pytest.approx(0.9)
    assert power(PARTS, 0.0, n_seeds=6, n_items=80) == pytest.approx(0.025)


def test_standard_error_is_that_of_the_components():
    se, df = standard_error(PARTS, n_seeds=5, n_items=40)
    assert se == pytest.approx((0.01 / 5 + 0.2 / 40 + 0.3 / 200) ** 0.5)
    assert df > 4
    assert standard_error(Components(0.04, 0.0, 0.0), n_seeds=6, n_items=1) == pytest.approx(((0.04 / 6) ** 0.5, 5))


def test_items_needed_is_the_smallest_that_suffices():
    items = items_needed(PARTS, 0.2, n_seeds=8)
    assert power(PARTS, 0.2, n_seeds=8, n_items=items) >= 0.8 > power(PARTS, 0.2, n_seeds=8, n_items=items - 1)
    assert items_needed(PARTS, 0.01, n_seeds=8) is None
    assert items_needed(PARTS, 0.0, n_seeds=8) is None


@pytest.mark.parametrize(("seed_cost", "item_cost"), [(100, 1), (10, 1), (0, 1), (50, 0.01)])
def test_the_cheapest_design_is_the_cheapest_of_all(seed_cost, item_cost):
    parts = Components(0.01, 0.05, 0.2)
    found = cheapest_design(parts, 0.2, seed_cost=seed_cost, item_cost=item_cost, most_items=90, most_seeds=15)
    costs = {
        (s, n): s * (seed_cost + n * item_cost)
        for s in range(3, 16)
        for n in range(2, 91)
        if power(parts, 0.2, n_seeds=s, n_items=n) >= 0.8
    }
    assert found.cost == pytest.approx(min(costs.values()))
    assert costs[found.n_seeds, found.n_items] == pytest.approx(found.cost)


def test_dear_seeds_make_designs_with_more_items():
    """Normal theory: with seed variance σ²_s and residual σ²_e the best N is √(σ²_e/σ²_s · seed cost/item cost)."""
    parts = Components(0.01, 0.0, 0.25)
    found = cheapest_design(parts, 0.05, seed_cost=400, item_cost=1)
    assert found.n_items == pytest.approx((0.25 / 0.01 * 400) ** 0.5, rel=0.25)


def test_what_no_design_can_see_and_costs_that_are_none():
    assert cheapest_design(PARTS, 0.001, seed_cost=1, item_cost=1, most_seeds=20, most_items=100) is None
    for costs in ((-1, 1), (0, 0), (1, float("inf"))):
        with pytest.raises(SpecError, match="costs"):
            cheapest_design(PARTS, 0.1, seed_cost=costs[0], item_cost=costs[1])
