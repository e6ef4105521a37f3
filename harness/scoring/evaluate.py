"""One lm-eval run over all tasks and their perturbed versions, turned into one row per sample and metric."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lm_eval.api.task
import pandas as pd
from datasets.exceptions import DatasetsError
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from harness.core.records import CLEAN, SAMPLE_COLUMNS, Status
from harness.errors import SourceError, SpecError
from harness.scoring.confidence import choice_confidence
from harness.scoring.engine import ScoredStudent, StudentEngine
from harness.scoring.perturbations import perturb, perturb_doc
from harness.scoring.suites import Selection
from harness.seeds import seed_from

Row = dict[str, Any]


@dataclass
class _Unit:
    """One task under one perturbation, as lm-eval runs it."""

    selection: Selection
    perturbation: str
    task: Any
    indices: list[int] | None
    skipped: list[Row]
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.selection.suite.name}/{self.selection.task.name}@{self.perturbation}"


def run(
    student: ScoredStudent,
    selections: Sequence[Selection],
    perturbations: Sequence[str],
    *,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> pd.DataFrame:
    """See `harness.scoring.suites.score`."""
    engine = StudentEngine(student, seed=seed)
    rows: list[Row] = []
    with _quiet():
        units = [
            _unit(selection, task, perturbation)
            for selection, task in zip(selections, _load_tasks(selections), strict=True)
            for perturbation in (CLEAN, *(perturbations if selection.suite.evaluation and selection.task.perturbable else ()))
        ]
        sizes = {unit.key: len(unit.task.eval_docs) if unit.indices is None else len(unit.indices) for unit in units}
        done = 0
        # Only generation gets the chat template, as lm-eval users do by default; so there are two runs, each with all its tasks at once.
        for generation in (False, True):
            chosen = {unit.key: unit for unit in units if (unit.task.OUTPUT_TYPE == "generate_until") is generation}
            if not chosen:
                continue
            items = sum(sizes[key] for key in chosen)
            if progress:
                engine.progress = functools.partial(_report, progress, done, items, sum(sizes.values()))
            samples = _evaluate(engine, chosen, generation)
            rows += [row for key, unit in chosen.items() for row in _unit_rows(unit, samples[key], engine)]
            done += items
    frame = pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS))
    return frame.astype({"value": "Float64", "generated_tokens": "Int64"})


def _report(progress: Callable[[int, int], None], before: int, items: int, total: int, done: int, of: int) -> None:
    """Tells how many items are done, from the share of this run's computations that are."""
    progress(before + round(items * done / of), total)


def _evaluate(engine: StudentEngine, units: dict[str, _Unit], chat: bool) -> dict[str, list[Row]]:
    runnable = {key: unit for key, unit in units.items() if unit.indices != []}
    if not runnable:
        return {key: [] for key in units}
    results = evaluate(
        engine,
        {"tasks": {key: unit.task for key, unit in runnable.items()}},
        samples={key: unit.indices for key, unit in runnable.items() if unit.indices is not None},
        bootstrap_iters=0,
        log_samples=True,
        apply_chat_template=chat,
    )
    assert results is not None
    return {key: results["samples"].get(key, []) for key in units}


def _load_tasks(selections: Sequence[Selection]) -> list[Any]:
    managers: dict[Path | None, TaskManager] = {}
    tasks = []
    for selection in selections:
        path, name = selection.suite.include_path, selection.task.name
        if path not in managers:
            managers[path] = TaskManager(include_path=path, include_defaults=path is None)
        if name not in managers[path].all_subtasks:
            raise SpecError(
                f"suite {selection.suite.name} names a task that lm-eval does not find in {path or 'its own tasks'}", value=name
            )
        try:
            tasks.append(managers[path].load([name])["tasks"][name])
        except (ConnectionError, OSError, DatasetsError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SourceError(f"the data of task {name} cannot be had (network? log-in?): {reason}") from error
    return tasks


def _unit(selection: Selection, loaded: Any, perturbation: str) -> _Unit:
    indices, skipped = _subset(selection, loaded)
    task = copy.copy(loaded)  # instances and the functions replaced below are the copy's own
    unit = _Unit(selection, perturbation, task, indices, skipped)
    task.process_results = functools.partial(_guarded_results, unit, loaded.process_results)
    task.aggregation = _NoAggregation
    if perturbation != CLEAN:
        _perturb_task(task, perturbation)
    return unit


def _subset(selection: Selection, task: Any) -> tuple[list[int] | None, list[Row]]:
    """The items to score and the unusable ones among them: the first `limit` in an order fixed by the ids, so that limits nest."""
    skipped = list(task.dataset["skipped"]) if "skipped" in (task.dataset or ()) else []
    ids = [sample_id(doc) for doc in task.eval_docs]
    limit = selection.limit
    if limit is None or limit >= len(ids) + len(skipped):
        return None, skipped
    names = [*ids, *(row["id"] for row in skipped)]
    order = sorted(range(len(names)), key=lambda index: seed_from("subset", names[index]))[:limit]
    return sorted(index for index in order if index < len(ids)), [skipped[index - len(ids)] for index in order if index >= len(ids)]


def sample_id(doc: Row) -> str:
    """A document's id, from its content where the task gives none."""
    if "id" in doc:
        return str(doc["id"])
    return hashlib.sha256(json.dumps(doc, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _guarded_results(unit: _Unit, process_results: Callable[..., Row], doc: Row, results: Any) -> Row:
    """A sample that cannot be judged is data, not a crash of the run."""
    try:
        return process_results(doc, results)
    except Exception as error:
        unit.errors[sample_id(doc)] = f"{type(error).__name__}: {error}"
        return {unit.selection.task.metric: None}


class _NoAggregation(dict[str, Callable[[Any], float]]):
    """Stands for a task's aggregations: rows are kept and aggregated later, with intervals."""

    def __missing__(self, metric: str) -> Callable[[Any], float]:
        return lambda values: math.nan


def _perturb_task(task: Any, name: str) -> None:
    """Makes the copy `task` show perturbed prompts: the fields its YAML names under metadata.perturb, else the rendered prompt."""
    fields = (task.config.metadata or {}).get("perturb")
    original_context, original_text = task.fewshot_context, task.doc_to_text
    if task.multiple_input:
        raise SpecError(f"task {task.config.task} has a prompt per choice and cannot be perturbed", key="perturbations", value=name)

    def protected(doc: Row) -> list[str]:
        choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else []
        return [*doc.get("protected", ()), *choices]

    if fields:

        def fewshot_context(doc: Row, *args: Any, **kwargs: Any) -> Any:
            changed = perturb_doc(doc, name, sample_id=sample_id(doc), fields=fields, protected=protected(doc))
            return original_context(changed, *args, **kwargs)
    else:

        def fewshot_context(doc: Row, *args: Any, **kwargs: Any) -> Any:
            # Few-shot examples go through doc_to_text too and stay clean.
            def doc_to_text(shown: Row, *more: Any) -> Any:
                text = original_text(shown, *more)
                return perturb(text, name, sample_id=sample_id(doc), protected=protected(doc)) if shown is doc else text

            task.doc_to_text = doc_to_text
            return original_context(doc, *args, **kwargs)

    task.fewshot_context = fewshot_context


def _unit_rows(unit: _Unit, samples: Sequence[Row], engine: StudentEngine) -> Iterator[Row]:
    task = unit.selection.task
    base = {"suite": unit.selection.suite.name, "task": task.name, "perturbation": unit.perturbation}
    filters = {sample["filter"] for sample in samples}
    for sample in samples:
        identity = sample_id(sample["doc"])
        shown = {**base, "sample_id": identity, "cluster": str(sample["doc"].get("cluster", identity)), **_shown(unit.task, sample, engine)}
        for metric in sample["metrics"]:
            name = metric if len(filters) == 1 else f"{metric},{sample['filter']}"
            value, status = _judged(sample[metric])
            if identity in unit.errors:
                status, shown["output"] = Status.ERROR, f"{shown['output']}\n[{unit.errors[identity]}]"
            yield {**shown, "metric": name, "value": value, "status": str(status)}
        if unit.task.OUTPUT_TYPE == "multiple_choice" and identity not in unit.errors:
            for name, value in choice_confidence(sample).items():
                yield {**shown, "metric": name, "value": value, "status": str(Status.SCORED)}
    for row in unit.skipped:
        empty = {"prompt": str(row.get("question", "")), "target": "", "output": row["reason"], "generated_tokens": None}
        yield {
            **base,
            "sample_id": row["id"],
            "cluster": row["id"],
            "metric": task.metric,
            "value": None,
            "status": str(Status.SKIPPED),
            **empty,
        }


def _judged(value: Any) -> tuple[float | None, Status]:
    """A metric's value; what is no finite number (a corpus-level metric's parts) has no per-sample score."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None, Status.UNPARSED
    return (number, Status.SCORED) if math.isfinite(number) else (None, Status.UNPARSED)


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


def item_texts(selections: Sequence[Selection]) -> Iterator[str]:
    """The text of every item that is scored: its `content` where the document has one (without shared wording), else the prompt."""
    with _quiet():
        for selection, task in zip(selections, _load_tasks(selections), strict=True):
            indices, _ = _subset(selection, task)
            docs = task.eval_docs
            for index in range(len(docs)) if indices is None else indices:
                yield str(docs[index].get("content") or task.doc_to_text(docs[index]))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences lm-eval's and datasets' progress bars and notes, which would tear the study's own display."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "lm-eval", "datasets")]
    levels = [logger.level for logger in loggers]
    module: Any = lm_eval.api.task
    tqdm = module.tqdm
    module.tqdm = functools.partial(tqdm, disable=True)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        module.tqdm = tqdm
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
