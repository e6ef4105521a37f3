"""First parts that variants share: planned once, computed once, and nothing about a trial tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from benchmarks.sweeps.spent import spent
from harness.cli.status import run_state
from harness.cli.sweep import planned_sweep
from harness.core.spec import load_study
from harness.core.store import RunStore, computed, write_json
from harness.study.calibration import Calibration, makespan_s, predict
from harness.study.fingerprint import code_fingerprint
from harness.study.plan import Plan, Setting, needed, plan_study
from harness.study.stage import StageTask
from harness.study.trial import run_stage
from selfteach.config import SelfTeachConfig
from tests.study.conftest import Workplace

STUDIES, DOCS = (Path(__file__).parents[2] / name for name in ("studies", "docs"))
SETTING = Setting("cpu", "float32", 1)
QUICK: dict[str, Any] = {
    "seeds": [0],
    "perturbations": None,
    "student": None,
    "suites": [{"name": "toy_suite", "limit": 4}],
    "checkpoints": {"shares": [0.15, 0.6]},
}
VARIANTS = [
    {"name": "toy_parts"},
    {"name": "toy_parts", "variant": "fast", "config": {"learning_rate": 1e-2}},
    {"name": "toy_parts", "variant": "long", "config": {"first": 0.5}},
]
BUDGET = 3e8


def plan_of(workplace: Workplace, **changes: Any) -> Plan:
    student = {"model": f"file:{workplace.model}", "adaptation": {"kind": "lora", "rank": 4, "alpha": 8, "dropout": 0.2}}
    path = workplace.write(**{**QUICK, "student": student, "methods": VARIANTS, **changes})
    return plan_study(load_study(path), weights="w", setting=SETTING)


def kinds(plan: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for stage in plan.stages.values():
        found.setdefault(stage.kind, []).append(stage.label)
    return found


def test_trials_with_one_first_part_have_one_stage_for_it_and_keep_their_ids(workplace: Workplace) -> None:
    plan = plan_of(workplace)
    assert kinds(plan)["prepare"] == ["toy_parts"], "the third variant has a first part of its own"
    (prepare,) = (stage for stage in plan.stages.values() if stage.kind == "prepare")
    order = list(plan.stages)
    for trial, method in zip(plan.trials, VARIANTS, strict=True):
        alone = plan_of(workplace, methods=[method])
        assert "prepare" not in kinds(alone)
        assert set(alone.stages) == set(trial.stages)
        train = plan.stages[trial.train_stage]
        assert (train.prepared == prepare.id) == (trial.label != "toy_parts:long")
        assert train.content == alone.stages[train.id].content
        assert order.index(prepare.id) < order.index(train.id) or trial.label == "toy_parts:long"
    assert prepare.budget_share + plan.stages[plan.trials[0].train_stage].budget_share == 1
    assert "for 2 trials" in prepare.name


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": [3]},
        {"budget": {"train_flops": 4e8}},
        {"budget": {"train_flops": BUDGET, "caps": {"labels": 40}}},
        {"checkpoints": {"shares": [0.2]}},
        {"methods": [{**method, "config": {**method.get("config", {}), "first": 0.4}} for method in VARIANTS[:2]]},  # type: ignore[dict-item]
        {"suites": [{"name": "toy_suite", "limit": 5}]},
    ],
)
def test_whatever_shapes_a_first_part_changes_its_id(workplace: Workplace, change: dict[str, Any]) -> None:
    assert not set(prepares(plan_of(workplace, **change))) & set(prepares(plan_of(workplace)))


def prepares(plan: Plan) -> list[str]:
    found = [stage.id for stage in plan.stages.values() if stage.kind == "prepare"]
    assert found
    return found


def test_each_seed_and_each_fold_has_its_own_and_tuned_methods_have_none(workplace: Workplace) -> None:
    plan = plan_of(workplace, seeds=[0, 1], folds={"leave_out": ["vowels"]})
    assert len(kinds(plan)["prepare"]) == 4
    assert sum("without vowels" in stage.name for stage in plan.stages.values() if stage.kind == "prepare") == 2
    tuned = plan_of(workplace, tune={"flops": 1e8, "suites": [{"name": "toy_validation"}], "grids": {"toy_parts": {"first": [0.2, 0.4]}}})
    assert "prepare" not in kinds(tuned)
    assert all(stage.prepared is None for stage in tuned.stages.values())


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_studies_of_this_repository_keep_their_stages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study(path)
    study = study.model_copy(update={"student": study.student.model_copy(update={"engine": "transformers"})})  # vLLM may not be here
    shared = plan_study(study, weights="w", setting=SETTING)
    monkeypatch.setattr("harness.core.parts.in_two_parts", lambda method: False)
    plain = plan_study(study, weights="w", setting=SETTING)
    assert [trial.stages for trial in shared.trials] == [trial.stages for trial in plain.trials]
    assert [stage for stage, one in shared.stages.items() if one.kind != "prepare"] == list(plain.stages)
    assert all(
        len([s for s in shared.stages.values() if s.prepared == one.id]) > 1 for one in shared.stages.values() if one.kind == "prepare"
    )


@pytest.mark.parametrize(
    ("name", "n_variants", "n_first", "share"), [("ablations", 13, 4, 0.52), ("components", 15, 15, 1.0)]
)  # fmt: skip
def test_what_a_sweep_shares_is_what_its_docs_say(name: str, n_variants: int, n_first: int, share: float) -> None:
    study = load_study(STUDIES / f"{name}.yaml")
    plan = plan_study(study, weights="w", setting=SETTING)
    training = [stage for stage in plan.stages.values() if stage.kind in ("prepare", "train") and stage.label != "base"]
    alone = sum(trial.label != "base" for trial in plan.trials)
    assert alone == n_variants * len(study.seeds)
    assert sum(stage.budget_share for stage in training) / alone == pytest.approx((0.7 * n_first + 0.3 * n_variants) / n_variants)
    assert (0.7 * n_first + 0.3 * n_variants) / n_variants == pytest.approx(share, abs=0.005)
    told = planned_sweep(study, plan)
    assert told is not None
    row = next(line for line in (DOCS / "sweeps.md").read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}.yaml`"))
    assert f"| {n_variants} | {n_first} |" in row
    assert f"= {share:.0%}".replace("%", " %") in row
    assert f"{told['stages_alone']} stages alone, {told['stages']} together" in row


def test_components_leaves_out_each_operation_and_each_reward_term() -> None:
    study = load_study(STUDIES / "components.yaml")
    centre = SelfTeachConfig(**next(method for method in study.methods if method.label == "selfteach").config)
    labels = {method.label for method in study.methods}
    assert labels >= {f"selfteach:operations=without-{operation}" for operation in centre.operations}
    assert labels >= {f"selfteach:reward=without-{term}" for term in centre.environment.reward_terms}
    assert labels >= {"selfteach:policy=random", "selfteach:executor=student", "selfteach:reviewer=student"}


def test_prediction_counts_a_shared_part_once(workplace: Workplace) -> None:
    plan = plan_of(workplace, checkpoints=None)
    study = load_study(workplace.root / "toy.yaml")
    seconds = predict(study, plan, Calibration(1e6, 1.0, "assumed"))
    trained = {stage.kind: [] for stage in plan.stages.values()}  # type: ignore[var-annotated]
    for stage in plan.stages.values():
        trained[stage.kind].append(seconds[stage.id])
    assert trained["prepare"] == [pytest.approx(90)]
    assert trained["train"] == [pytest.approx(210), pytest.approx(210), pytest.approx(300)]
    assert makespan_s(plan, seconds, set(), 1) == pytest.approx(sum(seconds.values()))
    done = {trial.train_stage for trial in plan.trials}
    assert [stage.kind for stage in needed(plan.stages.values(), done)] == ["score"] * 3, "a first part that nobody waits for"
    assert makespan_s(plan, seconds, done, 1) == pytest.approx(sum(trained["score"]))


@pytest.fixture
def unharmed() -> Iterator[None]:
    """Stages are done in this process, which must not stay in the state that they put it in."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


def compute(workplace: Workplace, run_dir: Path, plan: Plan) -> RunStore:
    study, store = load_study(workplace.root / "toy.yaml"), RunStore(run_dir)
    store.progress.mkdir(parents=True)
    for stage in plan.stages.values():
        run_stage(StageTask(run_dir, study, stage, 1, 0))
    return store


def frame(store: RunStore, stage: str, name: str) -> pd.DataFrame:
    return pd.read_parquet(store.folder(stage) / name).drop(columns=["wall_s", "energy_j"], errors="ignore")


@pytest.mark.usefixtures("unharmed")
@pytest.mark.filterwarnings("ignore")
def test_a_trial_is_the_same_whether_it_shares_its_first_part_or_not(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    begins = workplace.root / "begins"
    monkeypatch.setenv("TOY_BEGINS", str(begins))
    plan = plan_of(workplace, methods=VARIANTS[:2])
    together = compute(workplace, workplace.root / "together", plan)
    assert begins.read_text().count("begun") == 1
    for trial, method in zip(plan.trials, VARIANTS, strict=False):
        alone_plan = plan_of(workplace, methods=[method])
        alone = compute(workplace, workplace.root / f"alone-{trial.label.replace(':', '-')}", alone_plan)
        one, other = alone.meta(trial.train_stage), together.meta(trial.train_stage)
        for key in ("counters", "spent", "notes", "budget_flops", "content", "code"):
            assert one[key] == other[key], key
        assert one["files"].keys() == other["files"].keys()
        for name in one["files"]:
            if name.endswith(".safetensors"):
                mine, theirs = (load_file(store.folder(trial.train_stage) / name) for store in (alone, together))
                assert all((mine[key] == theirs[key]).all() for key in mine), name
            elif not name.endswith(".parquet") and name != "checkpoints.json":
                assert one["files"][name] == other["files"][name], name
        spends = [json.loads((store.folder(trial.train_stage) / "checkpoints.json").read_text()) for store in (alone, together)]
        drop = [[{key: value for key, value in kept.items() if key != "wall_s"} for kept in spend] for spend in spends]
        assert drop[0] == drop[1]
        assert [kept["share"] for kept in drop[0]] == [0.15, 0.6, 1.0], "one mark in each part"
        for stage, name in (
            (trial.train_stage, "ledger.parquet"), (trial.train_stage, "curves.parquet"),
            (trial.score_stage, "samples.parquet"), (str(trial.checkpoint_stage), "samples.parquet"),
        ):  # fmt: skip
            pd.testing.assert_frame_equal(frame(alone, stage, name), frame(together, stage, name))
        prepare = together.meta(str(plan.stages[trial.train_stage].prepared))
        assert other["shared"]["stage"] == prepare["id"]
        assert other["shared"]["flops"] == prepare["spent"]["train"] == pytest.approx(0.3 * BUDGET, rel=0.1)
        assert computed(other)[0] == other["spent"]["train"] - prepare["spent"]["train"]
        assert computed(one)[0] == one["spent"]["train"]
        assert "shared" not in one
        study = load_study(workplace.root / "toy.yaml")
        assert prepare["code"] == code_fingerprint(study, plan.stages[prepare["id"]]) == other["code"]
    write_json(together.root / "study.json", {"plan": plan.as_json(), "seeds": [0], "budget": {"train_flops": BUDGET}, "prices": {}})
    whole = spent(together.root)
    first_flops, first_s = prepare["spent"]["train"], other["shared"]["wall_s"]
    assert whole["computed_flops"]["total"] == pytest.approx(whole["alone_flops"]["total"] - first_flops)
    assert whole["alone_flops"]["train"] == sum(together.meta(trial.train_stage)["spent"]["train"] for trial in plan.trials)
    assert whole["computed_flops"]["score"] == whole["alone_flops"]["score"]
    taken_s = {stage: computed(together.meta(stage))[1] for stage in plan.stages}
    assert whole["computed_worker_s"]["total"] == pytest.approx(sum(taken_s.values()))
    assert whole["alone_worker_s"]["total"] > sum(taken_s.values()) - prepare["wall_s"]
    assert (whole["first_parts"], whole["trials"]) == (1, 2)
    assert first_s > 0
    state = run_state(together)
    assert state["stages_finished"] == state["stages_total"] == len(plan.stages)
    assert [row["train_flops"] for row in state["trials"]] == [together.meta(trial.train_stage)["spent"]["train"] for trial in plan.trials]
    assert state["shared"]["charged_flops"] - state["shared"]["computed_flops"] == pytest.approx(first_flops)
    charged = sum(together.meta(trial.train_stage)["spent"]["train"] for trial in plan.trials)
    really = sum(computed(together.meta(stage.id))[0] for stage in plan.stages.values() if stage.kind in ("train", "prepare"))
    assert really == pytest.approx(charged - prepare["spent"]["train"])
