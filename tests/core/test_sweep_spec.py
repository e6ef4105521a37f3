"""Sweeps in study files: what they expand to, and what is told of a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core.blocks import OWN, apart, blocks, budgets
from harness.core.spec import StudySpec, load_study
from harness.core.sweep import level_label
from harness.errors import SpecError

PLUGINS = Path(__file__).parents[1] / "study" / "plugins"
STUDY: dict[str, Any] = {
    "name": "toy",
    "student": {"model": "smollm2-135m-instruct", "adaptation": {"kind": "lora", "rank": 4}},
    "pool": {"name": "toy_pool"},
    "budget": {"train_flops": 4e8},
    "seeds": [0, 1],
    "methods": [{"name": "toy_base"}, {"name": "toy_sft", "config": {"learning_rate": 1e-3}}],
    "suites": ["toy_suite"],
}
BUDGETS = {"key": "budget.train_flops", "values": [4e8, 8e8]}


@pytest.fixture(autouse=True)
def toy_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGINS))


def write(folder: Path, sweep: Any, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | changes | {"sweep": sweep}, sort_keys=False))
    return path


def expanded(folder: Path, sweep: Any, **changes: Any) -> StudySpec:
    return load_study(write(folder, sweep, **changes))


def labels(study: StudySpec) -> list[str]:
    return [method.label for method in study.methods]


def test_one_at_a_time_moves_one_axis_from_the_centre_and_lists_the_centre_once(tmp_path: Path) -> None:
    axes = {"learning_rate": [1e-3, 1e-2], "idle": [False, True], "parts": {"key": "parts", "drop_each": True}}
    study = expanded(tmp_path, {"method": "toy_sft", "axes": axes})
    assert labels(study) == [
        "toy_base", "toy_sft", "toy_sft:learning_rate=0.01", "toy_sft:idle=true",
        "toy_sft:parts=without-a", "toy_sft:parts=without-b", "toy_sft:parts=without-c",
    ]  # fmt: skip
    centre, fast, *_, last = study.methods[1:]
    assert centre.levels == {"learning_rate": "0.001", "idle": "false", "parts": "all"}
    assert fast.config["learning_rate"] == 1e-2
    assert last.config["parts"] == ["a", "b"]
    assert last.config["learning_rate"] == 1e-3
    assert all(method.at is None for method in study.methods)
    assert study.methods[0].levels == {}
    assert expanded(tmp_path, {"method": "toy_sft", "axes": {"parts": {"key": "parts", "drop_each": ["b"]}}}).methods[-1].config[
        "parts"
    ] == ["a", "c"]


def test_a_grid_has_every_combination_and_every_method_at_every_budget(tmp_path: Path) -> None:
    axes = {"rate": {"key": "learning_rate", "values": [1e-3, 1e-2]}, "budget": BUDGETS}
    study = expanded(tmp_path, {"method": "toy_sft", "design": "grid", "axes": axes})
    assert labels(study) == [
        "toy_base", "toy_sft", "toy_sft:rate=0.01",
        "toy_base:budget=8e8", "toy_sft:budget=8e8", "toy_sft:rate=0.01,budget=8e8",
    ]  # fmt: skip
    assert [study.train_flops_of(method) for method in study.methods] == [4e8] * 3 + [8e8] * 3
    assert study.methods[-1].levels == {"rate": "0.01", "budget": "8e8"}
    assert {study.student_of(method) for method in study.methods} == {study.student}


def test_a_list_takes_values_side_by_side(tmp_path: Path) -> None:
    study = expanded(tmp_path, {"method": "toy_sft", "design": "list", "axes": {"learning_rate": [1e-2, 1e-1], "idle": [True, False]}})
    assert labels(study)[2:] == ["toy_sft:learning_rate=0.01,idle=true", "toy_sft:learning_rate=0.1"]


def test_students_and_settings_that_change_together(tmp_path: Path) -> None:
    axes = {
        "student": {"key": "student.model", "values": {"gemma": "gemma3-270m"}},
        "rank": {"key": "student.adaptation.rank", "values": [4, 8]},
        "both": {"values": {"on": {"learning_rate": 0.1, "idle": True}, "off": {"learning_rate": 1e-3, "idle": False}}},
    }
    study = expanded(tmp_path, {"method": "toy_sft", "axes": axes})
    assert labels(study) == [
        "toy_base", "toy_sft", "toy_sft:both=on",
        "toy_base:student=gemma", "toy_sft:student=gemma", "toy_base:rank=8", "toy_sft:rank=8",
    ]  # fmt: skip
    by_label = dict(zip(labels(study), study.methods, strict=True))
    assert study.student_of(by_label["toy_sft:student=gemma"]).model == "gemma3-270m"
    assert study.student_of(by_label["toy_sft:rank=8"]).adaptation.rank == 8
    assert by_label["toy_sft"].levels == {"student": "smollm2-135m-instruct", "rank": "4", "both": "off"}


def test_a_seeds_axis_adds_replicates_to_every_variant(tmp_path: Path) -> None:
    study = expanded(tmp_path, {"method": "toy_sft", "axes": {"seeds": [1, 2, 3], "idle": [True]}})
    assert study.seeds == [0, 1, 2, 3]
    assert labels(study) == ["toy_base", "toy_sft", "toy_sft:idle=true"]


def test_axis_settings_are_written_out_so_that_tuning_leaves_them_alone(tmp_path: Path) -> None:
    study = expanded(tmp_path, {"method": "toy_sft", "axes": {"idle": [True]}}, methods=[{"name": "toy_sft"}])
    assert [method.config for method in study.methods] == [{"idle": False}, {"idle": True}]


def test_an_expanded_study_survives_its_own_record(tmp_path: Path) -> None:
    study = expanded(tmp_path, {"method": "toy_sft", "design": "grid", "axes": {"learning_rate": [1e-3, 1e-2], "budget": BUDGETS}})
    assert StudySpec.model_validate(study.model_dump(mode="json")) == study
    plain = load_study(write(tmp_path, None))
    assert not {"sweep", "levels", "at"} & {*plain.model_dump(mode="json"), *plain.model_dump(mode="json")["methods"][0]}


def test_blocks_hold_what_may_be_compared(tmp_path: Path) -> None:
    axes = {"learning_rate": [1e-3, 1e-2], "budget": BUDGETS}
    record = expanded(tmp_path, {"method": "toy_sft", "axes": axes}).model_dump(mode="json")
    own, larger = blocks(record)
    assert own.methods == ("toy_base", "toy_sft", "toy_sft:learning_rate=0.01")
    assert (larger.name, larger.train_flops, larger.methods) == ("budget=8e8", 8e8, ("toy_base:budget=8e8", "toy_sft:budget=8e8"))
    assert budgets(record) == {"toy_base:budget=8e8": 8e8, "toy_sft:budget=8e8": 8e8}
    assert "never compared" in apart(record, "toy_sft", "toy_sft:budget=8e8")
    assert apart(record, "toy_sft", "toy_sft:learning_rate=0.01") == ""
    (only,) = blocks(load_study(write(tmp_path, None)).model_dump(mode="json"))
    assert (only.name, only.methods) == (OWN, ("toy_base", "toy_sft"))
    assert blocks({"tasks": {}})[0].methods == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [(2e12, "2e12"), (1e-05, "1e-5"), (4e8, "4e8"), (1e10, "1e10"),
     (64, "64"), (True, "true"), (None, "none"), (0.1234567, "0.1234567"), ("hub:org/m@x", "hub-org-m-x"),
     (["a", "b"], "a-b"), ({"kind": "full"}, "kind-full"), ("../..", "..-.."), ("fixed:deepen", "fixed-deepen"), ("é", "empty")],
)  # fmt: skip
def test_levels_are_safe_in_file_names_and_addresses(value: Any, text: str) -> None:
    assert level_label(value) == text


def one(axis: Any, **more: Any) -> dict[str, Any]:
    return {"method": "toy_sft", "axes": {"rate": axis}, **more}


MISTAKES: list[tuple[str, Any, list[str]]] = [
    ("unknown key", {"method": "toy_sft", "axes": {"learnin_rate": [1]}}, ["sweep.axes.learnin_rate", "Did you mean 'learning_rate'?"]),
    ("unknown part of a sweep", {"method": "toy_sft", "axis": {}}, ["sweep.axis: unknown key", "Did you mean 'axes'?"]),
    ("wrong type", one({"key": "learning_rate", "values": [0.1, "high"]}), ["sweep.axes.rate.values[1]", "valid number", "'high'"]),
    ("wrong type, short form", {"method": "toy_sft", "axes": {"idle": ["maybe"]}}, ["sweep.axes.idle[0]", "'maybe'"]),
    ("wrong budget", {"axes": {"b": {"key": "budget.train_flops", "values": {"none": -1}}}}, ["axes.b.values.none", "greater than 0"]),
    ("empty axis", {"method": "toy_sft", "axes": {"learning_rate": []}}, ["sweep.axes", "at least one value"]),
    ("no axis", {"method": "toy_sft", "axes": {}}, ["sweep.axes", "at least 1"]),
    ("no values", one({"key": "learning_rate"}), ["sweep.axes.rate", "either values or drop_each"]),
    ("two axes on one key", {"method": "toy_sft", "axes": {"idle": [True], "b": {"key": "idle", "values": [True]}}}, ["axes.b", "idle"]),
    ("part and whole", {"axes": {"a": {"key": "student.adaptation", "values": [{"kind": "full"}]},
                                 "b": {"key": "student.adaptation.rank", "values": [8]}}}, ["sweep.axes.b", "sets student.adaptation"]),
    ("no method", {"axes": {"idle": [True]}}, ["sweep.method: this key is required", "axis idle"]),
    ("unknown method", {"method": "toy_stf", "axes": {"idle": [True]}}, ["sweep.method", "Did you mean 'toy_sft'?"]),
    ("unknown design", {"method": "toy_sft", "design": "gird", "axes": {"idle": [True]}}, ["sweep.design", "Did you mean 'grid'?"]),
    ("a grid without its centre", one({"key": "learning_rate", "values": [0.1]}, design="grid"), ["sweep.axes.rate", "(0.001)", "grid"]),
    ("nothing but the centre", one({"key": "learning_rate", "values": [1e-3]}), ["sweep.axes.rate", "no value but the centre's"]),
    ("a value twice", one({"key": "learning_rate", "values": [0.1, 0.1]}), ["sweep.axes.rate.values[1]", "written twice"]),
    ("alike in labels", one({"key": "fail", "values": ["a b", "a-b"]}), ["sweep.axes.rate.values[1]", "name them"]),
    ("a name with a slash", one({"key": "fail", "values": {"a/b": "x"}}), ["sweep.axes", "must match", "'a/b'"]),
    ("nothing to drop from", one({"key": "fail", "drop_each": True}), ["sweep.axes.rate.drop_each", "list of at least 2"]),
    ("seeds to drop", {"axes": {"s": {"key": "seeds", "drop_each": True}}}, ["sweep.axes.s.drop_each", "expected `values`", "seeds"]),
    ("a budget to drop", {"axes": {"b": {"key": "budget.train_flops", "drop_each": ["x"]}}}, ["axes.b.drop_each", "['x']", "values"]),
    ("a student to drop", {"axes": {"a": {"key": "student.adaptation", "drop_each": True}}}, ["axes.a.drop_each", "student.adaptation"]),
    ("no such element", one({"key": "parts", "drop_each": ["d"]}), ["sweep.axes.rate.drop_each[0]", "'d'", "Valid: a, b, c"]),
    ("unequal lists", {"method": "toy_sft", "design": "list", "axes": {"idle": [True], "learning_rate": [1, 2]}}, ["as many values"]),
    ("values without a key", one({"values": [1]}), ["sweep.axes.rate", "expected a key"]),
    ("unnamed settings", one({"values": {"x": 3}}), ["sweep.axes.rate.values.x", "mappings of dotted keys"]),
    ("unknown setting of several", one({"values": {"x": {"idel": True}}}), ["sweep.axes.rate.values.x", "Did you mean 'idle'?"]),
    ("unknown model", {"axes": {"student.model": ["smollm2-135m-instrct"]}}, ["sweep.axes.student.model[0]", "'smollm2-135m-instruct'?"]),
    ("a seed that is none", {"axes": {"seeds": [-1]}}, ["sweep.axes.seeds[0]", "non-negative whole number"]),
    ("seeds twice", {"axes": {"seeds": [7, 7]}}, ["sweep.axes.seeds[1]", "written twice"]),
    ("seeds that are there", {"axes": {"seeds": [0, 1]}}, ["sweep.axes.seeds", "has these seeds already"]),
    ("two names of one value", one({"key": "fail", "values": {"x": "f", "y": "f"}}), ["axes.rate.values.y", "the value of x already"]),
    ("an element twice", one({"key": "parts", "drop_each": ["a", "a"]}), ["axes.rate.drop_each[1]", "element is written twice", "'a'"]),
    ("an element for a list", one({"key": "parts", "drop_each": "a"}), ["sweep.axes.rate.drop_each", "true, or a list of elements"]),
    ("an axis of nothing", {"method": "toy_sft", "axes": {"idle": None}}, ["sweep.axes", "a list of values or a mapping", "axis idle"]),
    ("a misspelt budget", {"axes": {"b": {"key": "budget.train_flop", "values": [1e9]}}}, ["axes.b", "'budget.train_flops'?"]),
    ("a grid axis of the centre alone", {"method": "toy_sft", "design": "grid", "axes": {"idle": [False], "learning_rate": [1e-3, 1]}},
     ["sweep.axes.idle", "no value but the centre's"]),
    ("infinite", one({"key": "learning_rate", "values": [float("inf")]}), ["sweep.axes.rate.values[0]", "finite number", "'.inf'"]),
    ("huge", one({"key": "learning_rate", "values": [10**400]}), ["sweep.axes.rate.values[0]", "at most 18 digits"]),
    ("explosion", {"method": "toy_sft", "design": "grid", "axes": {"learning_rate": [1e-3, *(float(n) for n in range(1, 60))],
                   "fail": ["", *(f"f{n}" for n in range(60))]}}, ["sweep.axes", "3,660 variants", "at most 2,000"]),
]  # fmt: skip


@pytest.mark.parametrize(("sweep", "told"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_one_message_with_its_place(tmp_path: Path, sweep: Any, told: list[str]) -> None:
    path = write(tmp_path, sweep)
    with pytest.raises(SpecError) as caught:
        load_study(path)
    for part in (f"{path}:", *told):
        assert part in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("levels", {"a": "b"}), ("at", {"train_flops": 1e9, "student": {"model": "gemma3-270m"}})])
def test_only_a_sweep_places_a_method(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(SpecError, match=rf"methods\[0\]\.{key}: is set by a sweep"):
        load_study(write(tmp_path, None, methods=[{"name": "toy_sft", key: value}]))


FULL = STUDY["student"] | {"adaptation": {"kind": "full"}}


@pytest.mark.parametrize(
    ("student", "sweep", "told"),
    [
        (FULL, {"axes": {"student.adaptation.rank": [16, 8]}}, ["sweep.axes.student.adaptation.rank[1]", "kind: full", "(got 8)"]),
        (FULL, {"axes": {"d": {"key": "student.adaptation.dropout", "values": {"some": 0.1}}}},
         ["sweep.axes.d.values.some", "dropout means"]),
        (STUDY["student"], {"axes": {"a": {"key": "student.adaptation", "values": {"whole": {"kind": "full", "rank": 8}}}}},
         ["sweep.axes.a.values.whole", "student.adaptation.rank means nothing beside kind: full"]),
        (STUDY["student"], {"design": "grid", "axes": {"kind": {"key": "student.adaptation.kind", "values": ["lora", "full"]},
                                                       "rank": {"key": "student.adaptation.rank", "values": [4, 8]}}},
         ["sweep.axes", "kind=full, rank=8 cannot be combined", "rank means nothing"]),
    ],
)  # fmt: skip
def test_parts_of_an_adapter_are_not_swept_where_there_is_none(tmp_path: Path, student: Any, sweep: Any, told: list[str]) -> None:
    path = write(tmp_path, sweep, student=student)
    with pytest.raises(SpecError) as caught:
        load_study(path)
    for part in (f"{path}:", *told):
        assert part in str(caught.value)


def test_full_fine_tuning_may_stand_beside_adapters(tmp_path: Path) -> None:
    study = expanded(tmp_path, {"axes": {"student.adaptation.kind": ["full"]}})
    assert {study.student_of(method).adaptation.kind for method in study.methods} == {"lora", "full"}
    axes = {"a": {"key": "student.adaptation", "values": {"whole": {"kind": "full"}, "wide": {"kind": "lora", "rank": 8}}}}
    assert len(labels(expanded(tmp_path, {"axes": axes}))) == 6


@pytest.mark.parametrize(
    ("axes", "setter"),
    [({"rate": {"key": "learning_rate", "values": [0.1]}}, "the sweep's axis rate"),
     ({"both": {"values": {"on": {"learning_rate": 0.1, "idle": True}}}}, "the sweep's axis both"), ({"idle": [True]}, "methods")],
)  # fmt: skip
def test_a_grid_on_a_setting_that_is_taken_names_what_took_it(tmp_path: Path, axes: Any, setter: str) -> None:
    tune = {"flops": 3e8, "grids": {"toy_sft": {"learning_rate": [1e-2]}}, "suites": ["toy_validation"]}
    with pytest.raises(SpecError) as caught:
        load_study(write(tmp_path, {"method": "toy_sft", "axes": axes}, tune=tune))
    assert f"tune.grids.toy_sft.learning_rate: {setter} sets it for toy_sft already" in str(caught.value)
