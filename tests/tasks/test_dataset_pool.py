"""The pool over a user's own tables: what it hands out, counts, verifies, refuses, and how it enters a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from harness.core.budget import Ledger
from harness.core.records import Constraint
from harness.core.spec import load_study
from harness.errors import SpecError
from harness.instructions.ngrams import ngram_hashes
from harness.instructions.render import compose
from harness.study.plan import Setting, plan_study
from tasks.dataset_pool import NOT_VERIFIABLE, DatasetPool, DatasetPoolConfig

SECRET = "the secret evaluation item that nobody may ever learn from at all"


def table(folder: Path, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"source": f"file:{folder / name}"}


def sums(n: int) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {a} plus 5?", "completion": f"{a + 5}", "answer": a + 5} for a in range(n)]


def pairs(n: int) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {a} plus 5?", "chosen": f"{a + 5}", "rejected": "I do not know"} for a in range(n)]


def make(folder: Path, *, seed: int = 0, ngrams: frozenset[int] = frozenset(), demos: Any = None, prefs: Any = None, **rest: Any) -> Any:
    config = {"demonstrations": table(folder, "demos.jsonl", demos or sums(20)), "seed_demonstrations": 4, **rest}
    if prefs is not None:
        config["preferences"] = table(folder, "prefs.jsonl", prefs)
    ledger = Ledger()
    pool = DatasetPool(DatasetPoolConfig.model_validate(config), ledger=ledger, rng=np.random.default_rng(seed), ngrams=ngrams)
    return pool, ledger


def test_every_label_is_counted_once_and_seeds_are_no_fresh_demonstrations(tmp_path: Path) -> None:
    pool, ledger = make(tmp_path, prefs=pairs(6))
    rng = np.random.default_rng(0)
    seeds = pool.seeds()
    assert pool.seeds() == seeds
    assert ledger.counters["demonstrations"] == len(seeds) == 4
    bought = [one for _ in range(4) for one in pool.demonstrations(4, rng=rng)]
    texts = {one.instruction.text for one in bought}
    assert len(texts) == 16
    assert not texts & {one.instruction.text for one in seeds}
    assert ledger.counters["demonstrations"] == 20
    again = pool.demonstrations(16, rng=rng)
    assert {one.instruction.text for one in again} == texts
    assert ledger.counters["demonstrations"] == 20
    assert len(pool.prompts(20, rng=rng)) == 20
    given = pool.given_preferences(4, rng=rng) + pool.given_preferences(4, rng=rng)
    assert len({one.instruction.text for one in given}) == len(given) == 6
    assert pool.given_preferences(4, rng=rng) == []
    assert ledger.counters["comparisons"] == 6
    assert ledger.counters["queries"] == 0


def test_a_table_no_larger_than_the_seeds_comes_round_without_being_paid_again(tmp_path: Path) -> None:
    pool, ledger = make(tmp_path, demos=sums(3))
    assert len(pool.seeds()) == 3
    assert len(pool.demonstrations(7, rng=np.random.default_rng(0))) == 7
    assert ledger.counters["demonstrations"] == 3
    assert pool.held_out(2, rng=np.random.default_rng(0)) == []


def test_held_out_demonstrations_were_not_handed_out_and_are_not_counted(tmp_path: Path) -> None:
    pool, ledger = make(tmp_path)
    rng = np.random.default_rng(0)
    shown = {one.instruction.text for one in [*pool.seeds(), *pool.demonstrations(6, rng=rng)]}
    before = dict(ledger.counters)
    kept = pool.held_out(50, rng=rng)
    assert len({one.instruction.text for one in kept}) == 10
    assert not shown & {one.instruction.text for one in kept}
    assert ledger.counters == before


def test_equal_seeds_give_equal_pools(tmp_path: Path) -> None:
    one, same, other = (make(tmp_path, seed=seed)[0] for seed in (1, 1, 2))
    assert one.seeds() == same.seeds() != other.seeds()
    draws = [pool.prompts(9, rng=np.random.default_rng(7)) for pool in (one, same)]
    assert draws[0] == draws[1]


def test_answers_are_matched_and_never_shown(tmp_path: Path) -> None:
    pool, ledger = make(tmp_path, demos=sums(20))
    prompts = {prompt.text: prompt for prompt in pool.prompts(20, rng=np.random.default_rng(0))}
    three = prompts["What is 3 plus 5?"]
    assert three.verifiable
    for response, passed in (("8", True), (" 8.0 ", True), ("The answer is 8.", True), ("9", False), ("8 or 9", False)):
        assert pool.verify(three, response).passed is passed, response
    assert ledger.counters["verifications"] == 5
    assert not any("8" in json.dumps(prompt.payload) for prompt in prompts.values())


def test_what_has_no_answer_is_not_verifiable_and_an_operation_is_checked_by_its_constraints(tmp_path: Path) -> None:
    pool, _ = make(tmp_path, demos=[{"prompt": "Say hello.", "completion": "Hello"}, *sums(5)])
    hello = next(prompt for prompt in pool.prompts(6, rng=np.random.default_rng(0)) if prompt.text == "Say hello.")
    assert not hello.verifiable
    found = pool.verify(hello, "Hello")
    assert (found.passed, found.detail) == (False, NOT_VERIFIABLE)
    stack = [Constraint("no_commas")]
    child = compose(pool="dataset", family="dataset", body="Say hello.", constraints=stack, parent=hello, operation="deepen")
    assert pool.verify(child, "Hello there").passed
    assert not pool.verify(child, "Hello, there").passed


def test_rows_near_an_evaluation_item_are_never_handed_out(tmp_path: Path) -> None:
    """In whichever column they stand."""
    demos = [*sums(6), {"prompt": f"Repeat: {SECRET}", "completion": "x"}, {"prompt": "Repeat.", "completion": f"Well, {SECRET.upper()}!"}]
    prefs = [*pairs(3), {"prompt": "Say it.", "chosen": "No.", "rejected": SECRET}, {"prompt": "Say.", "chosen": SECRET, "rejected": "No."}]
    prompts = [{"prompt": "What is 1 plus 1?"}, {"prompt": SECRET}]
    pool, ledger = make(
        tmp_path, ngrams=frozenset(ngram_hashes(SECRET)), demos=demos, prefs=prefs, prompts=table(tmp_path, "prompts.jsonl", prompts)
    )
    rng = np.random.default_rng(0)
    labelled = [*pool.seeds(), *pool.demonstrations(40, rng=rng)]
    compared = pool.given_preferences(40, rng=rng)
    handed = [text for one in labelled for text in (one.instruction.text, one.response)]
    handed += [text for one in compared for text in (one.instruction.text, one.chosen, one.rejected)]
    handed += [prompt.text for prompt in pool.prompts(40, rng=rng)]
    assert not any(pool.contaminated(text) for text in handed)
    tables = pool.reports()["pool.json"]["tables"]
    assert {kind: (found["rows"], found["contaminated"]) for kind, found in tables.items()} == {
        "demonstrations": (6, 2), "preferences": (3, 2), "prompts": (1, 1),
    }  # fmt: skip
    assert any("2 of 8 demonstrations share 8 words" in note for note in ledger.notes)
    with pytest.raises(SpecError, match="all 1 usable rows share 8 words"):
        make(tmp_path, ngrams=frozenset(ngram_hashes(SECRET)), demos=[{"prompt": SECRET, "completion": "x"}])


def test_without_preferences_comparing_is_refused_in_one_message(tmp_path: Path) -> None:
    pool, _ = make(tmp_path)
    for refused in (lambda: pool.given_preferences(2, rng=None), lambda: pool.preferences([], rng=None)):
        with pytest.raises(SpecError, match=r"pool.config.preferences: this pool has no annotators"):
            refused()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "demonstrations"),
        ({"demonstrations": {"source": "file:a.txt"}}, "expected file:PATH"),
        ({"demonstrations": {"source": "file:a.csv", "colums": {}}}, "colums"),
        ({"demonstrations": {"source": "file:a.csv", "columns": {"propmt": "x"}}}, "Did you mean 'prompt'"),
        ({"demonstrations": {"source": "file:a.csv"}, "seed_demonstrations": 0}, "seed_demonstrations"),
    ],
)
def test_wrong_settings_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DatasetPoolConfig.model_validate(config)


STUDY = """
name: own
student: {model: smollm2-135m-instruct}
pool:
  name: dataset
  config:
    demonstrations:
      source: file:data/demos.jsonl
budget: {train_flops: 1e9}
seeds: [0]
methods: [{name: sft}]
suites: [pool_validation]
"""


def stage_ids(study: Path) -> list[str]:
    return list(plan_study(load_study(study), weights="w", setting=Setting("cpu", "float32", 1)).stages)


def test_paths_are_relative_to_the_study_and_contents_enter_the_stage_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies" / "data").mkdir(parents=True)
    study = tmp_path / "studies" / "own.yaml"
    study.write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=r"own.yaml:8: pool.config.demonstrations.source: no such file \(paths are relative to the study"):
        load_study(study)
    table(tmp_path / "studies" / "data", "demos.jsonl", sums(5))
    assert load_study(study).pool.config["demonstrations"]["source"] == "file:studies/data/demos.jsonl"
    before = stage_ids(study)
    table(tmp_path / "studies" / "data", "demos.jsonl", [{**row, "comment": "not ours"} for row in sums(5)])
    assert stage_ids(study) == before
    table(tmp_path / "studies" / "data", "demos.jsonl", sums(6))
    after = stage_ids(study)
    assert not set(before) & set(after)
    table(tmp_path / "studies" / "data", "demos.jsonl", [{"prompt": "a", "complection": "b"}])
    with pytest.raises(SpecError, match="Did you mean 'complection'"):
        stage_ids(study)
