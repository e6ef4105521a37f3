"""What `plan` says on claims: variances from a pilot or from the study, closed forms of costs, and the command itself."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli.plan_axes import predicted_spend
from harness.core.spec import PlanningSpec, StudySpec, load_study
from harness.errors import SpecError
from harness.stats.crossed import Components
from harness.stats.power import mde, power
from harness.study import sample_size
from harness.study.plan import Setting, plan_study
from harness.study.sample_size import ClaimPlan, Costs, given_costs, plan_claims, planned_clean_items, study_costs
from harness.verdicts.claims import ClaimFile, Estimand
from tests.study.conftest import Workplace

COSTS = Costs(10.0, 0.01, "USD")
PARTS = {"seed": 0.0004, "item": 0.1, "residual": 0.2}


def claims(**reading: Any) -> ClaimFile:
    whole = {"name": "r", "primary": True, "measure": "absolute", "comparators": ["toy_base"], "estimand": {"kind": "score"}, **reading}
    claim = {"id": "c", "sentence": "s", "source": "s", "treatment": "toy_sft", "readings": [whole]}
    return ClaimFile.model_validate({"claims": [claim]})


@pytest.fixture(name="study")
def study_fixture(workplace: Workplace) -> StudySpec:
    return load_study(workplace.write(seeds=[0, 1, 2, 3]))


def planned(study: StudySpec, file: ClaimFile, row: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch) -> ClaimPlan:
    """With a pilot judged as `row` (None: no pilot)."""
    judged = {
        "claim_id": "c",
        "reading": file.claims[0].readings[0].text,
        "n_seeds": 3,
        "n_items": 9,
        "tasks": [],
        "why": "",
        **(row or {}),
    }
    monkeypatch.setattr(sample_size, "judge", lambda *_: [judged])
    pilot: Any = SimpleNamespace() if row else None
    (plan,) = plan_claims(study, [file], pilot=pilot, pilot_name="pilot", costs=COSTS)
    return plan


def test_a_pilots_variances_give_the_mde_at_the_studys_size(study: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(study, claims(threshold=0.1), {"components": PARTS}, monkeypatch)
    assert (plan.n_seeds, plan.n_items) == (4, 24)
    assert plan.detectable == pytest.approx(mde(Components(**PARTS), n_seeds=4, n_items=24))
    assert plan.basis == "measured in pilot (3 seeds x 9 items)"
    assert plan.enough is False
    assert plan.cheapest is not None
    assert plan.cheapest.n_seeds >= 3
    size = {"n_seeds": plan.cheapest.n_seeds, "n_items": plan.cheapest.n_items}
    assert power(Components(**PARTS), 0.1, **size) >= 0.8
    assert plan.cheapest.cost == pytest.approx(size["n_seeds"] * (10 + 0.01 * size["n_items"]))


def test_a_pilots_left_out_families_are_the_sample_and_its_items_their_size(study: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    families = [f"f{at}" for at in range(4)]
    row = {"components": PARTS, "n_items": 160, "tasks": families}
    plan = planned(study, claims(threshold=0.2, estimand={"kind": "leave_one_family_out"}), row, monkeypatch)
    assert plan.detectable == pytest.approx(mde(Components(**PARTS), n_seeds=4, n_items=160, item_df=3))
    assert plan.detectable > mde(Components(**PARTS), n_seeds=4, n_items=160)
    assert plan.cheapest is not None
    assert plan.cheapest.cost == 10 * plan.cheapest.n_seeds


def test_a_claim_about_methods_that_the_study_lacks_is_said_to_be_untestable(study: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = study.methods[0].model_copy(update={"variant": "b"})
    study = study.model_copy(update={"methods": [variant, *study.methods[1:]]})
    plan = planned(study, claims(threshold=0.1, comparators=["toy_base", "toy_rlhf"]), {"components": PARTS}, monkeypatch)
    assert plan.basis == "not testable: the study has no toy_base and no toy_rlhf (it has toy_base:b)"
    assert (plan.components, plan.detectable, plan.cheapest) == (None, None, None)


def test_the_level_is_shared_by_the_claims(study: StudySpec) -> None:
    one, two = claims(threshold=0.1), claims(threshold=0.1)
    two = ClaimFile.model_validate({"claims": [two.claims[0].model_copy(update={"id": "d"}).model_dump(exclude_none=True)]})
    (alone,) = plan_claims(study, [one], pilot=None, pilot_name="", costs=COSTS)
    both = plan_claims(study, [one, two], pilot=None, pilot_name="", costs=COSTS)
    parts = Components(0.02**2, 0.45**2, 0.45**2)
    assert alone.detectable == pytest.approx(mde(parts, n_seeds=4, n_items=24, alpha=0.05))
    assert [plan.detectable for plan in both] == pytest.approx([mde(parts, n_seeds=4, n_items=24, alpha=0.025)] * 2)


def test_what_a_study_states_is_assumed(study: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = study.model_copy(update={"planning": PlanningSpec(seed_sd=0.05, item_sd=0.3, residual_sd=0.2, comparator_score=0.5)})
    plan = planned(stated, claims(threshold=0.2), None, monkeypatch)
    assert plan.components == Components(0.05**2, 0.3**2, 0.2**2)
    assert plan.basis == "assumed SDs: seed 0.05, item 0.3, residual 0.2"
    relative = planned(stated, claims(threshold=0.4, measure="relative"), None, monkeypatch)
    assert plan.detectable is not None
    assert relative.detectable == pytest.approx(plan.detectable / 0.5)
    assert relative.cheapest == plan.cheapest, "40 % of .5 are 20 points"


def test_a_relative_claim_without_the_comparators_score_is_planned_in_points(study: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(study, claims(threshold=0.4, measure="relative"), None, monkeypatch)
    assert (plan.measure, plan.sought, plan.cheapest, plan.enough) == ("absolute", None, None, None)
    assert plan.detectable is not None


def test_better_without_a_number_has_an_mde_and_no_cheapest_design(study: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(study, claims(threshold=0), {"components": PARTS}, monkeypatch)
    assert plan.detectable is not None
    assert (plan.sought, plan.cheapest) == (None, None)


def test_equality_is_planned_for_two_tests(study: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(study, claims(direction="equal", margin=0.1), {"components": PARTS}, monkeypatch)
    assert plan.sought == 0.1
    assert plan.detectable == pytest.approx(mde(Components(**PARTS), n_seeds=4, n_items=24, power=0.9))


def test_values_that_exist_once_a_seed_are_planned_in_seeds(study: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    file = claims(threshold=0.2, estimand={"kind": "curve", "curve": "reward"})
    parts = {"seed": 0.04, "item": 0.0, "residual": 0.0}
    plan = planned(study, file, {"components": parts, "n_items": 1}, monkeypatch)
    assert plan.cheapest is not None
    assert (plan.cheapest.n_seeds, plan.cheapest.cost) == (10, 100.0)  # the one-sample t test of an effect of one SD needs 10
    assert planned(study, file, None, monkeypatch).basis == "known after a pilot"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"components": None, "why": "toy_sft has no finished trial"}, "pilot cannot tell: toy_sft has no finished trial"),
        ({"components": {"seed": None, "item": 0.1, "residual": None}}, "pilot cannot tell: it has one seed"),
    ],
)
def test_a_pilot_that_cannot_tell_is_said_to(study: StudySpec, monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], told: str) -> None:
    plan = planned(study, claims(threshold=0.1), row, monkeypatch)
    assert plan.basis.startswith("assumed SDs")
    assert plan.basis.endswith(told)


def test_items_are_those_of_the_claims_tasks(study: StudySpec) -> None:
    assert planned_clean_items(study, Estimand(kind="score")) == 24
    assert planned_clean_items(study, Estimand(kind="score", tasks=["toy_digits"])) == 12
    assert planned_clean_items(study, Estimand(kind="score", suite="elsewhere")) == 0
    assert planned_clean_items(study, Estimand(kind="score", above_chance_only=True), ["toy_letters"]) == 12


def test_costs_are_times_prices_and_labels(study: StudySpec) -> None:
    plan = plan_study(study, weights="w", setting=Setting("cpu", "float32", 1))
    seconds = {stage.id: 7200.0 if stage.kind == "train" else 3600.0 for stage in plan.stages.values()}
    priced = study_costs(study, plan, seconds, device_hour_usd=0.5, trained_usd={})
    assert (priced.seed, priced.item, priced.unit) == pytest.approx((1.0, 0.5 / 24, "USD"))
    assert study_costs(study, plan, seconds, device_hour_usd=0.5, trained_usd={"toy_sft": 60.0}).seed == 60.0
    free = study_costs(study, plan, seconds, device_hour_usd=0.0, trained_usd={})
    assert (free.seed, free.item, free.unit) == pytest.approx((2.0, 1 / 24, "device hours"))


def test_a_shared_first_part_is_charged_to_each_trial_and_costs_a_seed_once(workplace: Workplace) -> None:
    methods = [{"name": "toy_base"}] + [
        {"name": "toy_parts", "variant": f"{rate}", "config": {"learning_rate": rate}} for rate in (0.1, 0.2)
    ]
    study = load_study(workplace.write(methods=methods, folds={"leave_out": ["vowels"]}))
    plan = plan_study(study, weights="w", setting=Setting("cpu", "float32", 1))
    assert sum(stage.kind == "prepare" for stage in plan.stages.values()) == 4
    seconds = {stage.id: {"train": 7200.0, "prepare": 1800.0}.get(stage.kind, 3600.0) for stage in plan.stages.values()}
    assert [row["seconds"] for row in predicted_spend(study, plan, seconds, None)] == [9000.0, 9000.0]
    assert study_costs(study, plan, seconds, device_hour_usd=0.0, trained_usd={}).seed == pytest.approx(4.5)
    assert study_costs(study, plan, seconds, device_hour_usd=2.0, trained_usd={}).seed == pytest.approx(9.0)
    counted = study_costs(study, plan, seconds, device_hour_usd=2.0, trained_usd={"toy_parts:0.1": 60.0})
    assert counted.seed == pytest.approx(64.0), "the counted trial was charged the whole"


def test_given_costs_come_in_pairs() -> None:
    assert given_costs(None, None) is None
    assert given_costs(3.0, 0.0) == Costs(3.0, 0.0, "units given")
    for pair in ((1.0, None), (None, 1.0), (0.0, 0.0)):
        with pytest.raises(SpecError, match="cost"):
            given_costs(*pair)


def test_the_command_plans_the_studys_claims(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(json.dumps(claims(threshold=0.2).model_dump(exclude_none=True)))
    study = workplace.write(claims=["mine.yaml"], planning={"seed_sd": 0.0, "item_sd": 0.1, "residual_sd": 0.1})
    assert workplace.main("plan", study, "--seed-cost", "2", "--item-cost", "0.5", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["detectable"]
    assert row["cheapest"]["cost"] == pytest.approx(row["cheapest"]["n_seeds"] * (2 + 0.5 * row["cheapest"]["n_items"]))
    assert (row["enough"], row["n_seeds"], row["n_items"]) == (row["detectable"] <= 0.2, 2, 24)
    assert workplace.main("plan", study) == 0
    printed = capsys.readouterr().out
    assert "Cheapest enough" in printed
    assert "assumed SDs: seed 0, item 0.1, residual 0.1" in " ".join(printed.split())
    for arguments, told in ((["--pilot", "nowhere"], "no such run"), (["--seed-cost", "2"], "--item-cost")):
        assert workplace.main("plan", study, *arguments) == 2
        assert told in capsys.readouterr().err


def test_a_wrong_assumption_is_named_with_its_line(workplace: Workplace) -> None:
    with pytest.raises(SpecError, match=r"toy\.yaml:\d+: planning\.sed_sd: unknown key.*Did you mean 'seed_sd'"):
        load_study(workplace.write(planning={"sed_sd": 0.1}))
