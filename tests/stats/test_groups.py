import numpy as np
import pytest
from scipy import stats

from harness.errors import SpecError
from harness.stats.groups import group_mean

SIZES = {"algebra": 50, "history": 1000, "law": 200}


def graded(seed, spreads=(1.0, 0.2, 0.5)):
    rng = np.random.default_rng(seed)
    values = np.concatenate(
        [rng.normal(mean, spread, size) for mean, spread, size in zip((0.2, 0.5, 0.8), spreads, SIZES.values(), strict=True)]
    )
    return values, np.repeat(list(SIZES), list(SIZES.values()))


def test_variance_of_the_macro_mean_in_closed_form():
    values, groups = graded(0)
    found = group_mean(values, groups)
    parts = [values[groups == name] for name in SIZES]
    assert found.estimate == pytest.approx(np.mean([part.mean() for part in parts]))
    assert found.se == pytest.approx(np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)) / 3)
    assert list(found.per_group) == list(SIZES)


def test_two_groups_have_welchs_degrees_of_freedom():
    """Half the sum of two means has the standard error and df of Welch's test."""
    values, groups = graded(1)
    keep = groups != "law"
    reference = stats.ttest_ind(values[groups == "algebra"], -values[groups == "history"], equal_var=False)
    found = group_mean(values[keep], groups[keep])
    assert (found.df, found.p_value) == pytest.approx((reference.df, reference.pvalue), rel=1e-9)


def test_micro_mean_is_the_mean_of_all_items_with_the_stratified_variance():
    values, groups = graded(2)
    found = group_mean(values, groups, weighting="micro")
    shares = {name: size / len(values) for name, size in SIZES.items()}
    assert found.estimate == pytest.approx(values.mean())
    assert found.se**2 == pytest.approx(sum(shares[name] ** 2 * values[groups == name].var(ddof=1) / SIZES[name] for name in SIZES))


def test_one_group_is_its_own_mean():
    values = np.random.default_rng(3).normal(0.1, 1, 40)
    reference = stats.ttest_1samp(values, 0.0)
    found = group_mean(values, np.zeros(40))
    assert found.p_value == pytest.approx(reference.pvalue, abs=1e-9)


def test_clusters_within_groups_count():
    values, groups = np.random.default_rng(4).random(40), np.repeat(["a", "b"], 20)
    copied = group_mean(np.repeat(values, 6), np.repeat(groups, 6), clusters_N=np.repeat(np.arange(40), 6))
    once = group_mean(values, groups)
    assert (copied.se, copied.df) == pytest.approx((once.se, once.df), rel=1e-9)


def test_a_perfect_group_keeps_a_standard_error():
    rng = np.random.default_rng(5)
    values = np.concatenate([np.ones(30), rng.integers(0, 2, 30)])
    found = group_mean(values, np.repeat(["perfect", "mixed"], 30))
    assert found.per_group["perfect"].degenerate
    assert found.per_group["perfect"].se > 0
    assert not found.degenerate
    assert group_mean(np.ones(60), np.repeat(["a", "b"], 30)).degenerate


@pytest.mark.parametrize(
    ("values", "groups", "clusters", "message"),
    [
        ([1.0, 2.0, 3.0], ["a", "a", "b"], None, "at least 2 items .*'b'"),
        ([1.0, 2.0, 3.0, 4.0], ["a", "a", "b", "b"], [1, 2, 2, 3], "lies in two groups"),
        ([1.0, 2.0], ["a"], None, "groups_N: expected one label"),
        ([1.0, np.nan], ["a", "a"], None, "missing"),
        ([], [], None, "at least one number"),
    ],
)
def test_garbage_is_one_message(values, groups, clusters, message):
    with pytest.raises(SpecError, match=message):
        group_mean(values, groups, clusters_N=clusters)
