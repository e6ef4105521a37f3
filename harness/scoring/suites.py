"""Suites: named sets of lm-eval tasks, found through entry points, and the one function that scores a student on them.

Nothing heavy is imported until a suite is scored, so that `plan` and `tasks` start fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.core import plugins
from harness.core.budget import Ledger
from harness.core.suite_spec import SuiteSpec
from harness.errors import SpecError
from harness.instructions.ngrams import ngram_hashes
from harness.scoring.perturbations import PERTURBATIONS

if TYPE_CHECKING:
    import pandas as pd

    from harness.scoring.engine import ScoredStudent


@dataclass(frozen=True)
class Task:
    """One lm-eval task of a suite, and what the report needs to know of it.

    Attributes:
        name: lm-eval's name of the task.
        metric: the metric that stands for the task.
        chance: what guessing scores in that metric; None where guessing scores about nothing.
        kind: "choice" (log-likelihoods, no chat template) or "generation" (chat template, zero-shot).
        limit: items scored unless the study says otherwise; None is all of them.
        generation_suite: whether the task counts as text generation.
        source, licence: where the items come from.
    """

    name: str
    metric: str
    kind: Literal["choice", "generation"]
    higher_is_better: bool = True
    chance: float | None = None
    limit: int | None = None
    generation_suite: bool = False
    source: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Suite:
    """A named set of tasks.

    Attributes:
        include_path: folder with the tasks' YAML; None for lm-eval's own tasks (these read their data from the hub).
        evaluation: False for a suite of training-pool items (validation), which training may come near.
    """

    name: str
    summary: str
    tasks: tuple[Task, ...]
    include_path: Path | None = None
    evaluation: bool = True


@dataclass(frozen=True)
class Selection:
    """One task that a study scores: its suite, and how many items."""

    suite: Suite
    task: Task
    limit: int | None


def load_suite(name: str) -> Suite:
    """The suite that an installed package offers under `name`.

    Raises:
        SpecError: there is none.
    """
    suite = plugins.load("suites", name)
    assert isinstance(suite, Suite), type(suite)
    return suite


def select(specs: Sequence[SuiteSpec]) -> list[Selection]:
    """The tasks that suite specs ask for, in the suites' order.

    Raises:
        SpecError: an unknown suite or task, or a task asked for twice.
    """
    chosen: list[Selection] = []
    for spec in specs:
        suite = load_suite(spec.name)
        offered = {task.name: task for task in suite.tasks}
        limits = spec.limit if isinstance(spec.limit, dict) else {}
        for name in (*(spec.tasks or ()), *limits):
            if name not in offered:
                raise SpecError(f"suite {suite.name} has no such task", key="suites", value=name, valid=offered)
        for name in offered if spec.tasks is None else spec.tasks:
            limit = spec.limit if isinstance(spec.limit, int) else limits.get(name, offered[name].limit)
            chosen.append(Selection(suite, offered[name], limit))
    keys = [(selection.suite.name, selection.task.name) for selection in chosen]
    for key in keys:
        if keys.count(key) > 1:
            raise SpecError("this task is asked for twice", key="suites", value="/".join(key))
    if not chosen:
        raise SpecError("at least one suite is needed", key="suites")
    return chosen


def check_perturbations(names: Sequence[str]) -> None:
    """Raises SpecError for a name that is no perturbation."""
    for name in names:
        if name not in PERTURBATIONS:
            raise SpecError("unknown perturbation", key="perturbations", value=name, valid=PERTURBATIONS)


def score(
    student: ScoredStudent,
    suites: Sequence[SuiteSpec],
    perturbations: Sequence[str],
    *,
    ledger: Ledger,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Scores a student on suites, clean and (the training pool's validation apart) under each perturbation.

    The items and their perturbations do not depend on `seed`: they are the same for every method and seed. What the model computes
    is charged to account "eval", phase "score" of `ledger`, which the student must be attached to.

    Args:
        seed: of sampled generations, where a task samples.
        progress: called with (prompts done, prompts in all).
    Returns:
        One row per (suite, task, perturbation, sample_id, metric) with SAMPLE_COLUMNS. `value` is null unless status is "scored".
    Raises:
        SpecError: an unknown suite, task or perturbation.
    """
    check_perturbations(perturbations)
    selections = select(suites)
    from harness.scoring.evaluate import run

    with ledger.use_account("eval"), ledger.use_phase("score"):
        return run(student, selections, perturbations, seed=seed, progress=progress)


def evaluation_ngrams(suites: Sequence[SuiteSpec]) -> frozenset[int]:
    """Hashed 8-grams of every item that `suites` evaluate, for decontamination; validation items of the training pool are left out."""
    from harness.scoring.evaluate import item_texts

    selections = [selection for selection in select(suites) if selection.suite.evaluation]
    return frozenset(gram for text in item_texts(selections) for gram in ngram_hashes(text))


def describe_tasks() -> list[dict[str, Any]]:
    """One row per task of every installed suite: suite, task, kind, metric, chance, limit, source, licence."""
    return [
        {
            "suite": suite.name,
            "task": task.name,
            "kind": task.kind,
            "metric": task.metric,
            "chance": task.chance,
            "limit": task.limit,
            "source": task.source,
            "licence": task.licence,
        }
        for suite in map(load_suite, plugins.names("suites"))
        for task in suite.tasks
    ]
