"""The items of a loaded lm-eval task: their ids, the subset that is scored, and which of them cannot be asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core.records import Status
from harness.errors import SpecError
from harness.seeds import seed_from

Row = dict[str, Any]


@dataclass(frozen=True)
class Unasked:
    """An item that is not put to the model, and why; it has rows all the same, so that denominators show."""

    id: str
    cluster: str
    prompt: str
    reason: str
    status: Status = Status.SKIPPED


@dataclass
class Items:
    """Which of a task's documents are asked: their indices in `eval_docs`, and those that are not."""

    indices: list[int]
    unasked: list[Unasked] = field(default_factory=list)


def sample_id(doc: Row) -> str:
    """A document's id, from its content where the task gives none."""
    if "id" in doc:
        return str(doc["id"])
    return hashlib.sha256(_as_text(doc)).hexdigest()[:16]


def _as_text(doc: Row) -> bytes:
    return json.dumps(doc, sort_keys=True, default=str).encode()


def _distinct(task: Any, docs: Sequence[Row], ids: Sequence[str]) -> list[int]:
    """The documents' places, those that are there once more left out."""
    first: dict[str, int] = {}
    for index, name in enumerate(ids):
        at = first.setdefault(name, index)
        if at != index and _as_text(docs[at]) != _as_text(docs[index]):
            raise SpecError(f"two different items of task {task.config.task} have this id", key="id", value=name)
    return list(first.values())


def choose_items(task: Any, limit: int | None, families: Sequence[str] | None = None) -> Items:
    """The items to score and the unusable ones among them: the first `limit` in an order fixed by the ids, so that limits nest.

    A document that stands there again, word for word, is asked once.

    Args:
        families: only documents whose `family` is one of these.
    Raises:
        SpecError: no document is of these families, or two different ones have the same id.
    """
    docs = task.eval_docs
    skipped = [_from_reader(row) for row in task.dataset["skipped"]] if "skipped" in (task.dataset or ()) else []
    ids = [sample_id(doc) for doc in docs]
    asked = _distinct(task, docs, ids)
    if families is not None:
        # A row that the task's reader could not read is of no known family.
        skipped, asked = [], [index for index in asked if _family(task, docs[index]) in families]
        if not asked:
            raise SpecError(f"task {task.config.task} has no item of these families", key="suites.families", value=list(families))
    if limit is not None and limit < len(asked) + len(skipped):
        names = [*(ids[index] for index in asked), *(item.id for item in skipped)]
        order = sorted(range(len(names)), key=lambda at: seed_from("subset", names[at]))[:limit]
        skipped = [skipped[at - len(asked)] for at in order if at >= len(asked)]
        asked = sorted(asked[at] for at in order if at < len(asked))
    items = Items([], skipped)
    for index in asked:
        doc = docs[index]
        broken = unusable(task, doc)
        if broken is None:
            items.indices.append(index)
        else:
            identity = ids[index]
            items.unasked.append(Unasked(identity, str(doc.get("cluster", identity)), "", broken[1], broken[0]))
    return items


def _family(task: Any, doc: Row) -> str:
    if "family" not in doc:
        raise SpecError(f"the items of task {task.config.task} do not say which family they are of", key="suites.families")
    return str(doc["family"])


def _from_reader(row: Row) -> Unasked:
    return Unasked(row["id"], row["id"], str(row.get("question", "")), row["reason"])


def unusable(task: Any, doc: Row) -> tuple[Status, str] | None:
    """Why a document cannot be asked (its template fails, it has no gold answer or fewer than two choices); None if it can."""
    try:
        text, target = task.doc_to_text(doc), task.doc_to_target(doc)
        choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else None
    except Exception as error:  # a task's template or function: whatever it raises, the item is lost and the others are not
        return Status.ERROR, f"the task cannot render this item: {type(error).__name__}: {error}"
    if task.OUTPUT_TYPE == "multiple_choice":
        return _unusable_choices(text if task.multiple_input else target, choices)
    if task.OUTPUT_TYPE != "generate_until" and str(target) == "":
        return Status.SKIPPED, "no gold answer"
    if target is None:
        return Status.SKIPPED, "no gold answer"
    return None


def _unusable_choices(gold: Any, choices: Any) -> tuple[Status, str] | None:
    if not isinstance(choices, list) or len(choices) < 2:
        n = len(choices) if isinstance(choices, list) else 0
        return Status.SKIPPED, f"{n} choice{'' if n == 1 else 's'}: nothing to choose"
    if not all(isinstance(choice, str) and choice for choice in choices):
        return Status.SKIPPED, "a choice is empty"
    for one in gold if isinstance(gold, list) else [gold]:
        if one is None or one == "":
            return Status.SKIPPED, "no gold answer"
        if not (one in choices if isinstance(one, str) else 0 <= int(one) < len(choices)):
            return Status.SKIPPED, f"the gold answer {one!r} is none of the {len(choices)} choices"
    return None if gold != [] else (Status.SKIPPED, "no gold answer")
