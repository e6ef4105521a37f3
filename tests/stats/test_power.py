from itertools import pairwise

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from harness.errors import SpecError
from harness.stats.crossed import Components, paired_difference
from harness.stats.power import designs_needed, mde, seeds_needed, standard_error

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
