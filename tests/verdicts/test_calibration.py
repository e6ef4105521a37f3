"""The calibration's own honesty: worlds are what they say, counts are what the product decides, and a small run of it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.errors import SelfteachError
from harness.stats.crossed import TaskScores, contrast, moments
from harness.stats.relative import power_product, ratio, ratio_tails
from harness.verdicts.calibration import __main__ as program
from harness.verdicts.calibration.design import Cell, cells
from harness.verdicts.calibration.normal_theory import error_rate
from harness.verdicts.calibration.plots import draw
from harness.verdicts.calibration.rates import claim_counts, effect_counts, null_counts, rates, ratio_counts, retention_counts
from harness.verdicts.calibration.tables import BANDS, misses, tables
from harness.verdicts.calibration.worlds import World
from harness.verdicts.judge import Tails, decide

WORLDS = [
    World(30, 300, 2, effect=0.7, intercept=-0.5),
    World(30, 300, 2, scores="graded", clustered=True, effect=0.7),
    World(30, 300, 2, perturbed=True, seed_task_sd=0.3),
]


def drawn(world: World, n_studies: int = 40) -> tuple[list[TaskScores], list[list[TaskScores]]]:
    tasks = world.draw(n_studies, np.random.default_rng(5))
    return tasks, [[TaskScores(task.values_S_N_P[r], task.clusters_N) for task in tasks] for r in range(n_studies)]


@pytest.mark.parametrize("world", WORLDS)
def test_truth_of_a_world_is_what_it_draws(world):
    tasks = world.draw(20, np.random.default_rng(0))
    assert np.mean([task.values_S_N_P.mean(axis=(0, 1, 2)) for task in tasks], axis=0) == pytest.approx(world.truth(), abs=0.012)


def test_passages_of_a_clustered_world_hold_alike_items():
    world = World(1, 1000, seed_sd=0, item_sd=2, scores="graded", clustered=True)
    values = world.draw(1, np.random.default_rng(1))[0].values_S_N_P[0, 0] @ (1, -1)
    labels = world.labels()
    pairs = np.flatnonzero(labels[1:] == labels[:-1])
    assert len(np.unique(labels)) == 400
    assert np.corrcoef(values[pairs], values[pairs + 1])[0, 1] > 0.2


@pytest.mark.parametrize("n_seeds", [1, 4])
@pytest.mark.parametrize("clustered", [False, True])
def test_batches_count_what_single_studies_give(n_seeds, clustered):
    world = World(n_seeds, 60, 2, effect=0.5, intercept=-1.0, clustered=clustered)
    tasks, studies = drawn(world)
    fitted, (top, bottom) = moments(tasks), world.truth()
    false_alarms, effect, ratios, claims = (count(world, fitted) for count in (null_counts, effect_counts, ratio_counts, claim_counts))
    covers = iter(ratios["inverted test"])
    for r, study in enumerate(studies):
        alone = contrast(moments(study), (1, -1))
        low, high = alone.interval
        assert false_alarms["corrected"][r] == (alone.p_value < 0.05)
        assert false_alarms["hillis"][r] == (contrast(moments(study), (1, -1), df="hillis").p_value < 0.05)
        assert effect["coverage"][r] == (low <= top - bottom <= high)
        assert effect["width"][r] == pytest.approx(high - low)
        tests = Tails(alone.p_greater(top - bottom), alone.p_less(top - bottom), alone.p_greater(0), alone.p_less(0))
        verdict = decide(tests, p_threshold=tests.p_threshold, p_none=tests.p_none, alpha=0.05)
        assert claims["absolute: met"][r] == (verdict == "met")
        if not ratios["defined"][r]:
            continue
        assert next(covers) == (2 * min(ratio_tails(moments(study), top / bottom)) >= 0.05)
        low, high = ratio(moments(study)).interval
        assert claims["relative: met"][r] == (low > top / bottom)


def test_retention_covers_as_the_single_interval_does():
    world = World(3, 40, effect=0.5, intercept=1.0, perturbed=True)
    tasks, studies = drawn(world)
    found, truth = retention_counts(world, moments(tasks)), world.truth()
    held = iter(found["coverage"])
    for r, study in enumerate(studies):
        try:
            low, high = power_product(moments(study), (-1, 1, 1, -1)).interval
        except SelfteachError:
            assert not found["defined"][r]
        else:
            assert next(held) == (low <= truth[1] * truth[2] / (truth[0] * truth[3]) <= high)


def test_one_seed_has_no_test_on_seed_means_and_is_fooled_by_luck():
    found = rates(Cell("difference", "null", World(1, 200, seed_sd=0.5)), replications=300, rng=np.random.default_rng(2))
    assert np.isnan(found["t on seed means"])
    assert found["corrected"] > 0.25


@pytest.mark.parametrize("n_seeds", [3, 5, 10])
def test_error_rate_under_normality_is_near_nominal_whatever_the_components(n_seeds):
    found = [
        error_rate("corrected", n_seeds, n_items, seed=seed, item=item, log2_points=11)
        for n_items in (50, 1000) for seed in (0, 0.5, 2, 7, 40) for item in (0, 0.2, 1, 5, 50)
    ]  # fmt: skip
    assert min(found) > 0.042
    assert max(found) < 0.055


def test_the_rules_it_was_chosen_over_stray_further_at_three_seeds():
    assert error_rate("satterthwaite", 3, 200, seed=2, item=0.1) > 0.065
    assert error_rate("satterthwaite", 3, 200, seed=0, item=0) < 0.035
    assert error_rate("hillis", 3, 200, seed=5, item=3) > 0.065


def test_quadrature_agrees_with_simulated_normal_scores():
    rng = np.random.default_rng(3)
    scores = rng.normal(0, 0.3, (4000, 3, 1)) + rng.normal(0, 0.5, (4000, 1, 30)) + rng.normal(0, 1, (4000, 3, 30))
    found = null_counts(World(3, 30), moments([TaskScores(np.stack([scores, 0 * scores], axis=-1))]))
    expected = {rule: error_rate(rule, 3, 30, seed=0.09 * 30, item=0.25 * 3) for rule in ("corrected", "satterthwaite", "hillis")}
    for rule, rate in expected.items():
        assert found[rule].mean() == pytest.approx(rate, abs=4 * (0.05 * 0.95 / 4000) ** 0.5)


def test_the_command_writes_tables_with_misses_marked_and_the_same_numbers_again(tmp_path, monkeypatch):
    small = [cell for cell in cells() if cell.world.n_items <= 100 and cell.world.n_seeds <= 3]
    monkeypatch.setattr(program, "cells", lambda: iter(small))
    monkeypatch.setattr("harness.verdicts.calibration.normal_theory.rows", lambda: iter(()))
    monkeypatch.setattr(program, "draw", lambda results, folder: [])
    for name in ("one", "two"):
        monkeypatch.setattr("sys.argv", ["calibration", "--out", str(tmp_path / name), "--replications", "5", "--seed", "3"])
        program.main()
    text = (tmp_path / "one" / "tables.md").read_text(encoding="utf-8")
    assert text == (tmp_path / "two" / "tables.md").read_text(encoding="utf-8")
    assert "--replications 5 --seed 3" in text
    # Five studies a cell give shares of .0, .2, ...: all outside the band, so that every judged cell must be marked.
    assert "| 3 × 50 | 0, 0.5 | **.000** 🔴 |" in text or "| 3 × 50 | 0, 0.5 | **.200** 🔴 |" in text
    assert "| 1 × 50 (items only) |" in text
    results = pd.read_csv(tmp_path / "one" / "results.csv", keep_default_na=False, na_values=[""])
    assert all(outside == n_cells for (_, kind, _), (n_cells, outside, *_) in misses(results).items() if kind == "null")
    assert len(results) == len(small)
    assert sum(1 for line in tables(results) if line.startswith("## ")) == 11


def test_every_design_of_the_issue_is_there():
    designs = {
        (cell.world.n_seeds, cell.world.n_items, cell.world.scores, cell.world.clustered, cell.world.seed_sd, cell.kind)
        for cell in cells() if cell.family == "difference"
    }  # fmt: skip
    assert len(designs) == 4 * 3 * 2 * 2 * 3 * 2


def test_committed_tables_are_those_of_the_committed_results(monkeypatch):
    """By the present rendering, for the present design; tables.md shows misses, if any."""
    monkeypatch.setattr("harness.verdicts.calibration.normal_theory.rows", lambda: iter(()))
    folder = Path(__file__).parents[2] / "docs" / "calibration"
    results = pd.read_csv(folder / "results.csv", keep_default_na=False, na_values=[""])
    text = (folder / "tables.md").read_text(encoding="utf-8")
    missing = [line for line in tables(results) if line not in text]
    assert not missing
    assert len(results) == len(list(cells()))


@pytest.mark.slow
def test_a_quick_calibration_holds(tmp_path):
    """The whole design at 1000 studies a cell, with bands widened by 3.9 standard errors (450 cells)."""
    results = pd.DataFrame(program.simulate(list(cells()), 1000, 1, 2))
    trained = results[results["n_seeds"] >= 3]
    slack = 3.9 * (0.05 * 0.95 / 1000) ** 0.5
    for (kind, measure), (low, high) in BANDS.items():
        values = trained.loc[trained["kind"] == kind, measure].dropna()
        assert len(values)
        assert values.between(low - slack, high + slack).all(), (kind, measure, values.min(), values.max())
    assert all(path.stat().st_size > 10_000 for path in draw(results, tmp_path))
