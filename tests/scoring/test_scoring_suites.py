"""Scoring through lm-eval: rows, subsets, perturbations, failures, names; on YAML tasks of our own and a tiny model."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_engine import FakeStudent, letter_tokenizer, tiny_llama

from harness.core import plugins
from harness.core.budget import Ledger
from harness.core.records import SAMPLE_COLUMNS
from harness.core.suite_spec import SuiteSpec
from harness.errors import SpecError
from harness.instructions.ngrams import ngram_hashes
from harness.scoring.suites import Suite, Task, evaluation_ngrams, score, select

READER = """
from datasets import Dataset, DatasetDict

def choices(**_):
    rows = [
        {"id": f"c{i}", "cluster": f"p{i // 2}", "question": f"whenever somebody walks along seven quiet rivers number {i} they carry",
         "choices": ["an apple", "ten tents"], "gold": i % 2}
        for i in range(20)
    ]
    skipped = [{"id": "c-bad", "reason": "no gold answer", "question": "q"}]
    return DatasetDict({"test": Dataset.from_list(rows), "skipped": Dataset.from_list(skipped)})

def plain(**_):
    return DatasetDict({"test": Dataset.from_list([{"question": f"please repeat number {i}"} for i in range(4)])})

def judge(doc, results):
    if doc["question"].endswith("2"):
        raise ValueError("cannot be judged")
    return {"length": float(len(results[0]))}
"""
CHOICE = """
task: toy_choice
custom_dataset: !function toy.choices
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}:"
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0, perturb: [question]}
"""
GENERATION = """
task: toy_generation
custom_dataset: !function toy.plain
process_results: !function toy.judge
test_split: test
output_type: generate_until
doc_to_text: question
doc_to_target: "nothing"
generation_kwargs: {until: [], max_gen_toks: 5, do_sample: false}
metric_list:
  - {metric: length, aggregation: mean, higher_is_better: true}
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """A suite `toy` of one choice task and one generation task."""
    for name, text in {"toy.py": READER, "choice.yaml": CHOICE, "generation.yaml": GENERATION}.items():
        (tmp_path / name).write_text(text)
    tasks = (Task("toy_choice", "acc", "choice", chance=0.5), Task("toy_generation", "length", "generation"))
    suite = Suite("toy", "for tests", tasks, include_path=tmp_path)
    monkeypatch.setattr(plugins, "load", lambda kind, name, **_: suite)
    monkeypatch.setattr(plugins, "names", lambda kind: ["toy"])
    return suite


def toy_student() -> FakeStudent:
    tokenizer = letter_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return FakeStudent(tiny_llama(max_length=256), tokenizer)


def scored(student: FakeStudent, perturbations: list[str], **spec: Any) -> pd.DataFrame:
    # Without a threshold of similarity no embedder is loaded.
    unguarded = [{"name": name, "min_similarity": 0.0} for name in perturbations]
    return score(student, [SuiteSpec(name="toy", **spec)], unguarded, ledger=Ledger(account="eval"), seed=0)


def test_one_row_per_sample_and_metric(toy: Suite) -> None:
    frame = scored(toy_student(), ["typos"])
    assert list(frame.columns) == list(SAMPLE_COLUMNS)
    assert not frame.duplicated(["task", "perturbation", "sample_id", "metric"]).any()
    choice = frame[frame.task == "toy_choice"]
    assert choice[choice.status == "scored"].groupby(["perturbation", "metric"]).size().to_dict() == {
        (perturbation, metric): 20 for perturbation in ("clean", "typos") for metric in ("acc", "acc_norm", "confidence", "brier")
    }  # fmt: skip
    assert set(choice[choice.status == "scored"].cluster) == {f"p{n}" for n in range(10)}
    row = choice[(choice.sample_id == "c3") & (choice.perturbation == "clean") & (choice.metric == "acc")].iloc[0]
    assert (row.target, row.prompt) == ("ten tents", "whenever somebody walks along seven quiet rivers number 3 they carry:")
    assert row.value == float(row.output == row.target)
    assert pd.isna(row.generated_tokens)


def test_unusable_items_and_failed_judgements_have_rows_without_a_value(toy: Suite) -> None:
    frame = scored(toy_student(), [])
    (skipped,) = frame[frame.status == "skipped"].itertuples()
    assert (skipped.sample_id, skipped.output) == ("c-bad", "no gold answer")
    (failed,) = frame[frame.status == "error"].itertuples()
    assert "ValueError: cannot be judged" in failed.output
    assert frame[frame.status != "scored"].value.isna().all()
    assert frame[frame.status == "scored"].value.notna().all()


def test_generation_sees_the_chat_template_and_choices_do_not(toy: Suite) -> None:
    student = toy_student()
    frame = scored(student, ["typos"])
    prompts = frame[frame.task == "toy_generation"].prompt
    assert prompts.str.match(r"<user>.*<assistant>$").all()
    assert not frame[frame.task == "toy_choice"].prompt.str.contains("<user>").any()
    assert sorted(student.calls[0]["prompts"]) == sorted(set(prompts)), "one call for clean and perturbed, equal prompts once"
    assert (frame[frame.task == "toy_generation"].generated_tokens > 0).all()


def test_clean_and_perturbed_are_paired_and_choices_stay(toy: Suite) -> None:
    frame = scored(toy_student(), ["typos", "distractor"], tasks=["toy_choice"])
    frame = frame[(frame.metric == "acc") & (frame.status == "scored")].set_index(["perturbation", "sample_id"])
    for name in ("typos", "distractor"):
        assert set(frame.loc[name].index) == set(frame.loc["clean"].index)
        assert (frame.loc[name].prompt != frame.loc["clean"].prompt).all()
        assert (frame.loc[name].target == frame.loc["clean"].target).all()
        assert frame.loc[name].prompt.str.contains(r"\d+").all()


def test_the_subset_is_fixed_nested_and_counts_unusable_items(toy: Suite) -> None:
    ids = {limit: set(scored(toy_student(), [], tasks=["toy_choice"], limit=limit).sample_id) for limit in (5, 10, 21, 500)}
    assert ids[5] < ids[10] < ids[21] == ids[500]
    assert [len(ids[limit]) for limit in (5, 10, 21)] == [5, 10, 21]
    assert ids[5] == set(scored(toy_student(), [], tasks=["toy_choice"], limit={"toy_choice": 5}).sample_id)
    assert ids[5] != {f"c{n}" for n in range(5)}


def test_scoring_twice_gives_equal_frames(toy: Suite) -> None:
    pd.testing.assert_frame_equal(scored(toy_student(), ["typos"]), scored(toy_student(), ["typos"]))


def test_scoring_is_booked_as_evaluation(toy: Suite) -> None:
    ledger = Ledger(train_flops=1.0)
    student = toy_student()
    student.model.model.register_forward_pre_hook(lambda *_: ledger.charge("toy", 10.0, 1) and None)
    score(student, [SuiteSpec(name="toy")], [], ledger=ledger, seed=0)
    assert {(row["account"], row["phase"]) for row in ledger.rows()} == {("eval", "score")}
    assert ledger.spent("eval") > 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"tasks": ["toy_chioce"]}, "Did you mean 'toy_choice'"),
        ({"limit": {"toy_generatoin": 3}}, "Did you mean 'toy_generation'"),
    ],
)
def test_misspelt_tasks_are_refused_with_the_nearest_name(toy: Suite, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        select([SuiteSpec(name="toy", **spec)])


def test_misspelt_perturbations_and_doubled_tasks_are_refused(toy: Suite) -> None:
    with pytest.raises(SpecError, match="Did you mean 'typos'"):
        scored(toy_student(), ["typoes"])
    with pytest.raises(SpecError, match="twice"):
        select([SuiteSpec(name="toy"), SuiteSpec(name="toy", tasks=["toy_choice"])])


def test_ngrams_cover_scored_items_but_not_the_pools_own(toy: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evaluation_ngrams([SuiteSpec(name="toy", tasks=["toy_choice"])])
    assert ngram_hashes("whenever somebody walks along seven quiet rivers number 4 they carry") <= found
    pool = Suite("toy", "", toy.tasks, include_path=toy.include_path, evaluation=False)
    monkeypatch.setattr(plugins, "load", lambda kind, name, **_: pool)
    assert evaluation_ngrams([SuiteSpec(name="toy")]) == frozenset()


def test_suites_import_neither_torch_nor_lm_eval() -> None:
    code = (
        "import sys, json, harness.scoring.suites, harness.scoring.cost\n"
        "print(json.dumps([name for name in ('torch', 'lm_eval') if name in sys.modules]))"
    )
    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) == []


def test_lm_eval_is_left_as_it_was(toy: Suite) -> None:
    module = importlib.import_module("lm_eval.api.task")
    before = module.tqdm
    scored(toy_student(), [])
    assert module.tqdm is before


def test_progress_ends_at_the_number_of_prompts(toy: Suite) -> None:
    seen: list[tuple[int, int]] = []
    score(toy_student(), [SuiteSpec(name="toy")], ["case"], ledger=Ledger(account="eval"), seed=0, progress=lambda *at: seen.append(at))
    assert seen == sorted(seen)
    assert seen[-1] == (2 * (20 + 4), 2 * (20 + 4))


def test_a_robust_task_is_scored_clean_and_perturbed(toy: Suite) -> None:
    by_name = scored(toy_student(), [], tasks=["robust:case@1#3:toy_choice"], limit={"robust:case@1#3:toy_choice": 6})
    assert set(by_name.task) == {"toy_choice"}
    assert by_name[by_name.metric == "acc"].groupby("perturbation").size().to_dict() == {"case@1#3": 6, "clean": 6}
    listed = score(
        toy_student(), [SuiteSpec(name="toy", tasks=("toy_choice",), limit=6)], ["case@1#3"], ledger=Ledger(account="eval"), seed=0
    )
    pd.testing.assert_frame_equal(by_name, listed)
    both = select([SuiteSpec(name="toy", tasks=("toy_choice", "robust:typos:toy_choice", "robust:case:toy_choice"))])
    assert [(one.task.name, [spec.label for spec in one.perturbations]) for one in both] == [("toy_choice", ["typos", "case"])]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("robust:typoes:toy_choice", "Did you mean 'typos'"),
        ("robust:distractor@0.5:toy_choice", "no strength to set"),
        ("robust:typos:toy_chioce", "Did you mean 'toy_choice'"),
        ("robust:typos", "expected robust:<perturbation>"),
    ],
)
def test_misspelt_robust_tasks_are_refused(toy: Suite, name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        select([SuiteSpec(name="toy", tasks=(name,))])


def test_few_shot_examples_are_the_same_in_every_run(toy: Suite) -> None:
    assert toy.include_path is not None
    path = toy.include_path / "choice.yaml"
    path.write_text(CHOICE + "num_fewshot: 2\nfewshot_split: test\n")
    first, second = (scored(toy_student(), ["case"], tasks=["toy_choice"], limit=4) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    prompts = first[(first.metric == "acc") & (first.status == "scored")].pivot(index="sample_id", columns="perturbation", values="prompt")
    assert all(row.clean.split("\n\n")[:2] == row.case.split("\n\n")[:2] for row in prompts.itertuples())
    assert prompts.clean.nunique() == 4
