from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.journal import Journal
from harness.core.provenance import machine
from harness.core.spec import load_study
from harness.study.calibration import calibrate, makespan_s, planned_items, predict
from harness.study.plan import Plan, Setting, plan_study
from tests.study.conftest import Workplace

SETTING = Setting("cpu", "float32", 1)


def plan_of(workplace: Workplace, *, weights: str = "w", setting: Setting = SETTING, **changes: Any) -> Plan:
    return plan_study(load_study(workplace.write(**changes)), weights=weights, setting=setting)


def trains(plan: Plan) -> dict[str, str]:
    return {trial.id: trial.train_stage for trial in plan.trials}


def test_methods_times_seeds_with_the_seedless_once(workplace: Workplace) -> None:
    plan = plan_of(workplace)
    assert [trial.id for trial in plan.trials] == ["toy_base-all", "toy_sft-0", "toy_sft-1"]
    assert len(plan.stages) == 6
    order = list(plan.stages)
    for stage in plan.stages.values():
        assert all(order.index(upstream) < order.index(stage.id) for upstream in stage.inputs), "inputs come first"


def test_what_determines_a_result_changes_its_id_and_nothing_else_does(workplace: Workplace) -> None:
    plain = plan_of(workplace)
    same: list[dict[str, Any]] = [
        {"name": "other"},
        {"title": "t", "claims": [], "prices": {"comparison_usd": 2.0}},
        {"methods": [{"name": "toy_base"}, {"name": "toy_sft", "config": {"learning_rate": 3e-3}}]},
    ]
    for changes in same:
        assert list(plan_of(workplace, **changes).stages) == list(plain.stages), changes
    others: list[dict[str, Any]] = [
        {"weights": "v"},
        {"setting": Setting("cpu", "float32", 2)},
        {"setting": Setting("cpu", "bfloat16", 1)},
        {"budget": {"train_flops": 4e8}},
        {"suites": [{"name": "toy_suite", "limit": 5}]},
        {"student": {"model": f"file:{workplace.model}", "adaptation": {"rank": 8}}},
    ]
    for changes in others:
        assert not set(plan_of(workplace, **changes).stages) & set(plain.stages), changes


def test_what_a_study_does_not_ask_for_leaves_no_trace_in_ids(workplace: Workplace) -> None:
    """Ids of finished runs must not change: a new feature may add a key to a stage's content only where it is used."""
    plan = plan_of(workplace, perturbations=[])
    contents = {stage.kind: set(stage.content) for stage in plan.stages.values()}
    assert contents == {
        "train": {"kind", "method", "pool", "seed", "student", "train_flops", "suites", "setting", "versions"},
        "score": {"kind", "inputs", "suites", "perturbations", "setting", "versions"},
    }
    (suite,) = next(stage for stage in plan.stages.values() if stage.kind == "score").content["suites"]
    assert set(suite) == {"name", "limit", "tasks", "from"}
    kept = plan_of(workplace, perturbations=[], checkpoints={})
    assert trains(kept)["toy_base-all"] == trains(plan)["toy_base-all"], "an untrained student has no way to keep"
    assert trains(kept)["toy_sft-0"] != trains(plan)["toy_sft-0"]
    other_suites = plan_of(workplace, perturbations=[], checkpoints={"suites": [{"name": "toy_suite", "limit": 3}]})
    assert trains(other_suites) == trains(kept)
    assert trains(plan_of(workplace, perturbations=[], folds={"leave_out": ["vowels"]})).items() >= trains(plan).items()


def test_perturbations_change_scores_only(workplace: Workplace) -> None:
    clean, perturbed = plan_of(workplace, perturbations=[]), plan_of(workplace)
    assert trains(clean) == trains(perturbed)
    assert not {trial.score_stage for trial in clean.trials} & {trial.score_stage for trial in perturbed.trials}


def test_one_method_config_changes_only_that_method(workplace: Workplace) -> None:
    plain = trains(plan_of(workplace))
    changed = trains(plan_of(workplace, methods=[{"name": "toy_base"}, {"name": "toy_sft", "config": {"learning_rate": 0.1}}]))
    assert changed["toy_base-all"] == plain["toy_base-all"]
    assert changed["toy_sft-0"] != plain["toy_sft-0"]


def test_equal_work_under_two_names_is_planned_once(workplace: Workplace) -> None:
    plan = plan_of(workplace, methods=[{"name": "toy_sft"}, {"name": "toy_sft", "variant": "again"}])
    assert len(plan.trials) == 4
    assert len(plan.stages) == 4


def test_predictions_come_from_this_machines_journals(workplace: Workplace, tmp_path: Path) -> None:
    study = load_study(workplace.write())
    assert planned_items(study) == 24 * 2
    runs = tmp_path / "runs"
    (runs / "earlier").mkdir(parents=True)
    assert "assumed" in calibrate(runs, threads=1).source
    journal = Journal(runs / "earlier" / "journal.jsonl")
    here = {"host": machine()["host"], "threads": 1}
    journal.append("stage_finished", kind="train", flops=1e9, items=0, wall_s=10.0, **here)
    journal.append("stage_finished", kind="score", flops=1e9, items=48, wall_s=4.0, **here)
    journal.append("stage_finished", kind="train", flops=1e9, items=0, wall_s=1e6, host="elsewhere", threads=1)
    journal.append("stage_finished", kind="train", flops=1e9, items=0, wall_s=1e6, host=here["host"], threads=8)
    measured = calibrate(runs, threads=1)
    assert (measured.train_flops_per_s, measured.score_items_per_s) == (1e8, 12.0)
    plan = plan_of(workplace)
    seconds = predict(study, plan, measured)
    by_trial = {trial.id: (seconds[trial.train_stage], seconds[trial.score_stage]) for trial in plan.trials}
    assert by_trial["toy_sft-0"] == (3.0, 4.0)
    # Chains of 7, 7 and 9 s (base: loading and scoring) on two workers.
    assert makespan_s(plan, seconds, set(), workers=2) == pytest.approx(14.0)
    assert makespan_s(plan, seconds, set(plan.stages), workers=2) == 0


def test_ids_are_hashes_of_the_whole_content_whatever_is_shared(workplace: Workplace) -> None:
    plan = plan_of(workplace, seeds=[0, 1, 2])
    for stage in plan.stages.values():
        written = json.dumps(stage.content, sort_keys=True)
        assert stage.id == hashlib.sha256(written.encode()).hexdigest()[:16]
