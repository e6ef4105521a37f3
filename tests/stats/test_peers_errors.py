"""Errors known in other evaluation software, each stated by its own formula, and that ours does not share them.

lm-eval's functions are called as installed. The others are restated here in a line or two from the version named, because their packages
are no dependency of this one; the names in the docstrings say where the line stands.
"""

import math

import numpy as np
import pytest
from lm_eval.api import metrics as lm_eval_metrics

from harness.stats.aggregate import iqm, worst_case
from harness.stats.bootstrap import bootstrap, paired_bootstrap
from harness.stats.clustered import mean_t, paired_t
from harness.stats.crossed import paired_difference
from harness.stats.groups import group_mean
from harness.stats.intervals import jeffreys, wilson

SIZES = (40, 2000, 400)
CHANCES = (0.5, 0.9, 0.75)


def right_or_wrong(rng):
    return [(rng.random(size) < chance).astype(float) for size, chance in zip(SIZES, CHANCES, strict=True)]


def test_macro_mean_has_its_own_standard_error_not_the_pooled_one():
    """Given to a macro mean, lm-eval's `pooled_sample_stderr` is under a third of the truth here, where the hard group is small.

    lm-eval 0.4.13 itself (api/group.py) uses it where it is right, for size-weighted groups, and `unweighted_mean_stderr` for macro means.
    """
    rng = np.random.default_rng(0)
    parts = right_or_wrong(rng)
    labels = np.repeat(["small", "large", "middle"], SIZES)
    ours = group_mean(np.concatenate(parts), labels).se
    errors = [lm_eval_metrics.mean_stderr(part) for part in parts]
    truth = np.std([np.mean([part.mean() for part in right_or_wrong(rng)]) for _ in range(4000)])
    assert ours == pytest.approx(truth, rel=0.08)
    assert lm_eval_metrics.pooled_sample_stderr(errors, SIZES) < truth / 3
    assert ours == pytest.approx(math.sqrt(sum(error**2 for error in errors)) / 3, abs=1e-9)
    assert ours == pytest.approx(lm_eval_metrics.unweighted_mean_stderr(errors), abs=1e-9)
    micro = group_mean(np.concatenate(parts), labels, weighting="micro").se
    assert micro == pytest.approx(lm_eval_metrics.pooled_sample_stderr(errors, SIZES), rel=0.01)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_standard_error_of_zero_at_0_or_100_percent(share):
    """lm-eval's `mean_stderr` is exactly 0 there: 20 right of 20 would be certainty."""
    right = np.full(20, share)
    assert lm_eval_metrics.mean_stderr(right) == 0
    assert mean_t(right).se > 0.02
    for low, high in (mean_t(right).interval, wilson(20 * share, 20), jeffreys(20 * share, 20)):
        assert high - low > 0.08
    assert group_mean(np.tile(right, 2), np.repeat(["a", "b"], 20)).se > 0.01


@pytest.mark.parametrize("difference", [0.0, 1.0])
def test_no_standard_error_of_zero_for_equal_differences(difference):
    a, b = np.full((3, 20), difference), np.zeros((3, 20))
    assert paired_difference(a, b).se > 0
    assert paired_difference(a[0], b[0]).se > 0
    assert paired_t(a[0], b[0]).se > 0
    found = paired_bootstrap(np.stack([a[0], b[0]], axis=1), [(0, 1)], rng=np.random.default_rng(1), resamples=200)
    assert found.standard_error_D[0] > 0
    assert found.low_D[0] < found.high_D[0]


def test_bootstrap_standard_error_does_not_shrink_with_resamples():
    """lighteval 0.13.0, metrics/utils/stderr.py: bootstrap_stderr ends in `mean_stderr(res)`, a division by √B that has no place there."""
    x = np.random.default_rng(2).random(200)
    closed_form = x.std() / math.sqrt(200)
    for resamples in (1000, 4000):
        found = bootstrap(x[:, None], lambda mean: mean, rng=np.random.default_rng(3), resamples=resamples)
        distribution = found.distribution_B_D[:, 0]
        lighteval = distribution.std(ddof=1) / math.sqrt(resamples)
        assert found.standard_error_D[0] == pytest.approx(closed_form, rel=0.08)
        assert lighteval == pytest.approx(closed_form / math.sqrt(resamples), rel=0.08)


def test_bootstrap_agrees_with_lm_evals_on_the_same_statistic(monkeypatch):
    """The one lm-eval gets right, at 1000 resamples of a mean, in one process; its message to the terminal is its own."""
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    x = np.random.default_rng(4).random(80)
    theirs = lm_eval_metrics.bootstrap_stderr(lm_eval_metrics.mean, x.tolist(), iters=1000)
    ours = bootstrap(x[:, None], lambda mean: mean, rng=np.random.default_rng(5), resamples=1000).standard_error_D[0]
    assert ours == pytest.approx(theirs, rel=0.12)


def test_worst_case_is_in_the_metrics_own_direction():
    """HELM 0.5.16, metrics/metric.py: compute_worst_case_metrics adds `stat.min` whatever the metric, with a note that it should not."""
    error_rate = np.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.0]])
    helm = error_rate.min(axis=1)
    assert worst_case(error_rate, higher_is_better=False).tolist() == [0.6, 0.2] != helm.tolist()
    assert worst_case(1 - error_rate, higher_is_better=True) == pytest.approx(1 - worst_case(error_rate, higher_is_better=False))


def test_a_checkpoint_is_one_draw_not_one_a_task():
    """rliable 1.2.0, StratifiedBootstrap: runs are drawn anew for every task; with K equal tasks its standard error is √K too small."""
    luck, n_tasks = np.random.default_rng(6).normal(0, 1, (6, 1)), 16
    rng = np.random.default_rng(7)
    cells_B_S_K = luck[rng.integers(0, 6, (4000, 6, n_tasks)), 0]
    rliable = cells_B_S_K.mean(axis=(1, 2)).std()
    assert rliable == pytest.approx(luck.std() / math.sqrt(6 * n_tasks), rel=0.06)
    ours, one_task = iqm(np.repeat(luck, n_tasks, axis=1)), iqm(luck)
    assert ours.se == pytest.approx(one_task.se, rel=0.25)
    assert ours.se > 2 * rliable
