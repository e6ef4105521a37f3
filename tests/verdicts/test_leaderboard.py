import json

import numpy as np
import pytest

from harness.stats.intervals import wilson
from harness.verdicts.leaderboard import leaderboard

SHARES = {"base": 0.35, "sft": 0.45, "rlhf": 0.45, "selfteach": 0.75}


def by_method(board):
    return {row["method"]: row for row in board["rows"]}


def test_rows_are_ranked_with_ties(made_run):
    board = leaderboard(made_run(SHARES))
    assert board["matched"]
    assert board["match_spread"] == pytest.approx(0.005)
    rows = by_method(board)
    assert [row["rank"] for row in board["rows"]] == [1, 2, 3, 4]
    assert rows["selfteach"]["rank_interval"] == [1, 1]
    assert rows["sft"]["rank_interval"] == rows["rlhf"]["rank_interval"] == [2, 3]
    assert rows["base"]["rank_interval"] == [4, 4]
    assert [method for method, row in rows.items() if row["tied_with_best"]] == ["selfteach"]


def test_values_are_means_over_tasks_without_the_validation_suite(made_run):
    run = made_run(SHARES)
    rows = by_method(leaderboard(run))
    clean = run.samples[(run.samples["perturbation"] == "clean") & (run.samples["task"] != "pool")]
    expected = clean.groupby(["method", "task"])["value"].mean().groupby("method").mean()
    for method, row in rows.items():
        assert row["value"] == pytest.approx(expected[method])
        assert row["interval"][0] < row["value"] < row["interval"][1]
        assert set(row["per_task"]) == {"siqa", "logiqa", "stacked"}
        assert row["n_items"] == 600


def test_base_is_one_checkpoint_however_often_it_is_listed(made_run):
    rows = by_method(leaderboard(made_run(SHARES)))
    assert (rows["base"]["n_seeds"], rows["sft"]["n_seeds"]) == (1, 5)


def test_chance_is_flagged_one_sided(made_run):
    rows = by_method(leaderboard(made_run({"base": 0.335, "sft": 0.6}, items=400)))
    assert rows["base"]["per_task"]["siqa"]["at_chance"]
    assert not rows["base"]["per_task"]["logiqa"]["at_chance"]
    assert not rows["base"]["per_task"]["stacked"]["at_chance"]
    assert not any(entry["at_chance"] for entry in rows["sft"]["per_task"].values())


def test_scores_of_zero_have_wilsons_interval(made_run):
    rows = by_method(leaderboard(made_run({"sft": 0.0, "rlhf": 0.5}, seed_sd=0.0, items=50)))
    entry = rows["sft"]["per_task"]["stacked"]
    assert entry["interval"] == pytest.approx(wilson(0, 50))
    assert entry["at_chance"]
    assert rows["sft"]["interval"][1] > 0


def test_robustness_drop(made_run):
    rows = by_method(leaderboard(made_run({"sft": 0.6, "selfteach": 0.6}, drop={"sft": 0.3, "selfteach": 0.05})))
    for method, drop in (("sft", 0.3), ("selfteach", 0.05)):
        entry = rows[method]["robustness"]["typos"]
        assert entry["drop"] == pytest.approx(entry["clean"] - entry["value"])
        assert entry["drop"] == pytest.approx(drop, abs=0.05)
        assert entry["interval"][0] < entry["drop"] < entry["interval"][1]


def test_unmatched_compute_is_not_ranked(made_run):
    board = leaderboard(made_run(SHARES, spend={"rlhf": 0.9}, items=20))
    assert not board["matched"]
    assert board["match_spread"] == pytest.approx(0.1)
    assert all(row["rank"] is None and row["rank_interval"] is None for row in board["rows"])
    assert any("Not ranked: rlhf" in note for note in board["notes"])


def test_one_seed_separates_no_methods(made_run):
    board = leaderboard(made_run(SHARES, seeds=[0]))
    assert all(row["rank_interval"] == [1, 4] and row["tied_with_best"] for row in board["rows"])
    assert any("Only 1 training seed" in note for note in board["notes"])


def test_lower_is_better_tasks_stay_out_of_the_mean_and_are_named(made_run):
    run = made_run(SHARES, items=20)
    info = {name: dict(entry) for name, entry in run.study["tasks"].items()}
    info["logiqa"]["higher_is_better"] = False
    board = leaderboard(run, task_info=info)
    assert "logiqa" not in board["rows"][0]["per_task"]
    assert any("logiqa" in note for note in board["notes"])


def test_costs_are_means_over_seeds_and_json_safe(made_run):
    run = made_run(SHARES, items=20)
    run.trials.loc[run.trials["method"] == "base", "wall_s"] = np.nan
    board = json.loads(json.dumps(leaderboard(run), allow_nan=False))
    rows = by_method(board)
    assert rows["base"]["wall_s"] is None
    assert rows["rlhf"]["comparisons"] == 400
    assert rows["rlhf"]["cost_usd"] == pytest.approx(run.trials[run.trials["method"] == "rlhf"]["cost_usd"].mean())


def test_a_run_without_scores_has_an_empty_board(made_run):
    run = made_run(SHARES, items=2)
    run.samples = run.samples.iloc[:0]
    assert leaderboard(run)["rows"] == []


def test_an_untrained_method_of_another_name_does_not_stop_the_ranking(made_run):
    run = made_run(SHARES, items=20)
    for frame in (run.samples, run.trials):
        frame["method"] = frame["method"].replace("base", "untouched")
    board = leaderboard(run)
    assert board["matched"]
    assert any(note.startswith("untouched: spends no training compute") for note in board["notes"])


def test_robustness_is_compared_between_methods(made_run):
    run = made_run({"sft": 0.6, "selfteach": 0.6, "rlhf": 0.6}, drop={"sft": 0.3, "selfteach": 0.05, "rlhf": 0.3})
    board = leaderboard(run)
    assert len(board["robustness"]["pairs"]) == 3
    for row in board["robustness"]["pairs"]:
        losses = [by_method(board)[row[side]]["robustness"]["typos"]["drop"] for side in ("first", "second")]
        assert row["difference"] == pytest.approx(losses[0] - losses[1])
        assert row["interval"][0] < row["difference"] < row["interval"][1]
        assert (row["p_holm"] < 0.05) == ("selfteach" in (row["first"], row["second"]))
        assert row["n_seeds"] == 5
    assert leaderboard(made_run(SHARES, seeds=[0], items=10))["robustness"]["pairs"] == []
