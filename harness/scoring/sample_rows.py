"""From lm-eval's logged samples to rows with SAMPLE_COLUMNS: one per sample and metric, with a status and, without a score, the reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.core.records import Status
from harness.scoring.confidence import choice_confidence
from harness.scoring.engine import StudentEngine
from harness.scoring.items import Row, Unasked, sample_id


def sample_rows(
    base: Row, task: Any, samples: Sequence[Row], engine: StudentEngine, *, primary: str, errors: Mapping[str, str]
) -> Iterator[Row]:
    """The rows of one task under one perturbation.

    Args:
        base: suite, task and perturbation.
        primary: the metric that stands for the task; what failed has a row for it.
        errors: by sample id, what went wrong when an answer was judged.
    """
    filters = {sample["filter"] for sample in samples}
    failed: set[str] = set()
    for sample in samples:
        identity = sample_id(sample["doc"])
        shown = {**base, "sample_id": identity, "cluster": str(sample["doc"].get("cluster", identity)), **_shown(task, sample, engine)}
        reason = errors.get(identity) or _unscorable(task, sample, engine)
        if reason:
            if identity not in failed:  # a failure under one of several filters is one failure
                failed.add(identity)
                yield _valueless(shown, primary, Status.ERROR, reason)
            continue
        for metric in sample["metrics"]:
            name = metric if len(filters) == 1 else f"{metric},{sample['filter']}"
            value = _number(sample[metric])
            if value is None:
                yield _valueless(shown, name, Status.UNPARSED, f"no single number for this answer: {metric} is {sample[metric]!r}"[:200])
            else:
                yield {**shown, "metric": name, "value": value, "status": str(Status.SCORED)}
        if task.OUTPUT_TYPE == "multiple_choice":
            for name, value in choice_confidence(sample).items():
                yield {**shown, "metric": name, "value": value, "status": str(Status.SCORED)}


def _unscorable(task: Any, sample: Row, engine: StudentEngine) -> str | None:
    """Why one of the item's choices has no log-likelihood (an empty one, say); None if all have."""
    if task.OUTPUT_TYPE not in ("multiple_choice", "loglikelihood"):
        return None
    return next((reason for context, choice in sample["arguments"] if (reason := engine.problem(context, choice))), None)


def unasked_row(base: Row, item: Unasked, *, primary: str) -> Row:
    """The row of an item that was not put to the model."""
    return {
        **base, "sample_id": item.id, "cluster": item.cluster, "metric": primary, "value": None, "status": str(item.status),
        "prompt": item.prompt, "target": "", "output": item.reason, "generated_tokens": None,
    }  # fmt: skip


def _valueless(shown: Row, metric: str, status: Status, reason: str) -> Row:
    return {**shown, "output": f"{shown['output']}\n[{reason}]", "metric": metric, "value": None, "status": str(status)}


def _number(value: Any) -> float | None:
    """A metric's value; what is no finite number (a corpus-level metric's parts) is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _shown(task: Any, sample: Row, engine: StudentEngine) -> Row:
    """What the model saw, what was wanted and what it answered."""
    prompt, *rest = sample["arguments"][0]
    target = sample["target"]
    tokens = None
    if task.OUTPUT_TYPE == "generate_until":
        output = str(sample["resps"][0][0])
        tokens = engine.completion(prompt, rest[0]).tokens
    elif task.OUTPUT_TYPE == "multiple_choice":
        logprobs = [responses[0][0] for responses in sample["resps"]]
        continuations = [arguments[1].strip() for arguments in sample["arguments"]]
        output = continuations[max(range(len(logprobs)), key=logprobs.__getitem__)]
        target = continuations[target] if isinstance(target, int) and 0 <= target < len(continuations) else target
    else:
        output = str(sample["resps"][0][0])
    return {"prompt": prompt, "target": str(target), "output": output, "generated_tokens": tokens}


def guarded(errors: dict[str, str], metric: str, process_results: Callable[..., Row], doc: Row, results: Any) -> Row:
    """lm-eval's `process_results`, whose failure on one answer is noted in `errors` and is no crash of the run."""
    try:
        return process_results(doc, results)
    except Exception as error:  # a task's own function: whatever it raises is about this answer
        errors[sample_id(doc)] = f"{type(error).__name__}: {error}"
        return {metric: None}
