import numpy as np
import pytest
import statsmodels.api as sm
from scipy import linalg, stats

from harness.errors import SpecError
from harness.stats.clustered import floor_variance, mean_t, paired_t

SIZES = (1, 1, 2, 3, 5, 8, 40)


def clustered(rng, sizes=SIZES):
    labels = np.repeat([f"passage {index}" for index in range(len(sizes))], sizes)
    a = rng.random(len(labels)) + np.repeat(rng.normal(0, 0.3, len(sizes)), sizes)
    order = rng.permutation(len(labels))
    return a[order], rng.random(len(labels))[order], labels[order]


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_cr1_is_statsmodels_clustered_ols(level):
    a, b, labels = clustered(np.random.default_rng(0))
    codes = np.unique(labels, return_inverse=True)[1]
    fit = sm.OLS(a - b, np.ones(len(a))).fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    found = paired_t(a, b, clusters_N=labels, correction="CR1", level=level)
    assert (found.estimate, found.se, found.p_value) == pytest.approx((fit.params[0], fit.bse[0], fit.pvalues[0]), abs=1e-9)
    assert found.interval == pytest.approx(tuple(fit.conf_int(1 - level)[0]), abs=1e-9)
    assert found.df == len(SIZES) - 1
    assert found.model == "items only"


@pytest.mark.parametrize("correction", ["CR1", "CR2"])
def test_items_that_are_their_own_clusters_give_the_paired_t_test(correction):
    a, b = np.random.default_rng(1).random((2, 37))
    reference = stats.ttest_rel(a, b)
    found = paired_t(a, b, correction=correction)
    assert found.p_value == pytest.approx(reference.pvalue, abs=1e-9)
    assert found.interval == pytest.approx(tuple(reference.confidence_interval()), abs=1e-9)
    assert found.df == pytest.approx(36, abs=1e-9)


def test_cr2_and_its_degrees_of_freedom_are_those_of_the_matrix_definition():
    """Bell & McCaffrey: A_g = (I − H_gg)^(-1/2), p_g = (I − H)_g' A_g x_g (x'x)^-1, df = (tr P'P)² / tr (P'P)²."""
    a, b, labels = clustered(np.random.default_rng(2))
    d, n = a - b, len(a)
    hat = np.full((n, n), 1 / n)
    columns, variance = [], 0.0
    for label in np.unique(labels):
        inside = np.flatnonzero(labels == label)
        root = linalg.sqrtm(linalg.inv(np.eye(len(inside)) - hat[np.ix_(inside, inside)])).real
        weights = root @ np.full(len(inside), 1 / n)
        variance += (weights @ (d[inside] - d.mean())) ** 2
        columns.append((np.eye(n) - hat)[:, inside] @ weights)
    product = np.stack(columns).dot(np.stack(columns).T)
    found = paired_t(a, b, clusters_N=labels)
    assert found.se**2 == pytest.approx(variance, rel=1e-9)
    assert found.df == pytest.approx(np.trace(product) ** 2 / (product**2).sum(), rel=1e-9)


def test_equal_clusters_give_the_t_test_of_their_means():
    values = np.random.default_rng(3).random((9, 4))
    found = mean_t(values.ravel(), clusters_N=np.repeat(np.arange(9), 4))
    reference = stats.ttest_1samp(values.mean(axis=1), 0.0)
    assert (found.p_value, found.df) == pytest.approx((reference.pvalue, 8), abs=1e-9)


def test_copies_of_an_item_in_one_cluster_add_no_evidence():
    d = np.random.default_rng(4).normal(0.2, 1, 12)
    once, copied = mean_t(d), mean_t(np.repeat(d, 50), clusters_N=np.repeat(np.arange(12), 50))
    assert (copied.estimate, copied.se, copied.p_value) == pytest.approx((once.estimate, once.se, once.p_value), rel=1e-9)


def test_one_large_cluster_leaves_few_degrees_of_freedom():
    a, b, labels = clustered(np.random.default_rng(5), (500, *[1] * 30))
    assert paired_t(a, b, clusters_N=labels).df < 2 < paired_t(a, b, clusters_N=labels, correction="CR1").df


def test_one_sided_p_values_halve_the_two_sided_one():
    found = mean_t(np.random.default_rng(6).normal(0.3, 1, 20))
    assert 2 * min(found.p_greater(0), found.p_less(0)) == pytest.approx(found.p_value)
    assert found.p_greater(0.1) + found.p_less(0.1) == pytest.approx(1)


@pytest.mark.parametrize("difference", [0.0, 1.0])
def test_constant_differences_get_the_floor_and_say_so(difference):
    found = paired_t(np.full(50, difference), np.zeros(50))
    assert found.degenerate
    assert found.se == pytest.approx(floor_variance(50, 1.0) ** 0.5)
    assert found.se > 0
    assert found.p_value == pytest.approx(1.0 if difference == 0 else 0.0, abs=1e-6)


def test_equal_cluster_means_are_degenerate_too():
    """Within clusters the differences cancel, so nothing varies between them."""
    assert mean_t([1, -1] * 10, clusters_N=np.repeat(np.arange(10), 2)).degenerate


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([0.5, np.nan], None, r"1 of 2 scores are missing or infinite, the first at \[1\]"),
        ([0.5, np.inf], None, "infinite"),
        (["good", "bad"], None, "array of numbers"),
        ([None, 1.0], None, "missing"),
        ([], None, "at least one number"),
        ([[1.0, 2.0]], None, "1 axes"),
        ([1.0], None, "at least 2 items"),
        ([1.0, 2.0], ["a", "a"], "at least 2 items"),
        ([1.0, 2.0], ["a"], "one label for each"),
        ([1.0, 2.0], [1.0, np.nan], "some are missing"),
        ([1.0, 2.0], np.array(["a", None], dtype=object), "some are missing"),
        ([1.0, 2.0], np.array(["a", 1], dtype=object), "one type"),
    ],
)
def test_garbage_is_one_message(values, clusters, message):
    with pytest.raises(SpecError, match=message):
        mean_t(values, clusters_N=clusters)


def test_a_level_outside_0_to_1_and_unequal_lengths_are_refused():
    with pytest.raises(SpecError, match="level"):
        mean_t([1.0, 2.0], level=95)
    with pytest.raises(SpecError, match="comparator_N"):
        paired_t([1.0, 2.0], [1.0])


@pytest.mark.slow
@pytest.mark.parametrize(("correction", "low", "high"), [("CR2", 0.03, 0.065), ("CR1", 0.0, 1.0)])
def test_false_alarms_with_unequal_clusters(correction, low, high):
    """Lognormal cluster sizes, a cluster effect of half the item SD, 20 clusters: CR2 keeps 5 %."""
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(4000):
        labels = np.repeat(np.arange(20), np.ceil(rng.lognormal(1.5, 1.0, 20)).astype(int))
        d = rng.normal(0, 0.5, 20)[labels] + rng.normal(0, 1, len(labels))
        hits += mean_t(d, clusters_N=labels, correction=correction).p_value < 0.05
    print(correction, hits / 4000)
    assert low <= hits / 4000 <= high
