"""One lm-eval run over all tasks and their perturbed versions, turned into one row per sample and metric."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lm_eval.api.task
import lm_eval.utils
import pandas as pd
from datasets.exceptions import DatasetsError
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from harness.core.budget import Ledger
from harness.core.perturbation_spec import PerturbationSpec
from harness.core.records import CLEAN, SAMPLE_COLUMNS, Status
from harness.errors import SelfteachError, SourceError, SpecError
from harness.scoring.engine import ScoredStudent, StudentEngine
from harness.scoring.guard import SimilarityGuard
from harness.scoring.items import Items, Row, Unasked, choose_items, sample_id
from harness.scoring.lm_eval_tasks import lm_eval_manager
from harness.scoring.sample_rows import guarded, sample_rows, unasked_row
from harness.scoring.suites import Selection
from harness.scoring.twins import RecordedShots, perturbed_twin

FEWSHOT_SEED = 1234
"""lm-eval's own default."""
WHOLE_TASK = "*"
"""Sample id of the one row of a task that cannot be loaded."""


@dataclass
class _Unit:
    """One task under one perturbation, as lm-eval runs it."""

    selection: Selection
    perturbation: str
    task: Any
    items: Items
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.selection.suite.name}/{self.selection.task.name}@{self.perturbation}"

    @property
    def base(self) -> Row:
        return {"suite": self.selection.suite.name, "task": self.selection.task.name, "perturbation": self.perturbation}


def run(
    student: ScoredStudent,
    selections: Sequence[Selection],
    perturbations: Sequence[PerturbationSpec],
    *,
    ledger: Ledger,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> pd.DataFrame:
    """See `harness.scoring.suites.score`."""
    engine = StudentEngine(student, seed=seed)
    guard = SimilarityGuard(ledger)
    rows: list[Row] = []
    with _lm_eval_at_work():
        units: list[_Unit] = []
        for selection, task in zip(selections, load_tasks(selections), strict=True):
            if isinstance(task, Unasked):
                base = {"suite": selection.suite.name, "task": selection.task.name, "perturbation": CLEAN}
                rows.append(unasked_row(base, task, primary=selection.task.metric))
                continue
            units += _units(selection, task, perturbations, guard)
        rows += [row for unit in units for row in _unasked_rows(unit)]
        total, done = sum(len(unit.items.indices) for unit in units), 0
        # Only generation gets the chat template, as lm-eval users do by default; so there are two runs, each with all its tasks at once.
        for generation in (False, True):
            chosen = {unit.key: unit for unit in units if (unit.task.OUTPUT_TYPE == "generate_until") is generation and unit.items.indices}
            if not chosen:
                continue
            items = sum(len(unit.items.indices) for unit in chosen.values())
            if progress:
                engine.progress = functools.partial(_report, progress, done, items, total)
            samples = _evaluate(engine, chosen, generation)
            for key, unit in chosen.items():
                rows += sample_rows(unit.base, unit.task, samples[key], engine, primary=unit.selection.task.metric, errors=unit.errors)
            done += items
    frame = pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS))
    return frame.astype({"value": "Float64", "generated_tokens": "Int64"})


def _report(progress: Callable[[int, int], None], before: int, items: int, total: int, done: int, of: int) -> None:
    """Tells how many items are done, from the share of this run's computations that are."""
    progress(before + round(items * done / of), total)


def _evaluate(engine: StudentEngine, units: dict[str, _Unit], chat: bool) -> dict[str, list[Row]]:
    results = evaluate(
        engine,
        {"tasks": {key: unit.task for key, unit in units.items()}},
        samples={key: unit.items.indices for key, unit in units.items() if len(unit.items.indices) < len(unit.task.eval_docs)},
        bootstrap_iters=0,
        log_samples=True,
        apply_chat_template=chat,
    )
    assert results is not None
    return {key: results["samples"][key] for key in units}


def load_tasks(selections: Sequence[Selection]) -> list[Any]:
    """lm-eval's tasks; for one that cannot be loaded the reason, in a form that makes a row of it."""
    managers: dict[Path | None, TaskManager] = {}
    tasks = []
    for selection in selections:
        path, name = selection.suite.include_path, selection.task.name
        if path not in managers:
            managers[path] = lm_eval_manager() if path is None else TaskManager(include_path=path, include_defaults=False)
        if name not in managers[path].all_subtasks:
            raise SpecError(
                f"suite {selection.suite.name} names a task that lm-eval does not find in {path or 'its own tasks'}", value=name
            )
        tasks.append(_load(managers[path], name))
    return tasks


def _load(manager: TaskManager, name: str) -> Any:
    try:
        task = manager.load([name])["tasks"][name]
    except SelfteachError:
        raise
    except (ConnectionError, OSError, DatasetsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"the data of task {name} cannot be had (network? log-in?): {reason}") from error
    except Exception as error:  # lm-eval renders a first item while it loads: whatever a task's YAML raises there is about this task
        reason = f"the task cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return Unasked(WHOLE_TASK, WHOLE_TASK, "", reason, Status.ERROR)
    task.set_fewshot_seed(FEWSHOT_SEED)
    if hasattr(task, "sampler"):
        task.sampler = RecordedShots(task.sampler)
    return task


def _units(selection: Selection, loaded: Any, perturbations: Sequence[PerturbationSpec], guard: SimilarityGuard) -> Iterator[_Unit]:
    """A task's clean unit and one for each perturbation."""
    items = choose_items(loaded, selection.limit, selection.families)
    yield _unit(selection, CLEAN, copy.copy(loaded), items)
    if not (selection.suite.evaluation and selection.task.perturbable):
        return
    specs = {spec.label: spec for spec in (*perturbations, *selection.perturbations)}
    for label, spec in specs.items():
        yield _unit(selection, label, *perturbed_twin(loaded, spec, items, similarities=guard.similarities))


def _unit(selection: Selection, perturbation: str, task: Any, items: Items) -> _Unit:
    """Functions are replaced on `task`, which must be a copy of its own."""
    unit = _Unit(selection, perturbation, task, items)
    task.process_results = functools.partial(guarded, unit.errors, selection.task.metric, task.process_results)
    task.aggregation = _NoAggregation
    task.fewshot_context = functools.partial(_context, task, task.fewshot_context)
    return unit


def _context(task: Any, fewshot_context: Callable[..., Any], doc: Row, *args: Any, **kwargs: Any) -> Any:
    """lm-eval's `fewshot_context`, with the item's own examples."""
    if hasattr(task, "sampler"):
        task.sampler.item = sample_id(doc)
    return fewshot_context(doc, *args, **kwargs)


def _unasked_rows(unit: _Unit) -> Iterator[Row]:
    return (unasked_row(unit.base, item, primary=unit.selection.task.metric) for item in unit.items.unasked)


class _NoAggregation(dict[str, Callable[[Any], float]]):
    """Stands for a task's aggregations: rows are kept and aggregated later, with intervals."""

    def __missing__(self, metric: str) -> Callable[[Any], float]:
        return lambda values: math.nan


def item_texts(selections: Sequence[Selection]) -> Iterator[str]:
    """The text of every item that is scored: its `content` where the document has one (without shared wording), else the prompt."""
    with _lm_eval_at_work():
        for selection, task in zip(selections, load_tasks(selections), strict=True):
            if isinstance(task, Unasked):
                continue
            docs = task.eval_docs
            for index in choose_items(task, selection.limit, selection.families).indices:
                yield str(docs[index].get("content") or task.doc_to_text(docs[index]))


@contextlib.contextmanager
def _lm_eval_at_work() -> Iterator[None]:
    """Silences lm-eval's and datasets' progress bars and notes, which would tear the study's own display, and spares it repeated work."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "lm-eval", "datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    module: Any = lm_eval.api.task
    tqdm = module.tqdm
    module.tqdm = functools.partial(tqdm, disable=True)
    # lm-eval compiles a task's templates anew for each item.
    environment: Any = lm_eval.utils.env
    environment.from_string = functools.lru_cache(maxsize=256)(environment.from_string)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        module.tqdm = tqdm
        del environment.from_string
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
