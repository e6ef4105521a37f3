from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from harness.compare import wording
from harness.compare.align import Aligned, Common
from harness.compare.compare import compare
from harness.compare.rows import FEW_DISCORDANT, Comparison
from harness.errors import SpecError
from harness.stats.crossed import paired_difference


def task(name: str = "arc", *, higher: bool = True, clusters: Sequence[int] | None = None, metric: str = "acc", **scores: Any) -> Aligned:
    arrays = {model: np.atleast_2d(np.array(values, dtype=float)) for model, values in scores.items()}
    n_items = next(iter(arrays.values())).shape[1]
    items = pa.array([f"q{index}" for index in range(n_items)])
    seeds = {model: [str(seed) for seed in range(len(values))] for model, values in arrays.items()}
    return Aligned(name, metric, items, arrays, seeds, None if clusters is None else np.array(clusters), higher)


def run(*tasks: Aligned, **options: Any) -> Comparison:
    return compare(Common(list(tasks[0].scores), list(tasks), []), **options)


def binary(n_items: int, *shares: float, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(rng.random(n_items) < share).astype(float) for share in shares]


def test_one_checkpoint_each_is_the_paired_t_test_with_the_exact_test_beside_it() -> None:
    first, second = binary(400, 0.7, 0.55)
    row = run(task(a=first, b=second)).families[0].rows[0]
    reference = stats.ttest_rel(first, second)
    low, high = reference.confidence_interval(0.95)
    assert (row.difference, row.p_value) == pytest.approx((first.mean() - second.mean(), reference.pvalue))
    assert row.interval == pytest.approx((low, high))
    wins, losses = int((first > second).sum()), int((first < second).sum())
    assert row.check is not None
    assert (row.check.name, row.check.n_discordant) == ("exact McNemar", wins + losses)
    assert row.check.p_value == pytest.approx(stats.binomtest(wins, wins + losses).pvalue)


def test_graded_scores_have_sign_flips_beside_the_t_test() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.3, 1, 200), rng.normal(0, 1, 200)
    row = run(task(a=first, b=second)).families[0].rows[0]
    assert row.check is not None
    assert row.check.name == "sign flips"
    assert row.check.p_value == pytest.approx(row.p_value, abs=0.01)
    again = run(task(a=first, b=second)).families[0].rows[0]
    assert again.check == row.check, "the same logs give the same p value"


def test_clusters_widen_the_interval_of_items_that_repeat_one_another() -> None:
    first, second = (np.repeat(values, 5) for values in binary(60, 0.7, 0.5))
    alone = run(task(a=first, b=second)).families[0].rows[0]
    grouped = run(task(a=first, b=second, clusters=np.repeat(np.arange(60), 5).tolist())).families[0].rows[0]
    once = run(task(a=first[::5], b=second[::5])).families[0].rows[0]
    assert grouped.n_clusters == 60
    assert grouped.interval == pytest.approx(once.interval, abs=1e-12), "five copies of an item are one item"
    assert grouped.se > 1.9 * alone.se


def test_several_checkpoints_are_the_crossed_model() -> None:
    rng = np.random.default_rng(2)
    first, second = (rng.random((5, 80)) < 0.6).astype(float), (rng.random((5, 80)) < 0.5).astype(float)
    row = run(task(a=first, b=second)).families[0].rows[0]
    reference = paired_difference(first, second)
    assert (row.p_value, row.interval, row.n_seeds, row.check) == (reference.p_value, reference.interval, 5, None)


def test_a_single_checkpoint_stands_against_every_checkpoint_of_the_other() -> None:
    rng = np.random.default_rng(3)
    base, tuned = (rng.random((1, 80)) < 0.4).astype(float), (rng.random((3, 80)) < 0.6).astype(float)
    found = run(task(base=base, tuned=tuned))
    reference = paired_difference(np.repeat(base, 3, axis=0), tuned)
    assert found.families[0].rows[0].p_value == pytest.approx(reference.p_value)
    assert any("base: one checkpoint" in text for text in found.warnings)


def test_unequal_numbers_of_checkpoints_are_refused_or_the_common_ones_compared() -> None:
    rng = np.random.default_rng(4)
    uneven = task(a=rng.random((5, 20)), b=rng.random((3, 20)))
    with pytest.raises(SpecError, match=r"'a' has 5 checkpoints, 'b' 3; --intersect compares the 3"):
        run(uneven)
    assert run(uneven, intersect=True).families[0].rows[0].n_seeds == 3


def test_checkpoints_are_paired_by_label_not_by_order() -> None:
    rng = np.random.default_rng(5)
    scores = rng.random((3, 30))
    shuffled = task(a=scores, b=scores[[2, 0, 1]])
    shuffled.seeds["b"][:] = ["2", "0", "1"]
    assert run(shuffled).families[0].rows[0].degenerate, "every checkpoint meets itself"


def test_lower_is_better_turns_the_verdict_not_the_difference() -> None:
    first, second = binary(500, 0.7, 0.5)
    up = run(task(a=first, b=second)).families[0].rows[0]
    down = run(task(a=first, b=second, higher=False)).families[0].rows[0]
    assert up.difference == down.difference > 0
    assert (wording.verdict_text(up), wording.verdict_text(down)) == ("a better", "b better")
    assert "b is better than a" in down.words
    assert "lower is better" in down.words


def test_swapping_the_models_mirrors_everything() -> None:
    first, second = binary(150, 0.62, 0.5)
    there, back = (run(task(**scores)).families[0].rows[0] for scores in ({"a": first, "b": second}, {"b": second, "a": first}))
    assert back.difference == -there.difference
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))
    assert (back.p_value, back.verdict) == (
        pytest.approx(there.p_value),
        {"first better": "second better"}.get(there.verdict, there.verdict),
    )


def test_holm_over_tasks_can_take_back_what_one_task_alone_would_say() -> None:
    tasks = [task(f"t{index}", **dict(zip("ab", binary(200, 0.5, 0.5, seed=index), strict=True))) for index in range(9)]
    first, second = np.zeros(200), np.zeros(200)
    first[:30], second[30:44] = 1, 1
    tasks.append(task("real", a=first, b=second))
    family = run(*tasks).families[0]
    row = family.rows[-1]
    assert row.p_value < 0.05 < row.p_holm == pytest.approx(min(1.0, 10 * row.p_value))
    assert row.p_value <= row.p_bh <= row.p_holm
    assert row.verdict == wording.NOT_APART
    assert "not among as many comparisons" in row.words


def test_the_mean_over_tasks_counts_each_task_alike_and_adds_their_variances() -> None:
    pairs = [binary(size, 0.7, 0.5, seed=size) for size in (50, 500)]
    family = run(*(task(f"t{len(a)}", a=a, b=b) for a, b in pairs)).families[0]
    assert len(family.overall) == 1
    row = family.overall[0]
    assert row.difference == pytest.approx(np.mean([(a - b).mean() for a, b in pairs]))
    assert row.se == pytest.approx(math.sqrt(sum((a - b).var(ddof=1) / len(a) for a, b in pairs)) / 2)
    assert (row.n_items, row.p_holm) == (550, row.p_value)


def test_few_discordant_items_are_decided_by_the_exact_test() -> None:
    first, second = np.ones(1000), np.ones(1000)
    second[:5] = 0
    found = run(task(a=first, b=second))
    row = found.families[0].rows[0]
    assert row.p_value < 0.05 < row.p_holm == pytest.approx(2 * 0.5**5)
    assert row.verdict == wording.NOT_APART
    assert any("exact McNemar decides" in text for text in found.warnings)
    second[:FEW_DISCORDANT] = 0
    row = run(task(a=first, b=second)).families[0].rows[0]
    assert row.p_holm == row.p_value


def test_margin_gives_equivalence_only_where_the_whole_interval_lies_inside() -> None:
    first, second = binary(4000, 0.5, 0.5)
    second[:3900] = first[:3900]
    wide, narrow = (run(task(a=first, b=second), margin=margin).families[0].rows[0] for margin in (0.02, 0.002))
    assert wide.verdict == wording.EQUIVALENT
    assert "differ by less than 2.0 points" in wide.words
    assert narrow.verdict == wording.NOT_APART
    diff = first - second
    t = (0.02 - abs(diff.mean())) / stats.sem(diff)
    assert wide.equivalence_p == pytest.approx(stats.t.sf(t, 3999))


def test_items_needed_would_indeed_show_the_difference() -> None:
    first, second = binary(200, 0.56, 0.5, seed=3)
    row = run(task(a=first, b=second)).families[0].rows[0]
    assert row.verdict == wording.NOT_APART
    assert row.needed is not None
    spread = (first - second).std(ddof=1)
    noncentrality = abs(row.difference) / (spread / math.sqrt(row.needed.n_items))
    power = stats.nct.sf(stats.t.ppf(0.975, row.needed.n_items - 1), row.needed.n_items - 1, noncentrality)
    assert power == pytest.approx(0.8, abs=0.01)


def test_three_models_have_all_pairs_and_the_set_near_the_best() -> None:
    best, near, far = binary(600, 0.7, 0.69, 0.4)
    found = run(task(far=far, near=near, best=best))
    family = found.families[0]
    assert [(row.first, row.second) for row in family.rows] == [("far", "near"), ("far", "best"), ("near", "best")]
    assert {entry.model: entry.near_best for entry in family.standings} == {"best": True, "near": True, "far": False}
    assert [entry.mean for entry in family.standings] == sorted((entry.mean for entry in family.standings), reverse=True)
    assert any("flattered" in note for note in found.notes)


def test_items_without_a_score_leave_both_sides() -> None:
    first, second = binary(100, 0.6, 0.5)
    first[3] = np.nan
    row = run(task(a=first, b=second)).families[0].rows[0]
    kept = np.arange(100) != 3
    assert (row.n_items, row.n_dropped) == (99, 1)
    assert row.difference == pytest.approx((first[kept] - second[kept]).mean())


def test_equal_and_constant_scores_have_an_interval_that_is_not_a_point() -> None:
    found = run(task(a=np.ones(50), b=np.ones(50)))
    row = found.families[0].rows[0]
    assert row.interval[0] < 0 < row.interval[1]
    assert row.p_value == 1
    assert any("no variation" in text for text in found.warnings)
    constant = run(task(a=np.full(50, 37.5), b=np.full(50, 37.5))).families[0].rows[0]
    assert (constant.p_value, constant.verdict) == (1, wording.NOT_APART)


def test_too_few_items_leave_a_task_out_with_a_warning_or_end_the_comparison() -> None:
    lone = task("lone", a=[1.0, np.nan], b=[0.0, 1.0])
    with pytest.raises(SpecError, match=r"lone \(acc\): 1 item with a score on both sides; a comparison needs 2"):
        run(lone)
    found = run(lone, task("arc", **dict(zip("ab", binary(50, 0.6, 0.5), strict=True))))
    assert [row.task for row in found.families[0].rows] == ["arc"]
    assert any(text.startswith("not compared: lone") for text in found.warnings)


def test_several_metrics_of_a_task_are_families_of_their_own() -> None:
    first, second = binary(100, 0.6, 0.5)
    found = run(*(task(name, a=first, b=second, metric=metric) for name in ("x", "y") for metric in ("acc", "f1")))
    assert [(family.name, len(family.rows), len(family.overall)) for family in found.families] == [("acc", 2, 1), ("f1", 2, 1)]
    mixed = run(task("x", a=first, b=second), task("y", a=100 * first, b=100 * second, metric="points"))
    assert [family.name for family in mixed.families] == ["acc", "points"], "scores on different scales have no common mean"


def test_one_checkpoint_is_labelled_as_saying_nothing_of_retraining() -> None:
    assert any("nothing about retraining" in text for text in run(task(**dict(zip("ab", binary(50, 0.5, 0.5), strict=True)))).warnings)


def test_no_difference_is_reported_equal_in_about_five_of_a_hundred_null_worlds() -> None:
    rng = np.random.default_rng(6)
    found = 0
    for _ in range(400):
        skill = rng.random(60)
        first, second = (rng.random((2, 60)) < skill).astype(float)
        found += run(task(a=first, b=second)).families[0].rows[0].verdict != wording.NOT_APART
    assert found / 400 < 0.085
