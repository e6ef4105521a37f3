"""A task or item that cannot be scored has rows that say why, and the rest of the suite is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_scoring_suites import toy_student

from harness.core import plugins
from harness.core.budget import Ledger
from harness.core.suite_spec import SuiteSpec
from harness.scoring.suites import Suite, Task, score

READER = """
from datasets import Dataset, DatasetDict

DOC = {"question": "somebody carries seven quiet rivers", "choices": ["an apple", "ten tents"], "gold": 0}

def rows(*changes):
    docs = [{"id": f"i{n}", **DOC, **change} for n, change in enumerate(({}, *changes))]
    return DatasetDict({"test": Dataset.from_list(docs)})

def good(**_):
    return rows({}, {})

def gold(**_):
    return rows({"gold": 2}, {"gold": -1}, {"gold": None}, {})

def choices(**_):
    return rows({"choices": ["an apple"]}, {"choices": []}, {"choices": ["", "ten tents"]}, {})

def template(**_):
    return rows({"question": None}, {})

def unreadable(**_):
    return rows({"question": "raise"}, {"question": "none"}, {"question": "words"}, {})

def judge(doc, results):
    if doc["question"] == "raise":
        raise KeyError("answer")
    return {"acc": {"none": None, "words": "maybe"}.get(doc["question"], 1.0)}
"""
CHOICE = """
task: {name}
custom_dataset: !function toy.{name}
test_split: test
output_type: multiple_choice
doc_to_text: "{text}"
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""
UNREADABLE = """
task: unreadable
custom_dataset: !function toy.unreadable
process_results: !function toy.judge
test_split: test
output_type: generate_until
doc_to_text: question
doc_to_target: "nothing"
generation_kwargs: {until: [], max_gen_toks: 2, do_sample: false}
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
BY_REGEX = """
task: by_regex
custom_dataset: !function toy.good
test_split: test
output_type: generate_until
doc_to_text: question
doc_to_target: "7"
generation_kwargs: {until: [], max_gen_toks: 2, do_sample: false}
filter_list:
  - {name: number, filter: [{function: regex, regex_pattern: "([0-9]{30})"}, {function: take_first}]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
TEXTS = {
    "good": CHOICE.format(name="good", text="{{question}}:"),
    "gold": CHOICE.format(name="gold", text="{{question}}:"),
    "choices": CHOICE.format(name="choices", text="{{question}}:"),
    "template": CHOICE.format(name="template", text="{{question | upper if question else question.missing.field}}:"),
    "nowhere": CHOICE.format(name="good", text="{{no_such_field}}:").replace("task: good", "task: nowhere"),
    "unreadable": UNREADABLE,
    "by_regex": BY_REGEX,
}


@pytest.fixture
def frame(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Samples of the task named by the parameter and of a good task beside it."""
    return _scored([request.param, "good"], [], tmp_path, monkeypatch)


def _scored(names: list[str], perturbations: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    (tmp_path / "toy.py").write_text(READER)
    for name, text in TEXTS.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    metrics = {"by_regex": "exact_match"}
    tasks = tuple(Task(name, metrics.get(name, "acc"), "generation" if name in ("unreadable", "by_regex") else "choice") for name in names)
    suite = Suite("toy", "for tests", tasks, include_path=tmp_path)
    monkeypatch.setattr(plugins, "load", lambda kind, name, **_: suite)
    return score(toy_student(), [SuiteSpec(name="toy")], perturbations, ledger=Ledger(account="eval"), seed=0)


def _told(frame: pd.DataFrame, task: str) -> dict[str, tuple[str, str]]:
    """Status and reason of every row without a score, by item."""
    rows = frame[(frame.task == task) & (frame.status != "scored")]
    assert not rows.duplicated("sample_id").any()
    return {row.sample_id: (row.status, row.output) for row in rows.itertuples()}


def _n_scored(frame: pd.DataFrame, task: str) -> int:
    return int(frame[(frame.task == task) & (frame.status == "scored")].sample_id.nunique())


@pytest.mark.parametrize("frame", [name for name in TEXTS if name != "good"], indirect=True)
def test_the_rest_of_the_suite_is_scored(frame: pd.DataFrame) -> None:
    assert _n_scored(frame, "good") == 3
    assert frame[frame.status != "scored"].value.isna().all()
    assert frame[frame.status == "scored"].value.notna().all()


@pytest.mark.parametrize("frame", ["gold"], indirect=True)
def test_a_missing_gold_answer(frame: pd.DataFrame) -> None:
    assert _told(frame, "gold") == {
        "i1": ("skipped", "the gold answer 2 is none of the 2 choices"),
        "i2": ("skipped", "the gold answer -1 is none of the 2 choices"),
        "i3": ("skipped", "no gold answer"),
    }
    assert _n_scored(frame, "gold") == 2


@pytest.mark.parametrize("frame", ["choices"], indirect=True)
def test_too_few_choices(frame: pd.DataFrame) -> None:
    assert _told(frame, "choices") == {
        "i1": ("skipped", "1 choice: nothing to choose"),
        "i2": ("skipped", "0 choices: nothing to choose"),
        "i3": ("skipped", "a choice is empty"),
    }
    assert _n_scored(frame, "choices") == 2


@pytest.mark.parametrize("frame", ["template"], indirect=True)
def test_a_template_that_fails_on_one_item(frame: pd.DataFrame) -> None:
    ((identity, (status, reason)),) = _told(frame, "template").items()
    assert (identity, status) == ("i1", "error")
    assert reason.startswith("the task cannot render this item: UndefinedError: ")
    assert _n_scored(frame, "template") == 2


@pytest.mark.parametrize("frame", ["nowhere"], indirect=True)
def test_a_template_that_fails_on_every_item(frame: pd.DataFrame) -> None:
    assert _told(frame, "nowhere") == {"*": ("error", "the task cannot be loaded: UndefinedError: 'no_such_field' is undefined")}


@pytest.mark.parametrize("frame", ["unreadable"], indirect=True)
def test_answers_that_a_parser_cannot_read(frame: pd.DataFrame) -> None:
    told = _told(frame, "unreadable")
    assert {identity: status for identity, (status, _) in told.items()} == {"i1": "error", "i2": "unparsed", "i3": "unparsed"}
    assert told["i1"][1].endswith("[KeyError: 'answer']")
    assert told["i2"][1].endswith("[no single number for this answer: acc is None]")
    assert told["i3"][1].endswith("[no single number for this answer: acc is 'maybe']")
    assert _n_scored(frame, "unreadable") == 2


@pytest.mark.parametrize("frame", ["by_regex"], indirect=True)
def test_what_lm_evals_filters_find_nothing_in_is_wrong_as_it_is_there(frame: pd.DataFrame) -> None:
    rows = frame[frame.task == "by_regex"]
    assert rows.value.tolist() == [0.0, 0.0, 0.0]
    assert set(rows.status) == {"scored"}


def test_items_that_cannot_be_asked_are_counted_under_each_perturbation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = _scored(["choices", "nowhere"], ["case", "option_order"], tmp_path, monkeypatch)
    rows = frame[frame.task == "choices"]
    assert rows.groupby("perturbation").sample_id.nunique().to_dict() == {"clean": 5, "case": 5, "option_order": 5}
    shuffled = rows[rows.perturbation == "option_order"]
    assert set(shuffled.status) == {"skipped"}
    assert shuffled.output.value_counts().to_dict()["the prompt does not show the choices"] == 2
