"""Open-ended items that a rule can judge, as lm-eval documents: reasoning-gym questions and instructions with stacked constraints.

A document has id, family, cluster, body and rest (shown one after the other; only the body is ever perturbed), content (for
decontamination, without the wording that all items share), target, protected, and the instruction itself as JSON for the verifier.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from datasets import Dataset, DatasetDict

from harness.core.records import Constraint, Instruction
from harness.instructions.families import TRAIN_FAMILIES
from harness.instructions.reasoning import Split
from harness.instructions.verify import verify
from tasks.pool import constraint_items, reasoning_items

ITEMS_SEED = 0
"""Items are the same for every study; a study's limit takes a fixed subset."""
MIN_FRAMED = 15
"""Fewer texts than this cannot tell a family's wording from its content: then nothing is perturbed but the sentence before it."""
_WORD = re.compile(r"[A-Za-z]+")


def reasoning(*, families: Sequence[str], split: Split, n_per_family: int, **_: Any) -> DatasetDict:
    """`n_per_family` questions of each reasoning-gym family."""
    documents: list[dict[str, Any]] = []
    for family in families:
        items = reasoning_items(split, [family], n_per_family, ITEMS_SEED)
        framing = _framing([item.text for item in items]) - {word for item in items for word in _words(_target(item))}
        documents += [_document(item, protected=sorted(set(_words(item.text)) - framing), content=item.text) for item in items]
    return _dataset(documents)


def validation_reasoning(*, n_per_family: int, **_: Any) -> DatasetDict:
    """Questions of every training family, from the split that training does not see."""
    return reasoning(families=TRAIN_FAMILIES, split="validation", n_per_family=n_per_family)


def constraints(*, split: Split, n: int, k_range: tuple[int, int], **_: Any) -> DatasetDict:
    """`n` instructions with as many constraints as `k_range` (both ends included) says, in equal shares."""
    low, high = k_range
    items = constraint_items(split, n, (low, high), ITEMS_SEED)
    return _dataset([_document(item, protected=_parameter_words(item), content=item.body) for item in items])


def _document(item: Instruction, *, protected: list[str], content: str) -> dict[str, Any]:
    assert item.text.startswith(item.body), item.id
    return {
        "id": item.id,
        "family": item.family,
        "cluster": item.seed_id or item.id,
        "body": item.body,
        "rest": item.text[len(item.body) :],
        "content": content,
        "target": _target(item),
        "protected": protected,
        "instruction": json.dumps(asdict(item)),
    }


def _dataset(documents: list[dict[str, Any]]) -> DatasetDict:
    return DatasetDict({"test": Dataset.from_list(documents)})


def _target(item: Instruction) -> str:
    if item.constraints:
        return "; ".join(f"{constraint.kind} {json.dumps(constraint.params)}" for constraint in item.constraints)
    return str(item.payload["gold"])


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _framing(texts: Sequence[str]) -> set[str]:
    """A family's own wording: words of at least one text in seven. Generators have up to five templates; names and values are rarer."""
    counts = Counter(word for text in texts for word in set(_words(text)))
    return {word for word, count in counts.items() if count * 7 >= len(texts)} if len(texts) >= MIN_FRAMED else set()


def _parameter_words(item: Instruction) -> list[str]:
    values = [value for constraint in item.constraints for value in constraint.params.values()]
    return sorted({word for value in values if isinstance(value, str | list) for word in _words(str(value))})


def instruction_of(doc: dict[str, Any]) -> Instruction:
    """The instruction that a document carries."""
    fields = json.loads(doc["instruction"])
    return Instruction(**{**fields, "constraints": tuple(Constraint(**constraint) for constraint in fields["constraints"])})


def judge_reasoning(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """`correct`: the family's own checker accepts the reply; `correct_loose`: or the reply without its first or last line or asterisks."""
    instruction = instruction_of(doc)
    return {
        "correct": float(verify(instruction, results[0]).passed),
        "correct_loose": float(verify(instruction, results[0], loose=True).passed),
    }


def judge_constraints(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """`share_*`: the share of constraints met (instruction-level accuracy); `all_*`: whether all are (prompt-level accuracy)."""
    instruction = instruction_of(doc)
    strict, loose = verify(instruction, results[0]), verify(instruction, results[0], loose=True)
    return {
        "share_strict": strict.share,
        "share_loose": loose.share,
        "all_strict": float(strict.passed),
        "all_loose": float(loose.passed),
    }
