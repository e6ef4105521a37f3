"""Whatever lists come in, an estimator raises SpecError or gives finite numbers with a standard error above 0."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import SpecError
from harness.stats.aggregate import improvement_probability, iqm
from harness.stats.bootstrap import paired_bootstrap
from harness.stats.clustered import mean_t, paired_t
from harness.stats.cost_quality import Curve, cost_ratio
from harness.stats.groups import group_mean
from harness.stats.paired import mcnemar_exact, sign_flip

ANY = st.one_of(
    st.floats(), st.integers(-5, 5), st.just(10**400), st.booleans(), st.none(), st.text(max_size=3), st.sampled_from([0, 1, 0.5])
)
SCORE = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(-1e31, 1e31))
LABEL = st.one_of(st.integers(0, 3), st.sampled_from(["a", "b"]), st.none(), st.just(float("nan")))


def rows(element):
    """Lists of (treatment, comparator, label)."""
    return st.lists(st.tuples(element, element, LABEL), max_size=12)


def holds(estimate, se, low, high):
    assert np.isfinite([estimate, se]).all()
    assert se > 0
    assert low <= estimate <= high


@settings(max_examples=120, deadline=None)
@given(st.one_of(rows(ANY), rows(SCORE)), st.booleans())
def test_single_checkpoints(table, clustered):
    a, b, labels = ([row[column] for row in table] for column in range(3))
    clusters = labels if clustered else None
    for test in (paired_t, lambda a, b, clusters_N: mean_t(a, clusters_N=clusters_N), lambda a, b, clusters_N: group_mean(a, labels)):
        try:
            found = test(a, b, clusters_N=clusters)
        except SpecError:
            continue
        holds(found.estimate, found.se, *found.interval)
        assert 0 <= found.p_value <= 1


@settings(max_examples=120, deadline=None)
@given(st.one_of(rows(ANY), rows(SCORE)), st.sampled_from(["percentile", "bca", "studentised"]), st.booleans())
def test_resampling(table, method, clustered):
    labels = [row[2] for row in table] if clustered else None
    rng = np.random.default_rng(0)
    try:
        found = paired_bootstrap([row[:2] for row in table], [(0, 1)], rng=rng, clusters_N=labels, resamples=100, method=method)
    except SpecError:
        return
    assert np.isfinite([found.estimate_D[0], found.standard_error_D[0]]).all()
    assert found.standard_error_D[0] > 0
    assert found.low_D[0] <= found.high_D[0]
    flips = sign_flip([row[0] for row in table], [row[1] for row in table], rng=rng, clusters_N=labels, draws=99)
    assert 0.01 <= flips.p_value <= 1


@settings(max_examples=120, deadline=None)
@given(rows(ANY))
def test_exact_and_seeds_and_costs(table):
    a, b, _ = ([row[column] for row in table] for column in range(3))
    for test in (
        lambda: mcnemar_exact(a, b).p_value,
        lambda: iqm([a, b]).estimate,
        lambda: improvement_probability([a, b], [b, a]).interval[0],
        lambda: cost_ratio([Curve(a, b)] * 2, [Curve([1, 2], [0, 1])] * 2).interval[0],
    ):
        try:
            assert np.isfinite(test())
        except SpecError:
            continue


@pytest.mark.parametrize("score_range", [0, -1, float("nan"), float("inf")])
def test_a_range_that_is_none_is_refused(score_range):
    with pytest.raises(SpecError, match="range of scores"):
        mean_t([0.0, 1.0], score_range=score_range)
    with pytest.raises(SpecError, match="range of scores"):
        paired_bootstrap([[0.0, 1.0]] * 3, [(0, 1)], rng=np.random.default_rng(0), score_range=score_range)
