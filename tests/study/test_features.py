"""Checkpoints, tuning, folds and caps, from file to report on a tiny model."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.numpy import load_file

from harness.core.results import RunResults, load_run
from harness.core.spec import load_study
from harness.core.store import RunStore
from harness.errors import SpecError
from tests.study.conftest import PLUGINS, Workplace

BUDGET = 3e8
FEATURES: dict[str, Any] = {
    "perturbations": None,
    "checkpoints": {"shares": [0.3, 0.6], "suites": [{"name": "toy_suite", "tasks": ["toy_letters"]}]},
    "tune": {
        "flops": 2e8,
        "grids": {"toy_sft": {"learning_rate": [1e30, 1e-2]}},
        "suites": [{"name": "toy_validation", "limit": 4}],
    },
    "folds": {"leave_out": ["vowels"]},
}


@pytest.fixture(scope="module")
def featured(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The run folder of a study that uses everything."""
    place = Workplace(tmp_path_factory.mktemp("featured"), tiny_model)
    code, output = place.selfteach("run", place.write(**FEATURES), PYTHONPATH=str(PLUGINS), XDG_CACHE_HOME=str(place.root / "cache"))
    assert code == 0, output
    return place.run_dir


@pytest.fixture(scope="module")
def results(featured: Path) -> RunResults:
    return load_run(featured)


def metas(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    store = RunStore(run_dir)
    plan = load_run(run_dir).study["plan"]
    return [store.meta(stage["id"]) for stage in plan["stages"] if stage["kind"] == kind]


def test_checkpoints_hold_what_was_spent_just_before_their_share(results: RunResults) -> None:
    for _, rows in results.checkpoints.groupby("seed"):
        assert list(rows["share"]) == [0.3, 0.6, 1.0]
        assert rows["train_flops"].is_monotonic_increasing
        assert rows["wall_s"].is_monotonic_increasing
        for share, spent in zip(rows["share"], rows["train_flops"], strict=True):
            # a step of toy_sft costs 6.1 % of the budget
            assert (share - 0.062) * BUDGET < spent <= share * BUDGET
    assert set(results.checkpoints["method"]) == {"toy_sft"}
    final = results.checkpoints[results.checkpoints["share"] == 1].set_index("seed")
    trials = results.trials[results.trials["method"] == "toy_sft"].set_index("seed")
    assert (final["train_flops"] == trials["train_flops"]).all()
    assert (final["tokens"] == trials["tokens"]).all()
    assert (final["cost_usd"] >= 64 * 1.5).all()


def test_checkpoints_are_different_students_scored_on_the_tasks_asked_for(results: RunResults, featured: Path) -> None:
    kept = results.checkpoint_samples
    assert set(kept["task"]) == {"toy_letters"}
    primary = kept[kept["metric"] == "acc"]
    assert (primary.groupby(["seed", "share"]).size() == 12).all()
    assert len(primary.groupby(["seed", "share"])) == 4
    train = RunStore(featured).folder(results.trials.set_index(["method", "seed"]).loc[("toy_sft", 0), "train_stage"])
    weights = [load_file(next((train / part).glob("*.safetensors"))) for part in ("checkpoints/0.3", "checkpoints/0.6", "model")]
    changed = [any((first[name] != second[name]).any() for name in first) for first, second in pairwise(weights)]
    assert changed == [True, True]
    items = {meta["items"] for meta in metas(featured, "checkpoints")}
    assert items == {24}, "two students on 12 items each"


def test_the_leaderboard_says_what_every_axis_costs_and_whether_it_decides(results: RunResults, featured: Path) -> None:
    axes = results.leaderboard["axes"]
    assert axes == {}, "one trained method: nothing to rank"
    assert results.leaderboard["equal_quality"] == []
    assert "Tuning" in (featured / "report.html").read_text()
    assert (featured / "phases.md").exists() is False, "tables are written by `selfteach report`"


def test_tuning_tries_every_candidate_at_an_equal_share_and_trains_with_the_best(results: RunResults, featured: Path) -> None:
    tried = metas(featured, "tune")
    assert [meta["values"] for meta in tried] == [{"learning_rate": 1e30}, {"learning_rate": 1e-2}]
    for meta in tried:
        assert meta["spent"]["train"] == 0
        assert 0 < meta["spent"]["tune"] <= 1e8
        assert set(meta["files"]) == {"ledger.parquet", "curves.parquet"}, "a candidate's model is not kept"
    assert tried[0]["score"] is None, "it diverged"
    assert tried[0]["error"]
    assert tried[1]["score"] is not None
    assert tried[1]["spent"]["tune"] > 0.98e8
    trained = [meta for meta in metas(featured, "train") if meta["label"] == "toy_sft"]
    assert {json.dumps(meta["tuned"]) for meta in trained} == {'{"learning_rate": 0.01}'}
    assert results.tuned["methods"]["toy_sft"]["values"] == {"learning_rate": 0.01}
    assert [entry["score"] for entry in results.tuned["methods"]["toy_sft"]["candidates"]] == [None, tried[1]["score"]]
    assert set(results.ledger.loc[results.ledger["flops"] > 0, "account"]) == {"train", "eval"}


def test_folds_are_trained_without_a_family_and_scored_on_it_alone(results: RunResults, featured: Path) -> None:
    assert len(results.trials) == 4, "folds are no trials of the comparison"
    folds = results.folds.set_index(["method", "seed"])
    assert set(folds["fold"]) == {"vowels"}
    assert set(folds["status"]) == {"finished"}
    assert len(folds) == 4
    assert set(results.fold_samples["sample_id"]) == {f"letters-{'abcdefghijklmnopqrstuvwxyz'.index(vowel)}" for vowel in "aeiou"}
    assert folds.loc[("toy_base", 0), "train_stage"] in set(results.trials["train_stage"]), "untrained, it is the same student"
    store = RunStore(featured)
    for seed in (0, 1):
        pool = store.meta(folds.loc[("toy_sft", seed), "train_stage"])["content"]["pool"]
        assert pool["config"] == {"families": ["consonants"]}
    assert "checkpoints" not in store.meta(folds.loc[("toy_sft", 0), "train_stage"])["content"]


def test_what_the_student_was_trained_on_and_what_it_never_saw_are_kept(results: RunResults, featured: Path) -> None:
    train = RunStore(featured).folder(results.trials.set_index(["method", "seed"]).loc[("toy_sft", 0), "train_stage"])
    members, unseen = (
        [json.loads(line) for line in (train / name).read_text().splitlines()] for name in ("trained_on.jsonl", "held_out.jsonl")
    )
    assert members
    assert len(members) == len(unseen)
    assert {tuple(row) for row in members} == {("prompt", "response")}
    assert not {row["prompt"] for row in members} & {row["prompt"] for row in unseen}
    assert all("+99" in row["prompt"] for row in unseen)
    trials = results.trials[results.trials["method"] == "toy_sft"]
    assert (trials["demonstrations"] == 64).all(), "held-out draws are no labels"


def test_a_second_run_computes_nothing(workplace: Workplace, featured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(featured, workplace.run_dir)
    before = (workplace.run_dir / "tuned.json").read_text()
    study = workplace.write(**FEATURES)
    assert workplace.main("run", study, "--json") == 0
    assert json.loads(capsys.readouterr().out)["computed"] == 0
    assert (workplace.run_dir / "tuned.json").read_text() == before
    assert workplace.main("status", "toy", "--json") == 0
    state = json.loads(capsys.readouterr().out)
    assert state["tuning"] == [{"method": "toy_sft", "candidates": 2, "finished": 2}]
    assert {row["checkpoints"] for row in state["trials"]} == {None, "finished"}
    assert workplace.main("plan", study, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["tuning"] == [{"method": "toy_sft", "grid": {"learning_rate": [1e30, 1e-2]}, "runs": 2, "finished": 2}]
    (spend,) = plan["spend"]
    assert (spend["flops"], spend["labels"]) == (BUDGET, 64)
    assert spend["tokens"] > 0


def test_tuned_settings_are_taken_by_a_later_study_where_it_sets_none_itself(
    workplace: Workplace, featured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = [{"name": "toy_base"}, {"name": "toy_sft"}, {"name": "toy_sft", "variant": "own", "config": {"learning_rate": 0.5}}]
    study = load_study(workplace.write(tuned=str(featured), methods=methods))
    assert [method.config.get("learning_rate") for method in study.methods] == [None, 0.01, 0.5]
    assert study.notes == []
    assert load_study(workplace.write(tuned=str(featured / "tuned.json"))).methods[1].config == {"learning_rate": 0.01}
    other = load_study(
        workplace.write(tuned=str(featured), budget={"train_flops": 4e8}, pool={"name": "toy_pool", "config": {"families": ["vowels"]}})
    )
    assert len(other.notes) == 2
    assert "another pool: config {'families': ['vowels', 'consonants']}, here {'families': ['vowels']}" in other.notes[0]
    assert "another budget (train_flops): 300000000.0, here 400000000.0" in other.notes[1]
    assert workplace.main("plan", workplace.write(tuned=str(featured), budget={"train_flops": 4e8})) == 0
    assert "were found with another budget" in " ".join(capsys.readouterr().out.split())


def test_a_cap_ends_training_before_it_is_passed_and_is_told(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    study = workplace.write(
        perturbations=None, seeds=[0], methods=[{"name": "toy_sft"}], budget={"train_flops": BUDGET, "caps": {"tokens": 900}}
    )
    assert workplace.main("run", study, "--workers", 1, "--json") == 0
    (trial,) = load_run(workplace.run_dir).trials.to_dict("records")
    assert 600 < trial["tokens"] <= 900
    assert trial["train_flops"] < 0.5 * BUDGET
    assert "the study's cap is 900" in trial["ended_by"]
    assert json.loads(capsys.readouterr().out)["results"]["leaderboard"]["matched"] is False
    assert "Ended by a cap beside the budget: toy_sft-0" in (workplace.run_dir / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoints": {"shares": [0.5, 0.25]}}, "checkpoints.shares: shares must be different and rising"),
        ({"checkpoints": {"shares": [1.0]}}, "checkpoints.shares[0]: should be less than 1"),
        ({"checkpoints": {"share": [0.5]}}, "checkpoints.share: unknown key (got 'share'). Did you mean 'shares'?"),
        ({"checkpoints": {"suites": ["toy_validation"]}}, "only on what the study scores (got 'toy_letters')"),
        ({"tune": {"flops": 1e8, "suites": ["toy_suite"]}}, "on a validation suite only, never on one that the study is judged by"),
        ({"tune": {"flops": 1e8, "seeds": [1]}}, "tune.seeds: 1 is also a training seed"),
        ({"tune": {"flops": 1e8, "grids": {"toy_stf": {}}}}, "no method of this study (got 'toy_stf'). Did you mean 'toy_sft'?"),
        ({"tune": {"flops": 1e8, "grids": {"toy_sft": {"learning_rat": [1]}}}}, "Did you mean 'learning_rate'?"),
        ({"tune": {"flops": 1e8, "grids": {"toy_sft": {"learning_rate": ["high"]}}}}, "toy_sft.learning_rate[0]: should be a valid number"),
        ({"tune": {"flops": 1e8, "grids": {"toy_sft": {"learning_rate": []}}}}, "must have at least one value"),
        ({"tune": {"flops": 1e8}, "tuned": "elsewhere"}, "either tune (search settings here) or tuned"),
        ({"tuned": "elsewhere"}, "no such run or file with tuned settings"),
        ({"folds": {"leave_out": ["vowel"]}}, "no such family (got 'vowel'). Did you mean 'vowels'?"),
        ({"folds": {}}, "expected either leave_out"),
        (
            {"folds": {"each": "families"}, "pool": {"name": "toy_pool", "config": {"families": ["vowels"]}}},
            "nothing to train on without it",
        ),
        ({"budget": {"train_flops": 1e8, "caps": {"token": 5}}}, "budget.caps.token: unknown key (got 'token'). Did you mean 'tokens'?"),
    ],
)
def test_mistakes_in_the_new_keys_are_one_message(workplace: Workplace, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as told:
        load_study(workplace.write(**changes))
    assert message in str(told.value)
    assert str(told.value).startswith(str(workplace.root / "toy.yaml"))


def test_checkpoint_frames_are_empty_without_checkpoints(reference: Path) -> None:
    found = load_run(reference)
    assert found.checkpoints.empty
    assert found.checkpoint_samples.empty
    assert found.folds.empty
    assert found.tuned == {}
    assert isinstance(found.fold_samples, pd.DataFrame)
