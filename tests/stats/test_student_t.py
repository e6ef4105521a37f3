import numpy as np
import pytest
from scipy import stats

from harness.stats.paired import _fair_binomial
from harness.stats.student import t_noncentrality, t_power, t_quantile, t_tail


@pytest.mark.parametrize("df", [1.0, 1.7, 2.0, 12.3, 5e4, 1e12, np.inf])
def test_tails_and_quantiles_are_those_of_scipy_stats(df: float) -> None:
    reference = stats.norm if df > 1e9 else stats.t(df)
    for distance in (-3.0, 0.0, 0.4, 8.0):
        assert float(t_tail(2 * distance, 2.0, df)) == pytest.approx(float(reference.sf(distance)), rel=1e-9)
    for probability in (0.001, 0.5, 0.975):
        assert float(t_quantile(probability, df)) == pytest.approx(float(reference.ppf(probability)), rel=1e-9, abs=1e-12)


def test_without_spread_a_tail_is_certain() -> None:
    assert float(t_tail(0.1, 0.0, 5)) == 0
    assert float(t_tail(0.0, 0.0, 5)) == 1


@pytest.mark.parametrize("df", [1.0, 2.0, 4.6, 30.0, 1e4, 2e6])
@pytest.mark.parametrize("alpha", [0.05, 0.002])
def test_power_is_that_of_the_noncentral_t(df: float, alpha: float) -> None:
    critical = stats.t.ppf(1 - alpha / 2, df)
    for noncentrality in (0.0, 0.7, 4.0):
        expected = stats.norm.sf(critical - noncentrality) if df > 1e6 else stats.nct.sf(critical, df, noncentrality)
        assert t_power(noncentrality, df, alpha=alpha) == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("df", [1.0, 2.0, 4.6, 30.0, 1e4, 2e6])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.99])
def test_noncentrality_gives_back_the_power(df: float, power: float) -> None:
    for alpha in (0.05, 0.002):
        assert t_power(t_noncentrality(power, df, alpha=alpha), df, alpha=alpha) == pytest.approx(power, abs=1e-4)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 10, 3001, 100_000])
def test_fair_coins_far_into_the_tails(n: int) -> None:
    expected = stats.binom.pmf(np.arange(n + 1), n, 0.5)
    assert _fair_binomial(n) == pytest.approx(expected, rel=1e-10, abs=1e-300)
