import math

import numpy as np
import pytest
from scipy import stats

from harness.errors import SpecError
from harness.stats.cost_quality import Curve, Reach, cost_ratio, cost_ratio_tails, first_reach


def line(end_cost, end_quality, n=5):
    return Curve(np.linspace(0, end_cost, n), np.linspace(0.1, end_quality, n))


def test_first_reach_interpolates_and_takes_the_first_crossing():
    assert first_reach([0, 10, 20, 30], [0.1, 0.3, 0.2, 0.9], 0.2) == Reach(pytest.approx(5), pytest.approx(5))
    assert first_reach([0, 10], [0.1, 0.3], 0.3) == Reach(10.0, 10.0)


def test_first_reach_of_a_loss_goes_down():
    assert first_reach([0, 10], [3.0, 1.0], 1.5, higher_is_better=False) == Reach(7.5, 7.5)


def test_never_reached_and_reached_at_once_are_bounds():
    assert first_reach([1, 10], [0.1, 0.3], 0.31) == Reach(10.0, math.inf)
    assert first_reach([2, 10], [0.4, 0.5], 0.3) == Reach(0.0, 2.0)


def test_ratio_is_the_t_interval_of_paired_log_ratios():
    """Straight lines from 0.1: A gets to B's end quality q at the share (q − 0.1)/(a − 0.1) of its cost."""
    ends = [(0.5, 0.3, 100, 100), (0.6, 0.4, 80, 120), (0.7, 0.3, 90, 100)]
    found = cost_ratio([line(ca, qa) for qa, _, ca, _ in ends], [line(cb, qb) for _, qb, _, cb in ends])
    logs = np.log([(qb - 0.1) / (qa - 0.1) * ca / cb for qa, qb, ca, cb in ends])
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / np.sqrt(3)
    assert found.low == found.high == pytest.approx(np.exp(logs.mean()))
    assert found.interval == pytest.approx((np.exp(logs.mean() - half), np.exp(logs.mean() + half)))
    assert (found.share_never, found.share_at_start, found.n_seeds) == (0, 0, 3)
    assert found.text == f"{found.low:.3g}"


def test_the_unit_of_cost_does_not_matter():
    a, b = [line(10, 0.5), line(12, 0.6)], [line(10, 0.4), line(11, 0.4)]
    scaled = [[Curve(1e9 * np.asarray(c.cost_T), c.quality_T) for c in curves] for curves in (a, b)]
    assert cost_ratio(*scaled).interval == pytest.approx(cost_ratio(a, b).interval)


def test_a_seed_that_never_reaches_is_kept_as_a_bound():
    a, b = [line(100, 0.5), line(100, 0.5), line(150, 0.2)], [line(100, 0.3), line(90, 0.3), line(100, 0.3)]
    found = cost_ratio(a, b)
    bounds = [seed.low for seed in found.seeds]
    assert bounds[2] == pytest.approx(1.5)
    assert (found.n_seeds, found.share_never) == (3, pytest.approx(1 / 3))
    assert found.low == pytest.approx(np.exp(np.log(bounds).mean()))
    assert found.high == found.interval[1] == math.inf
    assert 0 < found.interval[0] < found.low
    assert found.text.startswith("≥")


def test_a_target_met_from_the_start_bounds_from_above_and_never_meets_a_claim_of_dearness():
    found = cost_ratio([Curve([10, 20], [0.5, 0.6])] * 2, [line(100, 0.3), line(120, 0.3)])
    assert found.interval[0] == 0
    assert found.high == pytest.approx(10 / math.sqrt(100 * 120))
    assert found.share_at_start == 1
    assert found.text.startswith("≤")


def test_a_comparator_no_better_than_at_its_start_leaves_the_ratio_unknown():
    flat = Curve([0, 50, 100], [0.4, 0.3, 0.4])
    found = cost_ratio([line(100, 0.5), line(90, 0.5)], [flat, flat])
    assert (found.interval, found.text) == ((0.0, math.inf), "unknown")


def test_the_whole_run_charges_the_plateau_to_the_comparator():
    plateau = Curve([0, 50, 100], [0.1, 0.3, 0.3])
    a, b = [line(100, 0.5), line(110, 0.5)], [plateau, plateau]
    assert cost_ratio(a, b).low == pytest.approx(2 * cost_ratio(a, b, comparator_cost="whole run").low)


def test_a_level_reached_while_nothing_was_spent_costs_what_was_spent_before():
    assert first_reach([0, 10, 10, 10], [0.1, 0.2, 0.3, 0.4], 0.35) == Reach(10.0, 10.0)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_tails_are_those_that_the_interval_inverts(level):
    found = cost_ratio([line(80, 0.5), line(90, 0.6), line(70, 0.5)], [line(100, 0.3)] * 3, level=level)
    low, high = found.interval
    assert cost_ratio_tails(found, low)[0] == pytest.approx((1 - level) / 2)
    assert cost_ratio_tails(found, high)[1] == pytest.approx((1 - level) / 2)
    assert sum(cost_ratio_tails(found, found.low)) == pytest.approx(1), "nothing is censored"


def test_tails_of_censored_and_of_equal_seeds_claim_nothing_beyond_their_bounds():
    never = cost_ratio([line(100, 0.5), line(150, 0.2)], [line(100, 0.3), line(90, 0.3)])
    assert cost_ratio_tails(never, 0.1)[0] < 1
    assert cost_ratio_tails(never, 1e9)[1] == 1, "no upper bound"
    assert cost_ratio_tails(cost_ratio([line(50, 0.5)] * 3, [line(100, 0.5)] * 3), 1.0) == (1.0, 1.0)


def test_one_seed_and_equal_seeds_have_no_interval():
    assert cost_ratio([line(100, 0.5)], [line(100, 0.3)]).interval == (0.0, math.inf)
    assert cost_ratio([line(100, 0.5)] * 4, [line(100, 0.3)] * 4).interval == (0.0, math.inf)


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (Curve([0, 10, 9], [0.1, 0.2, 0.3]), "must not fall"),
        (Curve([-1, 10], [0.1, 0.2]), "negative"),
        (Curve([0.0], [0.1]), "above 0"),
        (Curve([0, 10], [0.1, np.nan]), r"treatment_S\[0\].quality_T: 1 of 2"),
        (Curve([], []), "at least one number"),
        (Curve([1, 2], [0.1]), "one quality a cost"),
        (Curve(["cheap"], [0.1]), "array of numbers"),
    ],
)
def test_garbage_is_one_message(curve, message):
    with pytest.raises(SpecError, match=message):
        cost_ratio([curve], [line(10, 0.5)])


def test_seeds_must_pair():
    with pytest.raises(SpecError, match="one curve a seed"):
        cost_ratio([line(1, 0.5)], [])


@pytest.mark.parametrize(("cap", "allowed"), [(math.inf, 0.042), (130.0, 0.055)])
def test_error_rates_of_the_limits_with_and_without_censoring(cap, allowed):
    """True log-ratios are normal around log 1.1; with runs of A cut at 130, 29 % of the seeds never reach. Nominal .025 a side."""
    rng = np.random.default_rng(0)
    below = above = 0
    for _ in range(1000):
        ratio_S = 1.1 * np.exp(rng.normal(0, 0.3, 5))
        treatment = [Curve([0, min(100 * ratio, cap)], [0, 0.5 * min(1, cap / (100 * ratio))]) for ratio in ratio_S]
        low, high = cost_ratio(treatment, [Curve([0, 100], [0, 0.5])] * 5).interval
        below, above = below + (low > 1.1), above + (high < 1.1)
    assert below / 1000 <= allowed
    assert above / 1000 <= 0.042
