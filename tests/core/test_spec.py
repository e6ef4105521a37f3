from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core import plugins
from harness.core.spec import Adaptation, StudySpec, load_study
from harness.core.study_file import key_path
from harness.errors import SpecError

STUDIES = Path(__file__).parents[2] / "studies"
PLUGINS = Path(__file__).parents[1] / "study" / "plugins"
GOOD: dict[str, Any] = {
    "name": "toy",
    "student": {"model": "smollm2-135m-instruct"},
    "pool": {"name": "toy_pool"},
    "budget": {"train_flops": 8e12},
    "seeds": [0, 1],
    "methods": [{"name": "toy_base"}, {"name": "toy_sft"}],
    "suites": [{"name": "toy_suite", "limit": {"toy_letters": 5}}],
    "perturbations": ["typos"],
    "claims": ["review_2024"],
}


@pytest.fixture(autouse=True)
def toy_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGINS))


def write(folder: Path, content: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize("path", sorted(STUDIES.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_study_file_of_the_repository_loads(path: Path) -> None:
    study = load_study(path)
    assert study.name == path.stem


def test_the_quickstarts_configurations_are_those_that_finished_runs_were_made_with() -> None:
    """Stage ids hash configurations as plug-ins complete them: a setting added later must leave no trace where it is not used."""
    methods = load_study(STUDIES / "quickstart.yaml").methods
    completed = [plugins.load("methods", method.name).Config(**method.config).model_dump(mode="json") for method in methods]
    assert hashlib.sha256(json.dumps(completed, sort_keys=True).encode()).hexdigest()[:16] == "0414b0b385d5f1d7"


def test_there_are_study_files() -> None:
    assert list(STUDIES.rglob("*.yaml"))


@pytest.mark.parametrize(("text", "value"), [("8e12", 8e12), ("8.5E+12", 8.5e12), ("800000", 8e5), (".5e3", 500.0)])
def test_numbers_with_exponents_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    path = write(tmp_path, yaml.safe_dump(GOOD | {"budget": {"train_flops": "NUMBER"}}).replace("NUMBER", text))
    assert load_study(path).budget.train_flops == value


def test_defaults_and_labels(tmp_path: Path) -> None:
    content = GOOD | {"methods": [{"name": "toy_sft"}, {"name": "toy_sft", "variant": "slow"}]}
    study = load_study(write(tmp_path, content))
    assert study.student.adaptation == Adaptation(kind="lora", rank=16, alpha=32, dropout=0.0)
    assert [method.label for method in study.methods] == ["toy_sft", "toy_sft:slow"]
    assert StudySpec.model_validate(study.model_dump(mode="json")) == study


MISTAKES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("misspelt top key", {"methodes": []}, ["methodes", "Did you mean 'methods'?"]),
    ("misspelt inner key", {"student": {"modle": "x"}}, ["student.modle", "Did you mean 'model'?"]),
    ("misspelt deep key", {"student": {"model": "x", "adaptation": {"ranks": 4}}}, ["student.adaptation.ranks", "'rank'"]),
    ("misspelt key in a list", {"methods": [{"nam": "sft"}]}, ["methods[0].nam", "Did you mean 'name'?"]),
    (
        "unknown method",
        {"methods": [{"name": "toy_base"}, {"name": "toy_sfft"}]},
        ["methods[1].name", "'toy_sfft'", "Did you mean 'toy_sft'?"],
    ),
    ("unknown pool", {"pool": {"name": "toy_pol"}}, ["pool.name", "Did you mean 'toy_pool'?"]),
    ("unknown suite", {"suites": ["toy_siute"]}, ["suites[0].name", "Did you mean 'toy_suite'?"]),
    ("unknown task", {"suites": [{"name": "toy_suite", "tasks": ["toy_leters"]}]}, ["suites[0].tasks[0]", "'toy_letters'"]),
    ("unknown task limit", {"suites": [{"name": "toy_suite", "limit": {"toy_digit": 3}}]}, ["suites[0].limit.toy_digit", "'toy_digits'"]),
    ("limit of zero", {"suites": [{"name": "toy_suite", "limit": {"toy_letters": 0}}]}, ["suites[0].limit", "greater than"]),
    ("unknown perturbation", {"perturbations": ["typoes"]}, ["perturbations[0]", "Did you mean 'typos'?"]),
    ("perturbation twice", {"perturbations": ["typos", "typos"]}, ["perturbations", "once"]),
    ("unknown claims", {"claims": ["review_2025"]}, ["claims[0]", "Did you mean 'review_2024'?"]),
    (
        "method config key",
        {"methods": [{"name": "toy_sft", "config": {"learnig_rate": 1}}]},
        ["methods[0].config.learnig_rate", "'learning_rate'"],
    ),
    ("pool config key", {"pool": {"name": "toy_pool", "config": {"bogus": 1}}}, ["pool.config.bogus"]),
    ("price key", {"prices": {"comparison_eur": 1}}, ["prices.comparison_eur", "'comparison_usd'"]),
    ("negative price", {"prices": {"comparison_usd": -1}}, ["prices.comparison_usd", "greater than or equal to 0"]),
    ("kind of adaptation", {"student": {"model": "x", "adaptation": {"kind": "lroa"}}}, ["adaptation.kind", "'lora'"]),
    ("text for a number", {"budget": {"train_flops": "much"}}, ["budget.train_flops", "'much'", "valid number"]),
    ("no budget", {"budget": {"train_flops": 0}}, ["budget.train_flops", "greater than 0"]),
    ("infinite budget", {"budget": {"train_flops": float("inf")}}, ["budget.train_flops", "finite"]),
    ("seed twice", {"seeds": [1, 1]}, ["seeds", "different"]),
    ("negative seed", {"seeds": [-1]}, ["seeds", "non-negative"]),
    ("fractional seed", {"seeds": [0.5]}, ["seeds[0]", "integer"]),
    ("no seeds", {"seeds": []}, ["seeds", "at least 1"]),
    ("method twice", {"methods": [{"name": "toy_sft"}, {"name": "toy_sft"}]}, ["methods", "toy_sft is listed twice", "variant"]),
    ("name with spaces", {"name": "my study"}, ["name", "'my study'"]),
    ("name out of the folder", {"name": "../x"}, ["name", "'../x'"]),
    ("list for a mapping", {"student": ["x"]}, ["student: must be a mapping with the keys model, adaptation, engine (got ['x'])."]),
    ("name for a method's mapping", {"methods": ["toy_sft"]}, ["methods[0]: must be a mapping with the keys name, variant, config"]),
    ("text for a list", {"perturbations": "typos"}, ["perturbations: must be a list (got 'typos')."]),
    ("number for text", {"title": 12}, ["title: must be text (got 12)."]),
    ("task twice", {"suites": ["toy_suite", "toy_suite"]}, ["suites[1]: task toy_letters of suite toy_suite is asked for twice."]),
    (
        "task of two suites",
        {"suites": ["complex_understanding", {"name": "lm_eval", "tasks": ["boolq"]}]},
        ["suites[1]: task boolq of suites complex_understanding and lm_eval is asked for twice."],
    ),
    ("misspelt student", {"student": {"model": "smollm2-135m-instrct"}}, ["student.model", "Did you mean 'smollm2-135m-instruct'?"]),
    ("embedder for a student", {"student": {"model": "minilm-l6-v2"}}, ["student.model", "this names an embedder"]),
]


@pytest.mark.parametrize(("changes", "told"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_gets_one_message_with_file_key_value_and_nearest_name(tmp_path: Path, changes: dict[str, Any], told: list[str]) -> None:
    path = write(tmp_path, GOOD | changes)
    with pytest.raises(SpecError) as caught:
        load_study(path)
    message = str(caught.value)
    for part in (str(path), *told):
        assert part in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("key", ["name", "student", "pool", "budget", "seeds", "methods", "suites"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, {name: value for name, value in GOOD.items() if name != key})
    with pytest.raises(SpecError, match=rf"{key}: this key is required"):
        load_study(path)


def test_the_line_of_a_mistake_is_told(tmp_path: Path) -> None:
    text = yaml.safe_dump(GOOD, sort_keys=False).replace("- name: toy_sft", "- name: toy_sftt")
    number = text.splitlines().index("- name: toy_sftt") + 1
    path = write(tmp_path, text)
    with pytest.raises(SpecError, match=rf"study.yaml:{number}: methods\[1\]\.name"):
        load_study(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [toy\nseeds: 3", "study.yaml:2: not valid YAML"),
        ("name: toy\nseeds: [0]\nname: other", "study.yaml:3: name: the key is written twice"),
        ("student:\n  model: a\n  model: b", "study.yaml:3: student.model: the key is written twice"),
        ("", "the file is empty"),
        ("- a\n- b", "must be a mapping"),
        ("name: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("1: x", "study.yaml:1: 1: keys must be text"),
        ("# nothing", "study.yaml: the file is empty."),
        ("a: b\n---\nc: d", "study.yaml:2: not valid YAML: expected a single document in the stream, but found another document."),
        ("name: &a [*a]", "an alias that contains itself"),
        ("name: !!int x", "not valid YAML: invalid literal"),
        ("name: \x01", "study.yaml: not a text file: it holds control characters."),
    ],
)
def test_broken_yaml_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_study(write(tmp_path, text))
    assert told in str(caught.value)


def test_settings_can_be_shared_by_anchor_and_merge(tmp_path: Path) -> None:
    methods = """
methods:
  - {name: toy_sft, variant: slow, config: &shared {learning_rate: 1.0e-4}}
  - name: toy_sft
    variant: %s
    config:
      <<: *shared
      learning_rate: %s
"""
    rest = yaml.safe_dump({key: value for key, value in GOOD.items() if key != "methods"})
    study = load_study(write(tmp_path, rest + methods % ("fast", "1.0e-3")))
    assert [method.config for method in study.methods] == [{"learning_rate": 1e-4}, {"learning_rate": 1e-3}]
    text = rest + methods % ("fast", "quick")
    number = text.splitlines().index("      learning_rate: quick") + 1
    with pytest.raises(SpecError, match=rf"study.yaml:{number}: methods\[1\]\.config\.learning_rate"):
        load_study(write(tmp_path, text))
    with pytest.raises(SpecError, match="written twice"):
        load_study(write(tmp_path, text.replace("<<: *shared", "learning_rate: 1.0e-4")))


def test_a_date_is_text(tmp_path: Path) -> None:
    text = yaml.safe_dump(GOOD) + "title: 2024-13-45\n"
    assert load_study(write(tmp_path, text)).title == "2024-13-45"


def test_a_mistake_in_a_claim_file_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("claims:\n  - id: x\n    sentense: y\n")
    with pytest.raises(SpecError, match=r"mine\.yaml:3: claims\[0\]\.sentense: unknown key"):
        load_study(write(tmp_path, GOOD | {"claims": ["mine.yaml"]}))


def test_a_message_that_ends_its_own_sentence_gets_no_second_stop() -> None:
    assert str(SpecError("no such thing. Did you mean 'x'?", key="a")) == "a: no such thing. Did you mean 'x'?"


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(SpecError, match=r"no such study file.*Did you mean '.*study\.yaml'"):
        load_study(tmp_path / "stduy.yaml")
    with pytest.raises(SpecError, match="no such study file") as caught:
        load_study(tmp_path / "board.yaml")
    assert "study.yaml" not in str(caught.value), "a name with nothing in common is no guess"
    with pytest.raises(SpecError, match=r": cannot be read: Is a directory\.$"):
        load_study(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xbc")
    with pytest.raises(SpecError, match=r"binary\.yaml: not a text file\.$"):
        load_study(tmp_path / "binary.yaml")


def test_a_guess_does_not_hide_a_short_list() -> None:
    assert str(SpecError("unknown", value="nonsense", valid=["none", "wandb"])).endswith("Did you mean 'none'? Valid: none, wandb.")
    many = [f"name-{index:02}" for index in range(20)]
    assert str(SpecError("unknown", value="name-07x", valid=many)).endswith("Did you mean 'name-07'?")


def test_locations_read_as_users_write_them() -> None:
    assert key_path(("methods", 0, "config", "learning_rate")) == "methods[0].config.learning_rate"
