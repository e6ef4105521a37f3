import math

import numpy as np
import pytest

from harness.errors import SpecError
from harness.stats.sequential import confidence_sequence, stopping_time


def reference_wealth(x_T, mean, alpha):
    """The hedged capital process written as in the paper, one step at a time."""
    up = down = 1.0
    total, spread = 0.5, 0.25
    variance = 0.25
    wealth = []
    for t, x in enumerate(x_T, start=1):
        bet = math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(1 + t)))
        up *= 1 + min(bet, 0.5 / mean) * (x - mean)
        down *= 1 - min(bet, 0.5 / (1 - mean)) * (x - mean)
        wealth.append((up + down) / 2)
        total += x
        spread += (x - total / (t + 1)) ** 2
        variance = spread / (t + 1)
    return np.array(wealth)


def test_a_mean_is_excluded_when_the_papers_wealth_first_reaches_one_over_alpha():
    x_T = np.random.default_rng(0).integers(0, 2, 400) * 0.5 + 0.3
    found = confidence_sequence(2 * x_T - 1, alpha=0.05)
    for mean in (0.35, 0.45, 0.66, 0.8):
        reached = np.maximum.accumulate(reference_wealth(x_T, mean, 0.05)) >= 20
        outside = (2 * mean - 1 < found.low_T) | (found.high_T < 2 * mean - 1)
        assert (reached | ~outside).all(), "nothing is excluded before the wealth is there"
        late = np.flatnonzero(outside)[0] - np.flatnonzero(reached)[0]
        assert 0 <= late < 40, "and soon after it is"


def test_it_never_widens_and_holds_the_running_mean_of_many_items():
    found = confidence_sequence(np.random.default_rng(1).choice([-1.0, 0, 1], 2000, p=[0.1, 0.7, 0.2]))
    assert (np.diff(found.low_T) >= 0).all()
    assert (np.diff(found.high_T) <= 0).all()
    assert found.low_T[-1] < 0.1 < found.high_T[-1]
    assert found.high_T[-1] - found.low_T[-1] < 0.12


def test_sign_and_range_carry_over():
    difference = np.random.default_rng(2).choice([-1.0, 0, 1], 300, p=[0.1, 0.5, 0.4])
    here, there = confidence_sequence(difference), confidence_sequence(-7 * difference, score_range=7)
    assert there.low_T == pytest.approx(-7 * here.high_T)
    assert there.high_T == pytest.approx(-7 * here.low_T)


def test_blocks_do_not_change_the_result(monkeypatch):
    difference = np.random.default_rng(3).choice([-1.0, 0, 1], 200)
    whole = confidence_sequence(difference)
    monkeypatch.setattr("harness.stats.sequential._BLOCK", 7 * 1001)
    parts = confidence_sequence(difference)
    assert parts.low_T == pytest.approx(whole.low_T)
    assert parts.high_T == pytest.approx(whole.high_T)


def test_a_clear_difference_stops_early_and_none_does_not():
    rng = np.random.default_rng(4)
    clear = stopping_time(rng.choice([-1.0, 0, 1], 2000, p=[0.05, 0.6, 0.35]))
    assert clear.why == "above zero"
    assert clear.low > 0
    assert clear.stopped_after < 400
    assert clear.saving == pytest.approx(1 - clear.stopped_after / 2000)
    none = stopping_time(rng.choice([-1.0, 0, 1], 2000, p=[0.2, 0.6, 0.2]))
    assert (none.stopped_after, none.saving, none.why) == (None, 0.0, "not settled")


def test_a_margin_settles_equality_and_fewer_looks_stop_no_earlier():
    difference = np.random.default_rng(5).choice([-1.0, 0, 1], 4000, p=[0.02, 0.96, 0.02])
    assert stopping_time(difference).stopped_after is None
    each, rare = stopping_time(difference, margin=0.05), stopping_time(difference, margin=0.05, look_every=500)
    assert each.why == rare.why == "within the margin"
    assert each.stopped_after <= rare.stopped_after
    assert rare.stopped_after % 500 == 0


@pytest.mark.parametrize(
    ("values", "options", "told"),
    [
        ([0.5, 1.5], {}, "beyond the range"),
        ([0.5, float("nan")], {}, "missing"),
        ([], {}, "at least one"),
        ([0.1, 0.2], {"alpha": 0}, "level"),
        ([0.1, 0.2], {"margin": 0}, "margin"),
        ([0.1, 0.2], {"look_every": 0}, "looks"),
    ],
)
def test_mistakes_are_named(values, options, told):
    with pytest.raises(SpecError, match=told):
        stopping_time(values, **options)


def ever_wrong(mean, replications, items, alpha):
    """Share of evaluations in which the interval, looked at after every item, ever misses the true mean."""
    rng = np.random.default_rng(6)
    p_up = (0.3 + mean) / 2
    wrong = 0
    for _ in range(replications):
        found = confidence_sequence(rng.choice([-1.0, 0, 1], items, p=[0.3 - p_up, 0.7, p_up]), alpha=alpha)
        wrong += bool(((found.low_T > mean) | (mean > found.high_T)).any())
    return wrong / replications


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0.0, 0.1])
def test_it_is_ever_wrong_at_most_alpha_of_the_time(mean):
    assert ever_wrong(mean, 400, 500, 0.1) <= 0.1 + 3 * (0.09 / 400) ** 0.5
