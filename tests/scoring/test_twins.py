"""A perturbed twin asks the same thing: gold answer and verdict stay, whatever the perturbation and the kind of task."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.task import ConfigurableTask

from harness.core.perturbation_spec import PerturbationSpec, robust_task
from harness.errors import SpecError
from harness.scoring.items import Items, choose_items, sample_id
from harness.scoring.perturbations import PERTURBATIONS
from harness.scoring.twins import UNCHANGED, RecordedShots, perturbed_twin

WORDS = (
    "large",
    "colourful",
    "she",
    "wants",
    "is",
    "reading",
    "because",
    "17",
    "theatre",
    "Somebody",
    "often",
    "do not",
    "river",
    "they",
    "know",
)
QUESTION = "They know that somebody wants a large red apple, because it is colourful. What is she doing with 17 of them?"
CHOICES = ["buy large apples", "walk to the theatre", "reading often", "nothing"]
BASE = {"task": "toy", "test_split": "test", "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]}
CHOICE = {**BASE, "output_type": "multiple_choice"}
LETTERS = "{{question}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:"
KINDS: dict[str, dict[str, Any]] = {
    "continued": {**CHOICE, "doc_to_text": "{{question}}", "doc_to_choice": "choices", "doc_to_target": "gold"},
    "named fields": {
        **CHOICE, "doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_choice": "choices", "doc_to_target": "gold",
        "metadata": {"perturb": ["question"]},
    },
    "letters": {**CHOICE, "doc_to_text": LETTERS, "doc_to_choice": ["A", "B", "C", "D"], "doc_to_target": "gold"},
    "shown and named": {
        **CHOICE, "doc_to_text": LETTERS, "doc_to_choice": "choices", "doc_to_target": "gold", "metadata": {"perturb": ["question"]},
    },
    "label dictionary": {
        **CHOICE, "doc_to_text": "{{question}}\n{{options.text | join('\n')}}", "doc_to_choice": "{{options.text}}",
        "doc_to_target": "{{options.label.index(key)}}",
    },
    "generation": {
        **BASE, "output_type": "generate_until", "doc_to_text": "{{question}}", "doc_to_target": "{{choices[gold]}}",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}], "generation_kwargs": {"until": ["\n"]},
    },
    "last word": {**BASE, "output_type": "loglikelihood", "doc_to_text": "{{question}}", "doc_to_target": " {{choices[gold]}}"},
}  # fmt: skip


def document(question: str, gold: int, number: int = 0) -> dict[str, Any]:
    options = {"text": CHOICES, "label": ["A", "B", "C", "D"]}
    return {
        "id": f"i{number}",
        "cluster": "p",
        "question": question,
        "choices": CHOICES,
        "gold": gold,
        "options": options,
        "key": "ABCD"[gold],
    }


def toy_task(docs: Sequence[dict[str, Any]], **config: Any) -> Any:
    data = DatasetDict({"test": Dataset.from_list(list(docs))})
    task = ConfigurableTask(config={**copy.deepcopy(config), "custom_dataset": lambda **_: data})
    task.set_fewshot_seed(1)
    return task


def alike(pairs: Sequence[tuple[str, str]]) -> list[float]:
    return [1.0] * len(pairs)


def twin_of(task: Any, label: str, **options: Any) -> tuple[Any, Items]:
    return perturbed_twin(task, PerturbationSpec.model_validate(label), choose_items(task, None), **{"similarities": alike, **options})


def gold_text(task: Any, doc: dict[str, Any]) -> str:
    """What the gold answer says, the letters of a lettered task looked up in the document."""
    target = task.doc_to_target(doc)
    if task.OUTPUT_TYPE != "multiple_choice":
        return str(target)
    named = task.doc_to_choice(doc)[target]
    return str(doc["choices"][target] if len(named) == 1 else named)


def verdicts(task: Any, doc: dict[str, Any]) -> list[Any]:
    """The judgement of every possible answer, by what the answer says."""
    if task.OUTPUT_TYPE == "generate_until":
        return [task.process_results(doc, [choice]) for choice in CHOICES]
    if task.OUTPUT_TYPE == "loglikelihood":
        return [task.process_results(doc, [(-1.0, greedy)]) for greedy in (True, False)]
    listed = doc["options"]["text"] if task.config.doc_to_choice == "{{options.text}}" else doc["choices"]
    return [task.process_results(doc, [(-1.0 if said == choice else -9.0, False) for said in listed]) for choice in CHOICES]


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=2, deadline=None)
@given(texts=st.lists(st.lists(st.sampled_from(WORDS), min_size=3, max_size=25), min_size=5, max_size=5), seed=st.integers(0, 3))
def test_gold_and_verdict_do_not_change(kind: str, name: str, texts: list[list[str]], seed: int) -> None:
    questions = [QUESTION, *(" ".join(words).capitalize() + "?" for words in texts)]
    docs = [document(question, (number + seed) % 4, number) for number, question in enumerate(questions)]
    task = toy_task(docs, **KINDS[kind])
    twin, items = twin_of(task, f"{name}#{seed}")
    assert len(items.indices) == len(twin.eval_docs) == len(docs) - len(items.unasked)
    clean = {sample_id(doc): doc for doc in task.eval_docs}
    for doc in twin.eval_docs:
        before = clean[sample_id(doc)]
        assert gold_text(twin, doc) == gold_text(task, before)
        assert verdicts(twin, doc) == verdicts(task, before)
        shown, prompt = task.fewshot_context(before, 0), twin.fewshot_context(doc, 0)
        assert prompt != shown
        assert prompt.count("17") == shown.count("17")
        if "A. " in shown:
            assert sorted(choice for choice in CHOICES if choice in prompt) == sorted(CHOICES)


def test_where_a_perturbation_does_not_apply_every_item_says_why() -> None:
    reasons = {}
    for kind in KINDS:
        for name in ("option_order", "fewshot_order"):
            _, items = twin_of(toy_task([document(QUESTION, 1)], **KINDS[kind]), name)
            reasons[kind, name] = [item.reason for item in items.unasked]
    assert reasons["continued", "option_order"] == ["the prompt does not show the choices"]
    assert reasons["generation", "option_order"] == ["it has no list of choices with one gold index"]
    assert (
        reasons["letters", "option_order"]
        == reasons["shown and named", "option_order"]
        == reasons["label dictionary", "option_order"]
        == []
    )
    assert {tuple(found) for (_, name), found in reasons.items() if name == "fewshot_order"} == {
        ("the prompt has fewer than two examples",)
    }
    _, items = twin_of(toy_task([document("Which one is it?", 1)], **KINDS["continued"]), "spelling")
    assert [(item.id, item.cluster, item.prompt, item.reason) for item in items.unasked] == [("i0", "p", "Which one is it?", UNCHANGED)]


def test_options_change_places_and_the_gold_index_moves_along() -> None:
    docs = [document(QUESTION, number % 4, number) for number in range(12)]
    task = toy_task(docs, **KINDS["letters"])
    twin, _ = twin_of(task, "option_order")
    targets = [
        (twin.doc_to_target(after), task.doc_to_target(before)) for after, before in zip(twin.eval_docs, task.eval_docs, strict=True)
    ]
    assert len({after for after, _ in targets}) > 1
    assert any(after != before for after, before in targets)
    assert all(after["choices"] != before["choices"] for after, before in zip(twin.eval_docs, docs, strict=True))
    requests = twin.construct_requests(doc=twin.eval_docs[0], ctx="x", metadata=("t", 0, 1))
    assert [request.args[1] for request in requests] == [" A", " B", " C", " D"]


@pytest.mark.parametrize("choice", ["all of the above", "both A and B", "neither of them", "I and II only", "A, B and D", "the first two"])
def test_options_that_refer_to_one_another_keep_their_places(choice: str) -> None:
    doc = document(QUESTION, 0) | {"choices": ["one thing", "two things", "three things", choice]}
    _, items = twin_of(toy_task([doc], **KINDS["letters"]), "option_order")
    assert [item.reason for item in items.unasked] == ["a choice refers to the others"]


def test_texts_too_unlike_are_rejected_and_counted() -> None:
    asked: list[tuple[str, str]] = []

    def similarities(pairs: Sequence[tuple[str, str]]) -> list[float]:
        asked.extend(pairs)
        return [0.9 if "number 1" in clean else 0.5 for clean, _ in pairs]

    docs = [document(f"They start with a large sofa, number {number}", 1, number) for number in range(4)]
    task = toy_task(docs, **KINDS["continued"])
    twin, items = twin_of(task, "synonyms", similarities=similarities)
    assert [doc["id"] for doc in twin.eval_docs] == ["i1"]
    assert {item.reason for item in items.unasked} == {"rejected: embedding similarity 0.50 to the clean text is below 0.8"}
    assert len(asked) == 4
    spec = PerturbationSpec(name="synonyms", min_similarity=0.0)
    assert len(perturbed_twin(task, spec, choose_items(task, None), similarities=similarities)[0].eval_docs) == 4
    assert len(asked) == 4, "a threshold of 0 needs no embedder"


@pytest.mark.parametrize(("name", "choice"), [("synonyms", "big"), ("distractor", "rain"), ("spelling", "color")])
def test_a_change_that_brings_in_a_choice_is_rejected(name: str, choice: str) -> None:
    docs = [document("What is a large colour?", 0, number) | {"choices": [choice, "b", "c", "d"]} for number in range(40)]
    twin, items = twin_of(toy_task(docs, **KINDS["continued"]), name)
    assert {item.reason for item in items.unasked} == {f"rejected: the change brings in a possible answer, {choice!r}"}
    assert not any(choice in twin.fewshot_context(doc, 0).lower() for doc in twin.eval_docs)
    assert len(items.unasked) == 40 or name == "distractor"


def test_the_answer_is_protected_where_the_prompt_holds_it() -> None:
    doc = document("Somebody often walks across bridges. Where does somebody walk?", 0) | {"choices": ["across bridges", "b", "c", "d"]}
    task = toy_task([doc], **KINDS["generation"])
    for seed in range(20):
        twin, _ = twin_of(task, f"typos@1#{seed}")
        assert "across bridges" in twin.fewshot_context(twin.eval_docs[0], 0)


def shots(n: int) -> Any:
    docs = [document(f"They know item {number}, do they?", number % 4, number) for number in range(8)]
    task = toy_task(docs, **{**KINDS["letters"], "num_fewshot": n, "fewshot_split": "test"})
    task.sampler = RecordedShots(task.sampler)
    return task


def context(task: Any, doc: dict[str, Any], n: int) -> str:
    task.sampler.item = sample_id(doc)
    return str(task.fewshot_context(doc, n))


def test_examples_are_the_same_clean_and_perturbed_and_stay_clean() -> None:
    task = shots(3)
    before = {sample_id(doc): context(task, doc, 3) for doc in task.eval_docs}
    twin, _ = twin_of(task, "case@1")
    for doc in twin.eval_docs:
        clean, changed = before[sample_id(doc)].split("\n\n"), context(twin, doc, 3).split("\n\n")
        assert clean[:3] == changed[:3]
        assert clean[3] != changed[3]


def test_the_order_of_examples_changes_and_nothing_else() -> None:
    task = shots(3)
    before = {sample_id(doc): context(task, doc, 3) for doc in task.eval_docs}
    twin, items = twin_of(task, "fewshot_order")
    assert items.unasked == []
    for doc in twin.eval_docs:
        clean, changed = before[sample_id(doc)].split("\n\n"), context(twin, doc, 3).split("\n\n")
        assert clean[:3] != changed[:3]
        assert sorted(clean[:3]) == sorted(changed[:3])
        assert clean[3] == changed[3]
    assert context(task, task.eval_docs[0], 3) == before[sample_id(task.eval_docs[0])]


def test_a_reworded_template_is_one_for_examples_and_question() -> None:
    task = shots(2)
    twin, _ = twin_of(task, "paraphrase")
    for doc in twin.eval_docs:
        parts = context(twin, doc, 2).split("\n\n")
        assert len({part.split("\n")[-1].partition(":")[0] for part in parts}) == 1
        assert all("\nA) " in part for part in parts)


def test_the_loaded_task_is_left_as_it_was() -> None:
    task = toy_task([document(QUESTION, 1)], **KINDS["letters"])
    before = task.fewshot_context(task.eval_docs[0], 0)
    for name in PERTURBATIONS:
        twin, _ = twin_of(task, name)
        for doc in twin.eval_docs:
            twin.fewshot_context(doc, 0)
    assert task.fewshot_context(task.eval_docs[0], 0) == before
    assert task.eval_docs[0] == document(QUESTION, 1)


def test_names_of_perturbations_and_robust_tasks() -> None:
    assert PerturbationSpec.model_validate("typos@0.4#2") == PerturbationSpec(name="typos", strength=0.4, seed=2)
    assert [PerturbationSpec.model_validate(label).label for label in ("typos", "typos@0.4", "typos#1")] == [
        "typos",
        "typos@0.4",
        "typos#1",
    ]
    assert robust_task("openbookqa") is None
    assert robust_task("robust:case:group:arc") == (PerturbationSpec(name="case"), "group:arc")
    for wrong in ("robust:", "robust:typos", "robust:typos:", "robust:Ty pos:x", "robust:typos@x:task"):
        with pytest.raises(SpecError, match="expected robust:<perturbation>"):
            robust_task(wrong)
    with pytest.raises(SpecError, match="strength: input should be less than or equal to 1"):
        robust_task("robust:typos@7:openbookqa")
    for wrong_spec in ({"name": "typos", "strength": 1.5}, {"name": "typos", "seed": -1}, {"name": "typos", "sed": 1}, "typos@7"):
        with pytest.raises(ValueError, match="1 validation error"):
            PerturbationSpec.model_validate(wrong_spec)


def test_an_item_has_one_order_of_options_for_all_models() -> None:
    task = toy_task([document(QUESTION, 2, number) for number in range(6)], **KINDS["letters"])
    first, second = (twin_of(task, "option_order")[0].eval_docs for _ in range(2))
    assert first == second
    other = twin_of(task, "option_order#1")[0].eval_docs
    assert any(not np.array_equal(a["choices"], b["choices"]) for a, b in zip(first, other, strict=True))
