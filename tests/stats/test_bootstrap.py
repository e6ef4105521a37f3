from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from harness.errors import SpecError
from harness.stats.bootstrap import against, all_pairs, bootstrap, paired_bootstrap
from harness.stats.clustered import floor_variance, mean_t, paired_t


def binary(seed, n_items=200, n_models=3):
    return (np.random.default_rng(seed).random((n_items, n_models)) < 0.6).astype(float)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("method", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
def test_interval_and_standard_error_are_scipys_on_the_same_distribution(method, theirs):
    d = np.random.default_rng(1).exponential(size=60)
    ours = bootstrap(d[:, None], lambda mean: mean, rng=rng(), resamples=2000, method=method)
    given = SimpleNamespace(bootstrap_distribution=ours.distribution_B_D[:, 0])
    reference = stats.bootstrap((d,), np.mean, n_resamples=0, bootstrap_result=given, method=theirs, vectorized=True)
    assert (ours.low_D[0], ours.high_D[0]) == pytest.approx(tuple(reference.confidence_interval), abs=1e-9)
    assert ours.standard_error_D[0] == pytest.approx(reference.standard_error, abs=1e-9)


def test_distribution_has_the_moments_of_resampled_means():
    """Mean x̄, variance Σ(x − x̄)²/n², third central moment Σ(x − x̄)³/n³."""
    x, draws = np.random.default_rng(2).exponential(size=12), 300_000
    found = bootstrap(x[:, None], lambda mean: mean, rng=rng(), resamples=draws).distribution_B_D[:, 0] - x.mean()
    variance = ((x - x.mean()) ** 2).sum() / 12**2
    assert found.mean() == pytest.approx(0, abs=4 * np.sqrt(variance / draws))
    assert found.var() == pytest.approx(variance, rel=0.02)
    assert (found**3).mean() == pytest.approx(((x - x.mean()) ** 3).sum() / 12**3, rel=0.1)


def test_clusters_are_drawn_whole():
    """Copies of an item inside one cluster change nothing: the same seed draws the same clusters."""
    data = binary(3, 40)
    copies, labels = np.repeat(data, 25, axis=0), np.repeat(np.arange(40), 25)
    for method in ("percentile", "bca", "studentised"):
        once = paired_bootstrap(data, all_pairs(3), rng=rng(), resamples=500, method=method)
        copied = paired_bootstrap(copies, all_pairs(3), rng=rng(), resamples=500, method=method, clusters_N=labels)
        for field in ("estimate_D", "standard_error_D", "low_D", "high_D"):
            np.testing.assert_allclose(getattr(copied, field), getattr(once, field), atol=1e-12)
        assert (copied.n_items, copied.n_clusters) == (1000, 40)


def test_unequal_clusters_agree_with_the_cluster_robust_standard_error():
    sizes = np.random.default_rng(4).integers(1, 9, 300)
    labels = np.repeat(np.arange(300), sizes)
    data = np.random.default_rng(5).random((len(labels), 2)) + np.random.default_rng(6).normal(0, 0.3, (300, 2))[labels]
    found = paired_bootstrap(data, [(0, 1)], rng=rng(), clusters_N=labels, resamples=4000)
    assert found.standard_error_D[0] == pytest.approx(paired_t(*data.T, clusters_N=labels).se, rel=0.05)


def test_a_loop_over_resamples_gives_the_same_studentised_interval():
    data, resamples = np.random.default_rng(7).exponential(size=(25, 2)), 400
    labels = np.repeat(np.arange(10), [1, 2, 3, 4, 5, 1, 2, 3, 2, 2])
    found = paired_bootstrap(data, [(0, 1)], rng=rng(9), clusters_N=labels, resamples=resamples, method="studentised")
    d, draws = data[:, 0] - data[:, 1], rng(9).integers(0, 10, size=(resamples, 10))
    ratios = []
    for drawn in draws:
        # A cluster drawn twice is two clusters.
        parts = [d[labels == cluster] for cluster in drawn]
        numbers = np.repeat(np.arange(10), [len(part) for part in parts])
        again = mean_t(np.concatenate(parts), clusters_N=numbers, correction="CR1")
        ratios.append((again.estimate - d.mean()) / again.se)
    se = paired_t(d, np.zeros(25), clusters_N=labels, correction="CR1").se
    far, near = np.quantile(ratios, 0.975, method="higher"), np.quantile(ratios, 0.025, method="lower")
    assert (found.low_D[0], found.high_D[0]) == pytest.approx((d.mean() - far * se, d.mean() - near * se), abs=1e-9)


@pytest.mark.parametrize("method", ["percentile", "bca", "studentised"])
def test_every_pair_is_what_it_is_alone(method):
    data = binary(8, 120, 4)
    together = paired_bootstrap(data, all_pairs(4), rng=rng(), resamples=300, method=method)
    for index, (a, b) in enumerate(all_pairs(4)):
        alone = paired_bootstrap(data[:, [a, b]], [(0, 1)], rng=rng(), resamples=300, method=method)
        assert (alone.low_D[0], alone.high_D[0]) == pytest.approx((together.low_D[index], together.high_D[index]), abs=1e-12)
        turned = paired_bootstrap(data[:, [b, a]], [(0, 1)], rng=rng(), resamples=300, method=method)
        assert (turned.low_D[0], turned.high_D[0]) == pytest.approx((-alone.high_D[0], -alone.low_D[0]), abs=1e-9)


def test_blocks_do_not_change_the_result(monkeypatch):
    data = binary(9)
    whole = paired_bootstrap(data, all_pairs(3), rng=rng(), resamples=777)
    monkeypatch.setattr("harness.stats.bootstrap._BLOCK", 200 * 50)
    parts = paired_bootstrap(data, all_pairs(3), rng=rng(), resamples=777)
    np.testing.assert_allclose(parts.distribution_B_D, whole.distribution_B_D, atol=1e-12)


def test_seeds_repeat_and_differ():
    low = [paired_bootstrap(binary(10), [(0, 1)], rng=rng(seed), resamples=200).distribution_B_D for seed in (1, 1, 2)]
    assert (low[0] == low[1]).all()
    assert (low[0] != low[2]).any()


def test_pairing_shows():
    """Two models that differ on 2 of 400 items: an unpaired standard error would be ten times as large."""
    data = np.repeat((np.random.default_rng(11).random((400, 1)) < 0.5).astype(float), 2, axis=1)
    data[:2, 0] = 1 - data[:2, 0]
    assert paired_bootstrap(data, [(0, 1)], rng=rng()).standard_error_D[0] < 0.2 * np.sqrt(2 * 0.25 / 400)


def test_a_ratio_of_means_is_a_statistic():
    data = np.random.default_rng(12).random((100, 2)) + 0.5
    found = bootstrap(data, lambda mean: mean[..., :1] / mean[..., 1:], rng=rng())
    assert found.estimate_D[0] == pytest.approx(data[:, 0].mean() / data[:, 1].mean())
    assert found.low_D[0] < found.estimate_D[0] < found.high_D[0]


@pytest.mark.parametrize("method", ["percentile", "bca", "studentised"])
def test_equal_models_get_the_floor_and_say_so(method):
    data = np.repeat(binary(13, 80, 1), 2, axis=1)
    found = paired_bootstrap(data, [(0, 1)], rng=rng(), resamples=200, method=method)
    assert found.degenerate_D[0]
    assert found.standard_error_D[0] == pytest.approx(floor_variance(80, 1.0) ** 0.5)
    assert found.low_D[0] < 0 < found.high_D[0]


@pytest.mark.parametrize("method", ["percentile", "bca", "studentised"])
def test_one_discordant_item_gives_no_nan(method):
    data = np.zeros((30, 2))
    data[0, 0] = 1
    found = paired_bootstrap(data, [(0, 1)], rng=rng(), method=method)
    assert not np.isnan([found.low_D[0], found.high_D[0], found.standard_error_D[0]]).any()
    assert found.low_D[0] <= 1 / 30 <= found.high_D[0]


@pytest.mark.parametrize(
    ("data", "kwargs", "message"),
    [
        ([[1.0, np.nan], [0.0, 1.0]], {}, r"first at \[0, 1\]"),
        ([["a", "b"]], {}, "array of numbers"),
        ([], {}, "at least one number"),
        ([[1.0, 2.0]], {}, "at least 2 items"),
        ([[1.0, 2.0], [2.0, 3.0]], {"resamples": 10}, "100 resamples"),
        ([[1.0, 2.0], [2.0, 3.0]], {"level": 1.0}, "level"),
        ([[1.0, 2.0], [2.0, 3.0]], {"clusters_N": [0, 0]}, "at least 2 items"),
    ],
)
def test_garbage_is_one_message(data, kwargs, message):
    with pytest.raises(SpecError, match=message):
        paired_bootstrap(data, [(0, 1)], rng=rng(), **kwargs)


def test_wrong_pairs_statistics_and_sizes_are_refused():
    data = binary(14)
    for pairs in ([], [(0, 3)], [(0, -1)], [0, 1], [(0.5, 1)]):
        with pytest.raises(SpecError, match="pairs"):
            paired_bootstrap(data, pairs, rng=rng())
    with pytest.raises(SpecError, match="finite number in some resamples"):
        bootstrap([[1.0, 0.0], [1.0, 1.0]], lambda mean: mean[..., :1] / mean[..., 1:], rng=rng())
    with pytest.raises(SpecError, match="must map means"):
        bootstrap(data, lambda mean: mean.sum(), rng=rng())
    with pytest.raises(SpecError, match="2 GiB"):
        paired_bootstrap(data, all_pairs(3), rng=rng(), resamples=10**9)
    assert against(1, 3) == [(0, 1), (2, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "low"), [("studentised", 0.925), ("bca", 0.88), ("percentile", 0.89)])
def test_coverage_with_twenty_unequal_clusters(method, low):
    """Skewed graded scores with a cluster effect; the docstring's table comes from the like of this."""
    random, held = np.random.default_rng(15), 0
    for _ in range(1500):
        labels = np.repeat(np.arange(20), np.ceil(random.lognormal(1, 0.8, 20)).astype(int))
        shared = random.exponential(1, 20)[labels] / 2
        data = np.stack([shared + random.exponential(1, len(labels)), random.random(len(labels))], axis=1)
        found = paired_bootstrap(data, [(0, 1)], rng=random, clusters_N=labels, resamples=999, method=method)
        held += found.low_D[0] <= 1.0 <= found.high_D[0]
    print(method, held / 1500)
    assert low <= held / 1500 <= 0.965
