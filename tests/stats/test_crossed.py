"""The crossed model against ANOVA, t tests, closed forms and invariances."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.anova import anova_lm

from harness.errors import SpecError
from harness.stats.crossed import TaskScores, contrast, mean_and_error, moments, paired_difference, seed_moments


def crossed_sample(rng, n_seeds=5, n_items=40, seed_sd=0.3, item_sd=0.5, sd=1.0):
    effect = rng.normal(0, seed_sd, (n_seeds, 1)) + rng.normal(0, item_sd, (1, n_items))
    return 0.2 + effect + rng.normal(0, sd, (n_seeds, n_items))


@pytest.fixture
def diff_S_N():  # noqa: N802
    return crossed_sample(np.random.default_rng(3))


def mean_squares(diff_S_N):
    """From statsmodels' two-way ANOVA table."""
    s, n = diff_S_N.shape
    frame = pd.DataFrame({"y": diff_S_N.ravel(), "seed": np.repeat(np.arange(s), n), "item": np.tile(np.arange(n), s)})
    table = anova_lm(smf.ols("y ~ C(seed) + C(item)", frame).fit())
    return (table["sum_sq"] / table["df"]).loc[["C(seed)", "C(item)", "Residual"]].to_numpy()


def test_components_variance_and_df_are_those_of_the_anova_table(diff_S_N):
    s, n = diff_S_N.shape
    ms_seed, ms_item, ms_residual = mean_squares(diff_S_N)
    assert ms_seed > ms_residual
    assert ms_item > ms_residual
    found = paired_difference(diff_S_N, np.zeros_like(diff_S_N), score_range=5, df="satterthwaite")
    assert found.components.seed == pytest.approx((ms_seed - ms_residual) / n)
    assert found.components.item == pytest.approx((ms_item - ms_residual) / s)
    assert found.components.residual == pytest.approx(ms_residual)
    total = ms_seed + ms_item - ms_residual
    assert found.se**2 == pytest.approx(total / (s * n))
    df = total**2 / (ms_seed**2 / (s - 1) + ms_item**2 / (n - 1) + ms_residual**2 / ((s - 1) * (n - 1)))
    assert found.df == pytest.approx(df)
    half = stats.t.ppf(0.975, df) * found.se
    assert found.interval == pytest.approx((found.estimate - half, found.estimate + half))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(found.estimate) / found.se, df))
    parts = found.components
    assert found.se**2 == pytest.approx(parts.seed / s + parts.item / n + parts.residual / (s * n))


def test_hillis_df(diff_S_N):
    s, _ = diff_S_N.shape
    ms_seed, ms_item, ms_residual = mean_squares(diff_S_N)
    found = paired_difference(diff_S_N, np.zeros_like(diff_S_N), df="hillis")
    assert found.df == pytest.approx((ms_seed + ms_item - ms_residual) ** 2 / (ms_seed**2 / (s - 1)))


def test_components_agree_with_reml_where_none_is_at_zero(diff_S_N):
    s, n = diff_S_N.shape
    frame = pd.DataFrame({"y": diff_S_N.ravel(), "seed": np.repeat(np.arange(s), n), "item": np.tile(np.arange(n), s), "one": 1})
    terms = {"seed": "0 + C(seed)", "item": "0 + C(item)"}
    fit = smf.mixedlm("y ~ 1", frame, groups="one", vc_formula=terms).fit(reml=True)
    reml = dict(zip(fit.model.exog_vc.names, fit.vcomp, strict=True))
    found = paired_difference(diff_S_N, np.zeros_like(diff_S_N)).components
    assert found.seed == pytest.approx(reml["seed"], rel=1e-3)
    assert found.item == pytest.approx(reml["item"], rel=1e-3)
    assert found.residual == pytest.approx(fit.scale, rel=1e-3)


def test_one_seed_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.1, 1, 60), rng.normal(0, 1, 60)
    found, reference = paired_difference(a, b), stats.ttest_rel(a, b)
    assert found.p_value == pytest.approx(reference.pvalue)
    assert found.df == 59
    assert found.interval == pytest.approx(tuple(reference.confidence_interval()))
    assert found.model == "items only"
    assert found.components.seed is None


def test_items_that_differ_equally_leave_the_t_test_on_seed_means():
    seed_effect = np.array([[0.1], [0.3], [-0.2], [0.4]])
    diff = seed_effect + np.zeros((4, 30))
    diff[:, ::2] += 0.05
    diff[:, 1::2] -= 0.05
    found = paired_difference(diff, np.zeros_like(diff))
    assert found.components.seed == pytest.approx(seed_effect.var(ddof=1))
    assert found.se**2 == pytest.approx(seed_effect.var(ddof=1) / 4 + diff[0].var(ddof=1) / 30)


def test_swapping_methods_mirrors_the_result(diff_S_N):
    other = crossed_sample(np.random.default_rng(9))
    ahead, behind = paired_difference(diff_S_N, other), paired_difference(other, diff_S_N)
    assert ahead.estimate == pytest.approx(-behind.estimate)
    assert ahead.interval == pytest.approx((-behind.interval[1], -behind.interval[0]))
    assert ahead.p_value == pytest.approx(behind.p_value)


def test_order_of_items_and_seeds_and_shift_do_not_matter(diff_S_N):
    rng = np.random.default_rng(1)
    shuffled = diff_S_N[rng.permutation(5)][:, rng.permutation(40)]
    one, two = paired_difference(diff_S_N, np.zeros((5, 40))), paired_difference(shuffled + 3, np.full((5, 40), 3.0))
    assert (one.estimate, one.se, one.df) == pytest.approx((two.estimate, two.se, two.df))


def test_scaling_scores_scales_the_result(diff_S_N):
    one, ten = paired_difference(diff_S_N, 0 * diff_S_N), paired_difference(10 * diff_S_N, 0 * diff_S_N)
    assert (ten.estimate, ten.se, ten.p_value) == pytest.approx((10 * one.estimate, 10 * one.se, one.p_value))


def test_a_deterministic_comparator_is_allowed():
    rng = np.random.default_rng(2)
    base = np.tile((rng.random(50) < 0.4).astype(float), (3, 1))
    trained = (rng.random((3, 50)) < 0.6).astype(float)
    found = paired_difference(trained, base)
    assert found.estimate == pytest.approx(trained.mean() - base.mean())
    assert found.se > 0


@pytest.mark.parametrize("shift", [0.0, 1.0, -0.25])
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_equal_differences_get_the_floor_and_not_zero(shift, n_seeds):
    found = paired_difference(np.full((n_seeds, 20), 0.25 + shift), np.full((n_seeds, 20), 0.25))
    assert found.degenerate
    assert found.se**2 == pytest.approx(0.5 / (21 * 20))
    assert found.interval[0] < shift < found.interval[1]
    assert (found.p_value == 1.0) == (shift == 0)


def test_a_flat_task_keeps_its_floor_in_a_macro_mean():
    rng = np.random.default_rng(5)
    varied = rng.random((4, 30, 2)).round()
    flat = np.zeros((4, 30, 2))
    both, alone = contrast(moments([TaskScores(varied), TaskScores(flat)]), (1, -1)), contrast(moments([TaskScores(varied)]), (1, -1))
    assert not both.degenerate
    assert both.estimate == pytest.approx(alone.estimate / 2)
    assert both.se > alone.se / 2


def test_macro_mean_of_one_seed_adds_the_tasks_variances():
    rng = np.random.default_rng(6)
    tasks = [rng.normal(size=(1, n, 2)) for n in (20, 50, 90)]
    found = contrast(moments([TaskScores(task) for task in tasks]), (1, -1))
    diffs = [task[0, :, 0] - task[0, :, 1] for task in tasks]
    variances = np.array([diff.var(ddof=1) / len(diff) for diff in diffs])
    assert found.estimate == pytest.approx(np.mean([diff.mean() for diff in diffs]))
    assert found.se**2 == pytest.approx(variances.sum() / 9)
    assert found.df == pytest.approx(variances.sum() ** 2 / (variances**2 / (np.array([20, 50, 90]) - 1)).sum())


def test_macro_mean_shares_the_seed_between_tasks():
    """With luck common to all tasks the seed component does not shrink with the number of tasks."""
    rng = np.random.default_rng(7)
    luck = rng.normal(0, 1, (400, 1, 1))
    tasks = [TaskScores(np.concatenate([luck + rng.normal(0, 0.1, (400, 10, 1)), np.zeros((400, 10, 1))], axis=2)) for _ in range(8)]
    found = contrast(moments(tasks), (1, -1))
    assert found.components.seed == pytest.approx(luck.var(ddof=1), rel=0.01)
    assert found.se == pytest.approx(luck.std(ddof=1) / 20, rel=0.01)


def test_a_task_split_into_copies_with_its_items_keeps_the_mean():
    rng = np.random.default_rng(8)
    task = TaskScores(rng.random((3, 25, 2)).round())
    one, twice = contrast(moments([task]), (1, -1)), contrast(moments([task, task]), (1, -1))
    assert one.estimate == pytest.approx(twice.estimate)


def test_singleton_clusters_change_nothing_and_copied_items_add_nothing(diff_S_N):
    zeros = np.zeros_like(diff_S_N)
    plain = paired_difference(diff_S_N, zeros)
    single = paired_difference(diff_S_N, zeros, clusters_N=[f"c{i}" for i in range(40)])
    copied = paired_difference(np.repeat(diff_S_N, 3, axis=1), np.repeat(zeros, 3, axis=1), clusters_N=np.repeat(np.arange(40), 3))
    for other in (single, copied):
        assert (other.estimate, other.se, other.df) == pytest.approx((plain.estimate, plain.se, plain.df))
    assert copied.n_items == 120


def test_unequal_clusters_with_one_seed_give_the_cluster_robust_standard_error():
    rng = np.random.default_rng(10)
    clusters = np.repeat(np.arange(12), rng.integers(1, 9, 12))
    diff = rng.normal(size=12)[clusters] + rng.normal(size=len(clusters))
    found = paired_difference(diff, 0 * diff, clusters_N=clusters)
    fit = smf.ols("y ~ 1", pd.DataFrame({"y": diff})).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    assert found.estimate == pytest.approx(fit.params.iloc[0])
    assert found.se == pytest.approx(fit.bse.iloc[0])
    assert found.df == 11


def test_luck_of_seeds_does_not_leak_into_the_residual_through_unequal_clusters():
    """Scores that differ by seed only have no item and no residual variance, however large or small the clusters are."""
    luck = np.array([[0.3], [-0.1], [0.4]]) + np.zeros((3, 10))
    found = paired_difference(luck, 0 * luck, clusters_N=[0, 1, 1, 2, 2, 2, 3, 3, 3, 3]).components
    assert found.residual == pytest.approx(0, abs=1e-15)
    assert found.seed == pytest.approx(luck[:, 0].var(ddof=1), rel=0.05)


@pytest.mark.parametrize("clusters", [None, np.repeat(np.arange(5), [1, 2, 3, 4, 5])])
def test_studies_on_a_leading_axis_are_what_they_are_alone(clusters):
    rng = np.random.default_rng(13)
    tasks = [rng.random((6, 4, 15, 2)).round(1), rng.random((6, 4, 15, 2)).round()]
    together = mean_and_error(moments([TaskScores(task, clusters) for task in tasks]), (1, -1))
    for study in range(6):
        alone = contrast(moments([TaskScores(task[study], clusters) for task in tasks]), (1, -1))
        found = (together.mean[study], together.se[study], together.df[study])
        assert found == pytest.approx((alone.estimate, alone.se, alone.df), rel=1e-12)


def test_items_without_a_score_are_dropped_and_counted(diff_S_N):
    holed = diff_S_N.copy()
    holed[2, 7] = np.nan
    found = paired_difference(holed, np.zeros_like(holed))
    kept = np.delete(diff_S_N, 7, axis=1)
    assert (found.n_items, found.n_dropped) == (39, 1)
    assert found.estimate == pytest.approx(kept.mean())


def test_values_counted_once_a_seed_give_the_paired_t_test():
    rng = np.random.default_rng(11)
    cost = rng.normal(5, 1, (6, 2))
    found, reference = contrast(seed_moments(cost), (1, -1)), stats.ttest_rel(cost[:, 0], cost[:, 1])
    assert found.p_value == pytest.approx(reference.pvalue)
    assert found.model == "seeds only"


def test_a_cancelling_contrast_is_not_nan():
    task = TaskScores(np.repeat(np.random.default_rng(12).random((3, 20, 1)), 2, axis=2))
    found = contrast(moments([task]), (1, -1))
    assert found.estimate == 0
    assert np.isfinite(found.se)
    assert found.p_value == 1.0


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda: paired_difference(np.ones((2, 3)), np.ones((2, 4))), "comparator_S_N"),
        (lambda: paired_difference(np.full((2, 3), np.nan), np.ones((2, 3))), "tasks[0]"),
        (lambda: paired_difference(np.ones((2, 1)), np.ones((2, 1))), "tasks[0]"),
        (lambda: paired_difference(np.ones((2, 4)), np.ones((2, 4)), clusters_N=[1, 1, 1, 1]), "tasks[0]"),
        (lambda: moments([]), "tasks"),
        (lambda: moments([TaskScores(np.full((2, 3, 2), np.nan))]), "tasks[0]"),
        (lambda: moments([TaskScores(np.ones((2, 3, 2))), TaskScores(np.ones((3, 3, 2)))]), "tasks"),
        (lambda: seed_moments(np.array([[1.0, np.nan]])), "values_S_P"),
    ],
)
def test_wrong_input_is_named(call, key):
    with pytest.raises(SpecError) as caught:
        call()
    assert caught.value.key == key
