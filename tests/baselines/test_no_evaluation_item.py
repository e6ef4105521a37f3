"""No training path reaches an evaluation item: methods cannot import one, pools hand out none, and none reaches a student in training."""

from __future__ import annotations

import ast
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core import plugins
from harness.core.budget import Ledger
from harness.core.records import Verification
from harness.core.spec import Adaptation
from harness.instructions.demonstrate import demonstration
from harness.instructions.ngrams import ngram_hashes
from harness.instructions.reasoning import EVAL_FAMILIES
from harness.models.student import Student
from harness.seeds import generator
from tasks.dataset_pool import DatasetPool, DatasetPoolConfig
from tasks.pool import MixedPool, MixedPoolConfig, constraint_items, reasoning_items

FORBIDDEN = ("tasks", "harness.scoring", "harness.verdicts", "harness.study", "harness.report", "harness.compare", "lm_eval")
"""Packages through which evaluation items, or scores of them, can be had."""
ITEMS = [*constraint_items("evaluation", 60), *reasoning_items("evaluation", EVAL_FAMILIES, 4)]
NGRAMS = frozenset(found for item in ITEMS for found in ngram_hashes(item.text))
METHODS: dict[str, dict[str, Any]] = {
    "sft": {},
    "replay": {},
    "rejection_sampling": {"prompts_per_batch": 4, "answers": {"samples": 2, "instruction_tokens": 8, "reasoning_tokens": 8}},
}


def imported(path: Path) -> set[str]:
    """Modules that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("package", ["baselines", "selfteach"])
def test_methods_import_nothing_that_knows_evaluation_items(package: str) -> None:
    spec = find_spec(package)
    assert spec is not None
    files = [path for root in spec.submodule_search_locations or () for path in Path(root).rglob("*.py")]
    assert len(files) > 3
    for path in files:
        for name in imported(path):
            assert not any(name == root or name.startswith(f"{root}.") for root in FORBIDDEN), (path, name)


def mixed(ledger: Ledger) -> MixedPool:
    config = MixedPoolConfig.model_validate({"constraint_share": 0.7, "seed_demonstrations": 12})
    return MixedPool(config, ledger=ledger, rng=generator("proof"), ngrams=NGRAMS)


def poisoned(ledger: Ledger, folder: Path) -> DatasetPool:
    """Two in three rows are evaluation items, in every column that may hold one."""
    rows: list[dict[str, Any]] = [{"prompt": f"What is {n} plus 2?", "completion": str(n + 2), "answer": n + 2} for n in range(30)]
    rows += [{"prompt": item.text, "completion": demonstration(item), "answer": demonstration(item)} for item in ITEMS]
    rows += [{"prompt": "Repeat what I said.", "completion": item.text} for item in ITEMS]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"demonstrations": {"source": f"file:{folder / 'rows.jsonl'}"}, "seed_demonstrations": 12}
    return DatasetPool(DatasetPoolConfig.model_validate(config), ledger=ledger, rng=generator("proof"), ngrams=NGRAMS)


@pytest.mark.parametrize("kind", ["mixed", "dataset"])
def test_pools_hand_out_no_evaluation_item(tmp_path: Path, kind: str) -> None:
    pool: Any = mixed(Ledger()) if kind == "mixed" else poisoned(Ledger(), tmp_path)
    rng = np.random.default_rng(0)
    shown = [*pool.seeds(), *pool.demonstrations(200, rng=rng), *pool.held_out(50, rng=rng)]
    texts = [text for one in shown for text in (one.instruction.text, one.response)]
    texts += [prompt.text for prompt in pool.prompts(200, rng=rng)]
    assert len(texts) > 200
    assert not NGRAMS & {found for text in texts for found in ngram_hashes(text)}
    evaluated = {item.text for item in ITEMS}
    assert not evaluated & set(texts)  # items of fewer than eight words have no 8-gram


@pytest.mark.parametrize("kind", ["mixed", "dataset"])
@pytest.mark.parametrize("name", list(METHODS))
def test_no_student_reads_one_in_training(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    """Whatever a method trains on or generates from goes through the tokenizer."""
    ledger = Ledger(3e9)
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=0)
    student.attach(ledger)
    pool = mixed(ledger) if kind == "mixed" else poisoned(ledger, tmp_path)
    read: list[str] = []
    encode = student.encode
    monkeypatch.setattr(student, "encode", lambda text: read.append(text) or encode(text))
    # Random letters are seldom right, and what is wrong is not trained on.
    monkeypatch.setattr(pool, "verify", lambda instruction, response: Verification(True, 1.0))
    method = plugins.load("methods", name)()
    method.train(student, pool, ledger, rng=np.random.default_rng(0), config=method.Config(**METHODS[name]), out=tmp_path)
    assert len(read) > 20
    assert not NGRAMS & {found for text in set(read) for found in ngram_hashes(text)}
