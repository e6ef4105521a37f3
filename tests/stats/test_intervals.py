import pytest
from statsmodels.stats.proportion import proportion_confint

from harness.errors import SpecError
from harness.stats.intervals import jeffreys, wilson, wilson_mean


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (81, 263), (15, 148)])
def test_agree_with_statsmodels(k, n):
    assert wilson(k, n) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)
    low, high = proportion_confint(k, n, method="jeffreys")
    assert jeffreys(k, n) == pytest.approx((0.0 if k == 0 else low, 1.0 if k == n else high), abs=1e-9)


def test_newcombe_1998_values():
    """Newcombe (1998), table I, method 3 (Wilson score)."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_wilson_mean_with_the_binomial_se_is_wilson():
    share, n = 0.3, 50
    assert wilson_mean(share, (share * (1 - share) / n) ** 0.5, n) == pytest.approx(wilson(15, 50))


def test_wilson_mean_at_the_edge_uses_the_items():
    assert wilson_mean(0.0, 0.0, 20) == pytest.approx(wilson(0, 20))
    assert wilson_mean(1.0, 0.0, 20) == pytest.approx(wilson(20, 20))


def test_wilson_mean_widens_with_the_seed_variance():
    narrow, wide = wilson_mean(0.3, 0.05, 50), wilson_mean(0.3, 0.10, 50)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(("k", "n", "key"), [(1, 0, "n"), (-1, 5, "successes"), (6, 5, "successes")])
def test_wrong_counts_are_named(k, n, key):
    for interval in (wilson, jeffreys):
        with pytest.raises(SpecError) as caught:
            interval(k, n)
        assert caught.value.key == key
