"""Who is on the front of cost and quality, and scores along runs, on runs whose truth is known."""

import json

import numpy as np
import pytest
from scipy import stats
from test_equal_quality import START
from test_equal_quality import run as run_with_checkpoints

from harness.verdicts.frames import Scores
from harness.verdicts.front import cost_quality_front, score_tracks
from harness.verdicts.leaderboard import leaderboard

SHARES = {"base": 0.35, "sft": 0.45, "rlhf": 0.46, "selfteach": 0.75}
TASKS = ["siqa", "logiqa", "stacked"]


def front(run, tasks=TASKS):
    return cost_quality_front(run, Scores(run), tasks)


def test_the_sure_winner_and_the_free_method_are_on_the_front_and_the_dearer_are_not(made_run):
    found = front(made_run(SHARES))
    usd = {row["method"]: row for row in found["axes"]["usd"]["rows"]}
    assert [method for method, row in usd.items() if row["on_front"]] == ["base", "selfteach"]
    assert usd["base"]["share_on_front"] == usd["selfteach"]["share_on_front"] == 1
    assert usd["sft"]["share_on_front"] < 0.01
    assert (found["n_seeds"], found["n_items"]) == (5, 600)


def test_at_matched_compute_a_thousandth_of_the_budget_decides_nothing(made_run):
    spend = {"sft": 0.999, "rlhf": 0.998, "selfteach": 0.992}
    flops = {row["method"]: row for row in front(made_run(SHARES, spend=spend))["axes"]["flops"]["rows"]}
    assert flops["selfteach"]["share_on_front"] > 0.999
    assert flops["sft"]["share_on_front"] < 0.01


def test_means_agree_with_the_leaderboard(made_run):
    run = made_run(SHARES)
    scores = {row["method"]: row["value"] for row in leaderboard(run)["rows"]}
    for about in front(run)["axes"].values():
        for row in about["rows"]:
            assert row["quality"] == pytest.approx(scores[row["method"]])
    usd = run.trials.groupby("method")["cost_usd"].mean()
    assert all(row["cost"] == pytest.approx(usd[row["method"]]) for row in front(run)["axes"]["usd"]["rows"])


def test_order_of_rows_and_repetition_do_not_matter(made_run):
    run = made_run(SHARES, items=40)
    first = front(run)
    assert first == front(run)
    run.samples = run.samples.sample(frac=1, random_state=1).sort_values(
        "method", kind="stable", key=lambda names: names.map(list(SHARES).index)
    )
    assert front(run)["axes"]["usd"]["rows"][3]["share_on_front"] == pytest.approx(first["axes"]["usd"]["rows"][3]["share_on_front"])


def test_costs_that_were_not_recorded_leave_their_axis_out(made_run):
    run = made_run(SHARES, items=40)
    run.trials.loc[3, "wall_s"] = np.nan
    found = front(run)
    assert found["axes"]["seconds"]["rows"] == []
    assert "not recorded" in found["axes"]["seconds"]["why"]
    assert found["axes"]["usd"]["rows"]
    json.dumps(found, allow_nan=False)


def test_nothing_is_said_of_one_method_or_no_task(made_run):
    assert front(made_run({"sft": 0.4}, items=20))["why"]
    assert front(made_run(SHARES, items=20), [])["why"]


def test_tracks_have_t_intervals_over_seeds():
    ends = {"selfteach": [0.7, 0.6, 0.65, 0.7], "sft": [0.4, 0.4, 0.35, 0.45]}
    run = run_with_checkpoints(ends)
    found = score_tracks(run, Scores(run), ["exam"])
    rows = {row["method"]: row["points"] for row in found["rows"]}
    assert set(rows) == set(ends)
    assert [point["train_flops"] for point in rows["sft"]] == [0, 25, 50, 75, 100]
    assert rows["sft"][0] == {"train_flops": 0, "value": pytest.approx(START), "interval": None}
    last, values = rows["selfteach"][-1], np.array(ends["selfteach"])
    half = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
    assert last["value"] == pytest.approx(values.mean(), abs=1e-3)
    assert last["interval"] == pytest.approx([values.mean() - half, values.mean() + half], abs=2e-3)
    assert found["n_seeds"] == 4


def test_tracks_say_why_there_are_none(made_run):
    run = made_run(SHARES, items=20)
    assert score_tracks(run, Scores(run), TASKS) == {
        "rows": [], "n_seeds": 0, "n_items": 0, "tasks": [], "why": "students were kept and scored at the end only",
    }  # fmt: skip
