import numpy as np
import pytest
from scipy import stats

from harness.errors import SpecError
from harness.seeds import generator
from harness.stats.diversity import HIGHER_IS_MORE_DIVERSE, TextSet
from harness.stats.matched import BIN_RATIO, Difference, compare_matched, paired_differences


def texts(n: int, low: int, high: int, *, rng: np.random.Generator, vocabulary: int = 400) -> list[str]:
    return [" ".join(f"w{word}" for word in rng.zipf(1.5, rng.integers(low, high)) % vocabulary) for _ in range(n)]


def test_longer_texts_look_less_diverse_until_lengths_are_matched() -> None:
    """One source of words for both sets; only lengths differ, and the raw metrics mistake that for diversity."""
    rng = generator("inflation")
    raw_gaps, matched_gaps = [], []
    for _ in range(6):
        short, long = TextSet.of(texts(80, 5, 41, rng=rng)), TextSet.of(texts(80, 20, 81, rng=rng))
        raw_gaps.append(short.measure()["distinct_2"] - long.measure()["distinct_2"])
        pair = compare_matched(short, long, rng=rng, draws=10)
        matched_gaps.append(pair.a["distinct_2"] - pair.b["distinct_2"])
        assert pair.words_a == pytest.approx(pair.words_b, rel=0.1)
        assert pair.n < min(pair.n_a, pair.n_b) == 80
    assert np.mean(raw_gaps) > 0.04
    assert abs(np.mean(matched_gaps)) < np.mean(raw_gaps) / 4


def test_matched_sets_of_different_size_from_one_source_are_equal() -> None:
    rng = generator("sizes")
    small, large = TextSet.of(texts(60, 8, 30, rng=rng)), TextSet.of(texts(900, 8, 30, rng=rng))
    pair = compare_matched(small, large, rng=generator("draw"))
    assert large.measure()["distinct_2"] < 0.8 * small.measure()["distinct_2"]
    for metric in pair.a:
        assert pair.a[metric] == pytest.approx(pair.b[metric], rel=0.1), metric
        low, high = pair.draw_range[metric]
        assert low <= pair.a[metric] - pair.b[metric] <= high


def test_a_set_against_itself_differs_in_nothing() -> None:
    own = TextSet.of(texts(40, 5, 30, rng=generator("self")))
    pair = compare_matched(own, own, rng=generator("draw"), draws=3)
    assert pair.n == pair.n_a == 40
    for metric in set(pair.a) - {"compression_ratio"}:
        assert pair.a[metric] == pytest.approx(pair.b[metric]), metric
    assert pair.a["compression_ratio"] == pytest.approx(pair.b["compression_ratio"], rel=0.02), "its texts come in another order"


def test_a_difference_that_is_there_is_found_with_its_sign() -> None:
    rng = generator("sign")
    varied, dull = TextSet.of(texts(80, 10, 30, rng=rng)), TextSet.of(texts(80, 10, 30, rng=rng, vocabulary=8))
    pair = compare_matched(varied, dull, rng=generator("draw"))
    for metric, gap in ((metric, pair.a[metric] - pair.b[metric]) for metric in pair.a):
        assert (gap > 0) == HIGHER_IS_MORE_DIVERSE[metric], metric


def test_bins_are_narrow() -> None:
    words = [9, 11, 60]
    a, b = TextSet.of([" ".join("x" * size) for size in words * 5]), TextSet.of([" ".join("y" * size) for size in [10, 12, 200] * 5])
    pair = compare_matched(a, b, rng=generator("bins"))
    assert pair.n < 15
    assert 1 / BIN_RATIO < pair.words_a / pair.words_b < BIN_RATIO


def test_same_draws_for_the_same_seed_only() -> None:
    rng = generator("rng")
    a, b = TextSet.of(texts(30, 5, 30, rng=rng)), TextSet.of(texts(90, 5, 30, rng=rng))
    first, again, other = (compare_matched(a, b, rng=generator(name), draws=4) for name in ("x", "x", "y"))
    assert first == again
    assert first.b != other.b


@pytest.mark.parametrize("lengths", [[], [3, 3, 3], [50] * 20])
def test_too_few_counterparts_are_refused(lengths: list[int]) -> None:
    a = TextSet.of([" ".join("x" * 5)] * 20)
    with pytest.raises(SpecError, match="only 0 texts have a counterpart"):
        compare_matched(a, TextSet.of([" ".join("y" * size) for size in lengths]), rng=generator("few"))


def test_paired_differences_are_the_t_tests() -> None:
    rng = generator("t")
    a, b = rng.normal(1, 1, 6), rng.normal(0, 1, 6)
    found = paired_differences({seed: {"m": value} for seed, value in enumerate(a)}, {seed: {"m": value} for seed, value in enumerate(b)})
    expected = stats.ttest_rel(a, b).confidence_interval()
    assert found["m"].interval == pytest.approx((expected.low, expected.high))
    assert found["m"].difference == pytest.approx(a.mean() - b.mean())


def test_only_shared_seeds_and_metrics_are_paired() -> None:
    found = paired_differences({1: {"m": 3.0, "only": 1.0}, 2: {"m": 9.0}}, {1: {"m": 1.0}, 3: {"m": 0.0}})
    assert found == {"m": Difference(3.0, 1.0, 2.0, None, 1)}
    with pytest.raises(SpecError, match="no training seed in common"):
        paired_differences({1: {"m": 1.0}}, {2: {"m": 1.0}})
