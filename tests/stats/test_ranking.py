from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from harness.errors import SpecError
from harness.stats.clustered import mean_t
from harness.stats.crossed import TaskScores, contrast, moments
from harness.stats.multiplicity import holm
from harness.stats.ranking import best_set, ranking


def differences(scores_N_M):
    return {
        (f"m{first}", f"m{second}"): mean_t(scores_N_M[:, first] - scores_N_M[:, second])
        for first, second in combinations(range(scores_N_M.shape[1]), 2)
    }


def names(count):
    return [f"m{index}" for index in range(count)]


def made(means, n=200, seed=0):
    return np.random.default_rng(seed).normal(means, 0.3, (n, len(means)))


def test_clear_order_with_a_tie():
    found = ranking(names(4), differences(made([0.9, 0.5, 0.5, 0.1])))
    assert found.rank_intervals == {"m0": (1, 1), "m1": (2, 3), "m2": (2, 3), "m3": (4, 4)}
    assert found.best == ("m0",)
    assert ("m0", "m3") in found.apart
    assert ("m3", "m0") not in found.apart
    assert len(found.apart) == 5


def test_two_methods_are_one_paired_t_test():
    scores = made([0.5, 0.45], n=60, seed=2)
    p_value = stats.ttest_rel(scores[:, 0], scores[:, 1]).pvalue
    found = ranking(names(2), differences(scores), alpha=p_value * 1.001)
    assert found.p_holm["m0", "m1"] == pytest.approx(p_value)
    assert len(found.apart) == 1
    assert not ranking(names(2), differences(scores), alpha=p_value * 0.999).apart


def test_pairs_are_adjusted_by_holm():
    pairs = differences(made([0.55, 0.5, 0.45], n=50))
    found = ranking(names(3), pairs)
    assert list(found.p_holm.values()) == pytest.approx(holm([pair.p_value for pair in pairs.values()]))


def test_order_and_direction_of_pairs_do_not_matter():
    scores = made([0.7, 0.5, 0.45, 0.1])
    forward = differences(scores)
    backward = {(second, first): mean_t(-(scores[:, int(first[1])] - scores[:, int(second[1])])) for first, second in reversed(forward)}
    one, other = ranking(names(4), forward), ranking(names(4)[::-1], backward)
    assert one.rank_intervals == other.rank_intervals
    assert set(one.best) == set(other.best)
    assert one.apart == other.apart


def test_the_best_set_leaves_out_at_alpha_over_the_rivals_one_sided():
    pairs = differences(made([0.6, 0.5, 0.5], n=80, seed=4))
    p_value = max(pairs["m0", "m1"].p_greater(0), pairs["m0", "m2"].p_greater(0))
    assert best_set(names(3), pairs, alpha=2 * p_value * 1.001) == ("m0",)
    assert len(best_set(names(3), pairs, alpha=2 * p_value * 0.999)) == 2


def test_what_cannot_be_compared_is_never_apart():
    found = ranking(names(3), {("m0", "m1"): None, ("m0", "m2"): mean_t(np.random.default_rng(0).normal(1, 0.1, 30))})
    assert found.rank_intervals == {"m0": (1, 2), "m1": (1, 3), "m2": (2, 3)}
    assert found.best == ("m0", "m1")


def test_one_method_is_alone_at_the_top():
    assert ranking(["m0"], {}).rank_intervals == {"m0": (1, 1)}
    assert ranking(["m0"], {}).best == ("m0",)


def test_mistakes_are_named():
    pair = mean_t([0.1, 0.2, 0.3])
    with pytest.raises(SpecError, match="Did you mean 'm1'"):
        ranking(names(2), {("m0", "m11"): pair})
    with pytest.raises(SpecError, match="once"):
        ranking(names(2), {("m0", "m1"): pair, ("m1", "m0"): pair})
    with pytest.raises(SpecError, match="once"):
        ranking(names(2), {("m0", "m0"): pair})
    with pytest.raises(SpecError, match="different names"):
        ranking(["m0", "m0"], {})


def wrong_ranks(means, replications, *, seeds=5, items=100):
    """Share of studies in which some rank interval misses its method's rank, and in which the best set misses the best."""
    rng = np.random.default_rng(7)
    rank = [(sum(other > mean for other in means) + 1, sum(other >= mean for other in means)) for mean in means]
    missed, best_missed = 0, 0
    for _ in range(replications):
        shape = (seeds, items, len(means))
        scores = np.array(means) + rng.normal(0, 0.05, (seeds, 1, len(means))) + rng.normal(0, 0.2, shape[1:]) + rng.normal(0, 0.3, shape)
        fitted = moments([TaskScores(scores)])
        weights = np.eye(len(means))
        pairs = {
            (f"m{first}", f"m{second}"): contrast(fitted, weights[first] - weights[second])
            for first, second in combinations(range(len(means)), 2)
        }
        found = ranking(names(len(means)), pairs)
        # A tied method has several right ranks: an interval is wrong if it holds none of them.
        low_high = [found.rank_intervals[name] for name in names(len(means))]
        missed += any(low > last or high < first for (low, high), (first, last) in zip(low_high, rank, strict=True)) or any(
            means[int(better[1])] <= means[int(worse[1])] for better, worse in found.apart
        )
        best_missed += not {f"m{index}" for index, mean in enumerate(means) if mean == max(means)} <= set(found.best)
    return missed / replications, best_missed / replications


@pytest.mark.slow
@pytest.mark.parametrize("means", [[0.5] * 4, [0.6, 0.5, 0.5, 0.45], [0.5, 0.5, 0.2, 0.2, 0.2]])
def test_error_rates_of_ranks_and_of_the_best_set(means):
    """The best set promises each best method on its own; with several equal ones all of them are asked for here, so the bound is theirs."""
    wrong, best_missed = wrong_ranks(means, 1000)
    n_best = sum(mean == max(means) for mean in means)
    assert wrong < 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5
    assert best_missed < min(1.0, 0.05 * n_best) + 3 * (0.05 * 0.95 / 1000) ** 0.5
