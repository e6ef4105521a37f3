"""Equality certificate: the engine against lm-eval's Hugging Face backend, request by request, in float32."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from lm_eval import __version__ as lm_eval_version
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from harness.errors import SpecError
from harness.models.student import Student
from harness.scoring.engine import StudentEngine
from harness.scoring.score_cache import ENGINE_VERSION, fingerprint
from harness.scoring.traps import SHORT_LENGTH, Text, traps, unscorable

TOLERANCE = 2e-4
"""Most nats between two log-likelihoods of one request."""
FEWEST = 3000
"""Requests without which a certificate means little."""


@dataclass
class GroupResult:
    """One group of requests."""

    requests: int
    max_difference: float
    greedy_differs: int
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Certificate:
    """What was compared, on what, and whether all of it agrees."""

    passed: bool
    requests: int
    tolerance_nats: float
    max_difference_nats: float
    greedy_differs: int
    choices: int
    choices_differ: int
    refused_by_both: int
    groups: dict[str, GroupResult]
    about: dict[str, Any]


def certify(
    student: Student, *, tasks: Sequence[str] = (), include_path: Path | None = None, limit: int | None = None, trap_requests: int = 1200,
    batch_size: int = 8, seed: int = 0, token_budget: int | None = None,
) -> Certificate:  # fmt: skip
    """Scores the requests of `tasks` and `trap_requests` others both ways; the student's weights must be float32.

    Raises:
        SpecError: the weights are of another type, or a task is unknown or has no log-likelihoods.
    """
    if student.model.dtype != torch.float32:
        raise SpecError("a certificate is made in float32", key="dtype", value=str(student.model.dtype))
    started = time.monotonic()
    groups, items = _task_requests(tasks, include_path, limit)
    groups |= {f"trap: {name}": texts for name, texts in traps(trap_requests, rng=np.random.default_rng(seed)).items()}
    results: dict[str, GroupResult] = {}
    chosen = differ = 0
    for name, texts in groups.items():
        length = SHORT_LENGTH if name == "trap: truncation" else None
        engine = StudentEngine(student, dtype="float32", max_length=length, token_budget=token_budget)
        ours, theirs = engine.loglikelihood(_instances(texts)), _rival(student, length, batch_size).loglikelihood(_instances(texts), True)
        results[name] = _compared(texts, ours, theirs)
        for members in items.get(name, {}).values():
            chosen += 1
            differ += _best(members, ours) != _best(members, theirs)
    requests = sum(result.requests for result in results.values())
    worst = max(result.max_difference for result in results.values())
    greedy = sum(result.greedy_differs for result in results.values())
    refused = _refused_by_both(student, batch_size)
    about = {
        "model": student.source, "weights_and_settings": fingerprint(student.model, student.tokenizer, torch.float32),
        "dtype": "float32", "device": str(student.device), "threads": torch.get_num_threads(), "engine_version": ENGINE_VERSION,
        "torch": torch.__version__, "transformers": transformers.__version__, "lm_eval": lm_eval_version,
        "rival": f"lm-eval hf, logits_cache=False, batch_size={batch_size}", "tasks": list(tasks), "limit": limit, "seed": seed,
        "shares": engine.shares, "wall_s": round(time.monotonic() - started, 1),
    }  # fmt: skip
    passed = worst <= TOLERANCE and greedy == 0 and differ == 0 and refused == len(unscorable()) and requests >= FEWEST
    return Certificate(passed, requests, TOLERANCE, worst, greedy, chosen, differ, refused, results, about)


def as_json(certificate: Certificate) -> dict[str, Any]:
    """The certificate as plain values."""
    return asdict(certificate)


def _task_requests(
    names: Sequence[str], include_path: Path | None, limit: int | None
) -> tuple[dict[str, list[Text]], dict[str, dict[int, list[int]]]]:
    """Per task its requests, and per document the places of its choices among them."""
    if not names:
        return {}, {}
    manager = TaskManager(include_path=include_path, include_defaults=include_path is None)
    for name in names:
        if name not in manager.all_subtasks:
            raise SpecError("lm-eval finds no such task", key="--tasks", value=name, valid=manager.all_subtasks)
    groups: dict[str, list[Text]] = {}
    items: dict[str, dict[int, list[int]]] = {}
    for name, task in manager.load(list(names))["tasks"].items():
        if task.OUTPUT_TYPE not in ("multiple_choice", "loglikelihood"):
            raise SpecError("expected a task with log-likelihoods", key="--tasks", value=f"{name} ({task.OUTPUT_TYPE})")
        task.build_all_requests(limit=limit, rank=0, world_size=1)
        groups[name] = [instance.args for instance in task.instances]
        by_document: dict[int, list[int]] = defaultdict(list)
        for place, instance in enumerate(task.instances):
            by_document[instance.doc_id].append(place)
        items[name] = {document: places for document, places in by_document.items() if len(places) > 1}
    return groups, items


def _instances(texts: Sequence[Text]) -> list[Instance]:
    return [Instance(request_type="loglikelihood", doc={}, arguments=text, idx=0, metadata=("certify", 0, 1)) for text in texts]


def _rival(student: Student, max_length: int | None, batch_size: int) -> Any:
    return HFLM(pretrained=student.model, tokenizer=student.tokenizer, logits_cache=False, batch_size=batch_size, max_length=max_length)


def _compared(texts: Sequence[Text], ours: Sequence[tuple[float, bool]], theirs: Sequence[tuple[float, bool]]) -> GroupResult:
    differences = [abs(one - other) if math.isfinite(one) else math.inf for (one, _), (other, _) in zip(ours, theirs, strict=True)]
    flags = [one != other for (_, one), (_, other) in zip(ours, theirs, strict=True)]
    wrong = [place for place in range(len(texts)) if differences[place] > TOLERANCE or flags[place]]
    examples = [
        {"context": texts[place][0][-200:], "continuation": texts[place][1], "ours": list(ours[place]), "theirs": list(theirs[place])}
        for place in wrong[:5]
    ]
    return GroupResult(len(texts), max(differences, default=0.0), sum(flags), examples)


def _best(places: Sequence[int], scores: Sequence[tuple[float, bool]]) -> int:
    return max(places, key=lambda place: scores[place][0])


def _refused_by_both(student: Student, batch_size: int) -> int:
    """How many requests without an answer get none from either."""
    engine, rival = StudentEngine(student, dtype="float32"), _rival(student, None, batch_size)
    refused = 0
    for text in unscorable():
        ((ours, _),) = engine.loglikelihood(_instances([text]))
        try:
            rival.loglikelihood(_instances([text]), True)
        except (AssertionError, IndexError):
            refused += ours == -math.inf
    return refused
