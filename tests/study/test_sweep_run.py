"""A sweep from its file to its tables on a tiny model: shared work once, killed and resumed, budgets apart."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from harness.cli.status import _spent, run_state
from harness.core.blocks import blocks
from harness.core.results import load_run
from harness.core.spec import load_study
from harness.core.store import RunStore, write_json
from harness.errors import SpecError
from harness.report.board import groups
from harness.study.plan import Plan, Setting, plan_study
from harness.study.run import Layout, study_record
from harness.verdicts.board_file import load_board
from tests.study.conftest import PLUGINS, Workplace, wait_until

SWEEP: dict[str, Any] = {
    "perturbations": None,
    "budget": {"train_flops": 2e8},
    "sweep": {
        "method": "toy_sft",
        "axes": {
            "learning_rate": [3e-3, 3e-2],
            "parts": {"key": "parts", "drop_each": ["a"]},
            "budget": {"key": "budget.train_flops", "values": [2e8, 4e8]},
        },
    },
}
LABELS = ["toy_base", "toy_sft", "toy_sft:learning_rate=0.03", "toy_sft:parts=without-a", "toy_base:budget=4e8", "toy_sft:budget=4e8"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The run folder of the sweep, killed once while it trains and started again."""
    place = Workplace(tmp_path_factory.mktemp("swept"), tiny_model)
    environment = {"PYTHONPATH": os.pathsep.join([str(PLUGINS), os.environ.get("PYTHONPATH", "")]), "XDG_CACHE_HOME": str(place.root)}
    study, gate = place.write(**SWEEP), place.root / "gate"
    gate.touch()
    driver = place.start("run", study, **environment, TOY_TRAIN_WAIT=str(gate))
    wait_until(Path(f"{gate}.there").exists, seconds=240)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    code, output = place.selfteach("run", study, **environment)
    assert code == 0, output
    for told in ("Ablation: mean score", "Leaderboard at budget=4e8", "Scaling with the budget"):
        assert told in output
    return place.run_dir


def planned(workplace: Workplace, **changes: Any) -> Plan:
    return plan_study(load_study(workplace.write(**{**SWEEP, **changes})), weights="w", setting=Setting("cpu", "float32", 1))


def test_status_counts_a_trial_against_its_own_budget(workplace: Workplace) -> None:
    study, plan = load_study(workplace.write(**SWEEP)), planned(workplace)
    store = RunStore(workplace.run_dir)
    with store.locked():
        write_json(store.root / "study.json", study_record(study, plan, Layout(1, 1), "selfteach run"))
        (trial,) = [trial for trial in plan.trials if trial.id == "toy_sft:budget=4e8-0"]
        store.journal.append("stage_finished", stage=trial.train_stage, flops=3.9e8, wall_s=1.0)
        store.write_stage(trial.train_stage, lambda folder: {})
    rows = {row["trial"]: row for row in run_state(store)["trials"]}
    assert {name: rows[name]["budget_flops"] for name in ("toy_sft-0", trial.id)} == {"toy_sft-0": 2e8, trial.id: 4e8}
    assert _spent(rows[trial.id])[0] == "97.5%"


def test_stages_of_a_sweep_are_those_of_the_same_trials_alone(workplace: Workplace) -> None:
    plan = planned(workplace)
    assert list(dict.fromkeys(trial.label for trial in plan.trials)) == LABELS
    by_id = {trial.id: trial for trial in plan.trials}
    assert by_id["toy_base-all"].stages == by_id["toy_base:budget=4e8-all"].stages, "untrained, it is the same at every budget"
    alone = planned(workplace, sweep=None, methods=[{"name": "toy_base"}, {"name": "toy_sft", "config": {"learning_rate": 3e-3}}])
    assert set(alone.stages) <= set(plan.stages), "the centre is the method as a plain study has it"
    larger = planned(workplace, sweep=None, budget={"train_flops": 4e8}, methods=[{"name": "toy_sft"}])
    assert set(larger.stages) <= set(plan.stages)


@pytest.mark.parametrize("found", ["toy_sft:mine", "toy_sft"])
def test_tuned_settings_reach_every_arm_and_leave_it_where_the_sweep_has_it(workplace: Workplace, found: str) -> None:
    record: dict[str, Any] = {"methods": {found: {"values": {"learning_rate": 0.5}}, "toy_sft:other": {"values": {"learning_rate": 0.1}}}}
    write_json(workplace.root / "tuned.json", record)
    methods = [{"name": "toy_base"}, {"name": "toy_sft", "variant": "mine"}]
    axes = {name: axis for name, axis in SWEEP["sweep"]["axes"].items() if name != "learning_rate"}
    changes = {**SWEEP, "methods": methods, "sweep": {"method": "toy_sft:mine", "axes": axes}}
    plain = load_study(workplace.write(**changes))
    tuned = load_study(workplace.write(**changes, tuned="tuned.json"))
    assert len(plain.methods) == 5
    for before, after in zip(plain.methods, tuned.methods, strict=True):
        values = {} if before.name == "toy_base" else {"learning_rate": 0.5}
        assert after == before.model_copy(update={"config": before.config | values})
    assert not [note for note in tuned.notes if "keeps its own" in note]
    assert [len(block.methods) for block in blocks(tuned.model_dump(mode="json"))] == [3, 2]
    plan = plan_study(tuned, weights="w", setting=Setting("cpu", "float32", 1))
    trained = {trial.label: plan.stages[trial.train_stage].content["train_flops"] for trial in plan.trials if not trial.seedless}
    assert trained == {"toy_sft:mine": 2e8, "toy_sft:mine,parts=without-a": 2e8, "toy_sft:mine,budget=4e8": 4e8}


def test_tuned_settings_of_a_sweep_are_checked_and_move_no_axis(workplace: Workplace) -> None:
    for values, told in (({"learning_rate": 0.5}, ""), ({"rate": 0.5}, "rate: unknown key"), ({"idle": "perhaps"}, "idle")):
        write_json(workplace.root / "tuned.json", {"methods": {"toy_sft": {"values": values}}})
        path = workplace.write(**SWEEP, tuned="tuned.json")
        if told:
            with pytest.raises(SpecError, match=told):
                load_study(path)
        else:
            assert load_study(path).methods == load_study(workplace.write(**SWEEP)).methods, "the sweep sets the rate itself"


def test_another_student_has_its_own_weights_in_its_ids(workplace: Workplace) -> None:
    sweep = {"axes": {"student": {"key": "student.model", "values": {"gemma": "gemma3-270m"}}}}
    study = load_study(workplace.write(**{**SWEEP, "sweep": sweep}))
    plan = plan_study(study, weights="w", setting=Setting("cpu", "float32", 1), other_weights={"gemma3-270m": "v"})
    weights = {trial.label: plan.stages[trial.train_stage].content["student"]["weights"] for trial in plan.trials}
    assert weights == {"toy_base": "w", "toy_sft": "w", "toy_base:student=gemma": "v", "toy_sft:student=gemma": "v"}


def test_a_killed_sweep_ends_with_every_table(swept: Path) -> None:
    results = load_run(swept)
    assert set(results.trials["status"]) == {"finished"}
    trials = results.trials.set_index(["method", "seed"])
    for label in LABELS:
        budget = 4e8 if "budget" in label else 2e8
        assert (trials.loc[label, "budget_flops"] == budget).all()
        if "sft" in label:
            assert (trials.loc[label, "train_flops"] / budget).between(0.93, 1.0).all()
    board = results.leaderboard
    assert {row["method"] for row in board["rows"]} == set(LABELS[:4])
    assert [{row["method"] for row in block["rows"]} for block in board["blocks"]] == [set(LABELS[4:])]
    (table,) = board["sweep"]["tables"]
    rows = {row["variant"]: row for row in table["ablation"]}
    assert list(rows) == LABELS[2:4]
    assert rows["toy_sft:parts=without-a"]["effect"] == 0, "a setting that nothing reads changes nothing"
    assert rows["toy_sft:parts=without-a"]["p_holm"] == 1
    assert (rows["toy_sft:learning_rate=0.03"]["n_seeds"], rows["toy_sft:learning_rate=0.03"]["n_items"]) == (2, 24)
    (curve,) = table["scaling"]
    assert [point["train_flops"] for point in curve["points"]] == [2e8, 4e8]
    page = (swept / "report.html").read_text()
    for told in ('<section id="sweep"', "Leaderboard at budget=4e8", "without-a"):
        assert told in page


def test_a_frozen_leaderboard_has_every_block_and_ranks_none_with_another(
    workplace: Workplace, swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert workplace.main("leaderboard", "build", swept, "--out", "sweep.yaml", "--unpublished", "--json") == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == []
    board = load_board(workplace.root / "sweep.yaml")
    assert set(board.models) == set(LABELS)
    assert {row.id for row in board.rows} == {f"{label}/{task}" for label in LABELS for task in ("mean", "toy_letters", "toy_digits")}
    assert {model.block for name, model in board.models.items() if "budget=4e8" in name} == {"budget=4e8"}
    together = [{board.models[row.model].block for row in rows} for _, rows in groups(board)]
    assert len(together) == 6
    assert all(len(found) == 1 for found in together)
    assert workplace.main("leaderboard", "reproduce", "sweep.yaml", "--runs", "none", "--rows", "*budget=4e8/mean", "--json") == 0
    assert {row["recomputed"] for row in json.loads(capsys.readouterr().out)["rows"]} == {True}


def test_plan_shows_the_sweep_and_report_exports_its_tables(workplace: Workplace, swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(swept, workplace.run_dir)
    study = workplace.write(**SWEEP)
    assert workplace.main("plan", study, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["sweep"]["axes"][0] == {"name": "learning_rate", "key": "learning_rate", "levels": ["0.003", "0.03"], "centre": "0.003"}
    assert [block["methods"] for block in record["sweep"]["blocks"]] == [LABELS[:4], LABELS[4:]]
    # Base is trained and scored once for both budgets; all others have two stages a seed.
    assert (record["sweep"]["stages_alone"], record["sweep"]["stages"], record["sweep"]["stages_shared"]) == (20, 18, 2)
    assert record["train_flops"] == 6 * 2e8 + 2 * 4e8
    assert {row["method"]: row["flops"] for row in record["spend"]}["toy_sft:budget=4e8"] == 4e8
    assert record["stages_finished"] == record["stages"]
    assert workplace.main("plan", study) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Sweep: one at a time around toy_sft" in printed
    assert "8 trials" in printed
    assert workplace.main("report", "toy") == 0
    for name in ("sweep.csv", "sweep.md", "sweep.tex"):
        assert "without-a" in (workplace.run_dir / name).read_text()
