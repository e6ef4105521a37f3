import numpy as np
import pytest
from scipy import stats

from harness.errors import SpecError
from harness.stats.aggregate import improvement_probability, iqm, iqm_difference, performance_profile


def world(rng, n_seeds, shared_sd, cell_sd, n_tasks=8, shift=0.0):
    """One checkpoint a seed, scored on every task: its luck is shared by them."""
    luck = rng.normal(0, shared_sd, (n_seeds, 1))
    return np.linspace(0, 1, n_tasks) ** 1.5 + shift + luck + rng.normal(0, cell_sd, (n_seeds, n_tasks))


def rliable_interval(scores_S_K, rng, resamples=200):
    """rliable 1.2.0, StratifiedBootstrap.update_indices: `np.random.choice(num_runs, (num_runs, num_tasks))`, then percentiles."""
    n_seeds, n_tasks = scores_S_K.shape
    cells = scores_S_K[rng.integers(0, n_seeds, (resamples, n_seeds, n_tasks)), np.arange(n_tasks)]
    return np.quantile(stats.trim_mean(cells.reshape(resamples, -1), 0.25, axis=1), [0.025, 0.975])


def coverage(n_seeds, replications):
    truth = stats.trim_mean(world(np.random.default_rng(0), 100_000, 0.1, 0.05), 0.25, axis=None)
    rng, ours, theirs = np.random.default_rng(1), 0, 0
    for _ in range(replications):
        scores = world(rng, n_seeds, 0.1, 0.05)
        low, high = iqm(scores).interval
        ours += low <= truth <= high
        low, high = rliable_interval(scores, rng)
        theirs += low <= truth <= high
    return ours / replications, theirs / replications


def test_iqm_is_scipys_trimmed_mean():
    scores = np.random.default_rng(2).random((5, 7))
    assert iqm(scores).estimate == pytest.approx(stats.trim_mean(scores, 0.25, axis=None), abs=1e-12)


def test_with_no_tails_to_trim_the_interval_is_the_t_interval_over_seeds():
    """All tasks of a seed equal and 3 seeds × 1 task: nothing is trimmed, the IQM is the mean."""
    runs = np.array([[0.2], [0.5], [0.6]])
    reference = stats.ttest_1samp(runs[:, 0], 0)
    assert iqm(runs).interval == pytest.approx(tuple(reference.confidence_interval()), abs=1e-9)


def test_a_common_shift_moves_the_difference_and_no_width():
    rng = np.random.default_rng(3)
    a, b = world(rng, 5, 0.1, 0.1), world(rng, 5, 0.1, 0.1)
    base, shifted = iqm_difference(a, b), iqm_difference(a + 0.25, b)
    assert shifted.estimate - base.estimate == pytest.approx(0.25)
    assert shifted.se == pytest.approx(base.se)


def test_pairing_by_seed_removes_what_seeds_share():
    rng = np.random.default_rng(4)
    luck = rng.normal(0, 0.5, (5, 1))
    a, b = (luck + rng.normal(0, 0.01, (5, 8)) + 0.1 for _ in range(2))
    assert iqm_difference(a, b).se < 0.2 * iqm(a).se


def test_more_tasks_of_the_same_checkpoints_do_not_sharpen_the_interval():
    runs = world(np.random.default_rng(5), 5, 0.2, 0.0)
    assert iqm(np.tile(runs, (1, 20))).se == pytest.approx(iqm(runs).se, rel=0.05)


def test_probability_of_improvement_is_mann_whitneys():
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, 6, (2, 5, 3)).astype(float)
    u = [stats.mannwhitneyu(a[:, task], b[:, task]).statistic / 25 for task in range(3)]
    assert improvement_probability(a, b).estimate == pytest.approx(np.mean(u))
    assert improvement_probability(a, b).estimate + improvement_probability(b, a).estimate == pytest.approx(1)


def test_always_better_still_has_an_interval():
    found = improvement_probability(np.ones((3, 4)), np.zeros((3, 4)))
    assert (found.estimate, found.interval[1], found.degenerate) == (1.0, 1.0, True)
    assert found.interval[0] < 0.5


def test_profile_falls_from_one_to_zero_inside_its_band():
    found = performance_profile(world(np.random.default_rng(7), 5, 0.1, 0.1), np.linspace(-1, 3, 41))
    assert found.share_L[0] == 1 and found.share_L[-1] == 0  # noqa: PT018
    assert (np.diff(found.share_L) <= 0).all()
    assert ((found.low_L <= found.share_L) & (found.share_L <= found.high_L)).all()
    assert (found.high_L > found.low_L).all()


def test_equal_seeds_leave_the_iqm_without_an_interval():
    found = iqm(np.full((4, 5), 0.3))
    assert (found.interval, found.degenerate) == ((-np.inf, np.inf), True)


def test_whole_seeds_cover_where_cells_do_not():
    """A fast version of the slow test: 200 replications of 5 seeds."""
    ours, theirs = coverage(5, 200)
    assert ours >= 0.91
    assert theirs <= 0.75


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [3, 5, 10])
def test_coverage_of_the_iqm(n_seeds):
    ours, theirs = coverage(n_seeds, 4000)
    print(f"{n_seeds} seeds: ours {ours:.3f}, cells as runs {theirs:.3f}")
    assert 0.935 <= ours <= 0.965
    assert theirs <= 0.7


@pytest.mark.slow
@pytest.mark.parametrize(("n_seeds", "low"), [(3, 0.935), (5, 0.935), (10, 0.93)])
@pytest.mark.parametrize(("shared_sd", "cell_sd", "shift"), [(0.1, 0.05, 0.05), (0.1, 0.2, 0.05), (0.5, 0.1, 0.5)])
def test_coverage_of_differences_shares_and_profiles(n_seeds, low, shared_sd, cell_sd, shift):
    rng, spread = np.random.default_rng(8), np.hypot(shared_sd, cell_sd)
    chance = stats.norm.cdf(shift / spread / np.sqrt(2))
    share = stats.norm.sf((0.5 - np.linspace(0, 1, 8) ** 1.5) / spread).mean()
    held = np.zeros(3)
    for _ in range(1500):
        b, a = world(rng, n_seeds, shared_sd, cell_sd), world(rng, n_seeds, shared_sd, cell_sd, shift=shift)
        profile = performance_profile(b, [0.5])
        for index, (truth, (below, above)) in enumerate(
            [
                (shift, iqm_difference(a, b).interval),
                (chance, improvement_probability(a, b).interval),
                (share, (profile.low_L[0], profile.high_L[0])),
            ]
        ):
            held[index] += below <= truth <= above
    print(n_seeds, shared_sd, cell_sd, held / 1500)
    assert (held / 1500 >= low).all()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[0.1, 0.2]], "at least 2"),
        ([[0.1, np.nan], [0.2, 0.3]], "missing"),
        ([["x"], ["y"]], "array of numbers"),
        ([], "at least one number"),
        ([0.1, 0.2], "2 axes"),
    ],
)
def test_garbage_is_one_message(scores, message):
    with pytest.raises(SpecError, match=message):
        iqm(scores)
    with pytest.raises(SpecError, match=message):
        improvement_probability(scores, scores)


def test_unequal_tables_are_refused():
    with pytest.raises(SpecError, match="same seeds and tasks"):
        iqm_difference(np.ones((3, 2)), np.ones((4, 2)))
