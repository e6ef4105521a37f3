"""Suites: named sets of lm-eval tasks, found through entry points, and the one function that scores a student on them.

Nothing heavy is imported until a suite is scored, so that `plan` and `tasks` start fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.core import plugins
from harness.core.budget import Ledger
from harness.core.perturbation_spec import PerturbationSpec, perturbation_specs, robust_task
from harness.core.records import TrainingRecord
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
        kind: "choice" (log-likelihoods, no chat template), "generation" (chat template, zero-shot) or "membership" (no lm-eval task: the
            losses of training texts, harness.scoring.membership).
        limit: items scored unless the study says otherwise; None is all of them.
        items: how many there are; None where that is known only once they are loaded.
        perturbable: whether a changed prompt asks the same thing.
        generation_suite: whether the task counts as text generation.
        source, licence: where the items come from, and the licence of the data set.
    """

    name: str
    metric: str
    kind: Literal["choice", "generation", "membership"]
    higher_is_better: bool = True
    chance: float | None = None
    limit: int | None = None
    items: int | None = None
    perturbable: bool = True
    generation_suite: bool = False
    source: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Suite:
    """A named set of tasks.

    Attributes:
        include_path: folder with the tasks' YAML; None for lm-eval's own tasks (these read their data from the hub).
        evaluation: False for a suite of training-pool items (validation), which training may come near.
        any_task: whatever task lm-eval has may be named; the suite lists none itself.
    """

    name: str
    summary: str
    tasks: tuple[Task, ...]
    include_path: Path | None = None
    evaluation: bool = True
    any_task: bool = False


MEMBERSHIP = Task(
    "membership",
    "calibrated_loss",
    "membership",
    higher_is_better=False,
    limit=200,
    perturbable=False,
    source="the trial's own training texts and held-out ones of the same families",
    licence="as the training pool's",
)
"""Not a quality: whether training texts can be told from others by their loss. Only a trial with a training record has it."""


@dataclass(frozen=True)
class Selection:
    """One task that a study scores: its suite, how many items (of which families), and perturbations asked for by the task's name."""

    suite: Suite
    task: Task
    limit: int | None
    perturbations: tuple[PerturbationSpec, ...] = ()
    families: tuple[str, ...] | None = None


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
        SpecError: an unknown suite or task, or a task asked for twice, be it of two suites: scores are told apart by their task's name.
    """
    chosen: list[Selection] = []
    for spec in specs:
        suite = load_suite(spec.name)
        spec, robust = _without_robust(spec)
        offered = _offered(suite, spec)
        limits = spec.limit if isinstance(spec.limit, dict) else {}
        for name in (*(spec.tasks or ()), *limits):
            if name not in offered:
                raise SpecError(f"suite {suite.name} has no such task", key="suites", value=name, valid=offered)
        for name in offered if spec.tasks is None else spec.tasks:
            limit = spec.limit if isinstance(spec.limit, int) else limits.get(name, offered[name].limit)
            chosen.append(Selection(suite, offered[name], limit, tuple(robust.get(name, ())), spec.families))
    suites: dict[str, list[str]] = {}
    for selection in chosen:
        suites.setdefault(selection.task.name, []).append(selection.suite.name)
    for name, those in suites.items():
        if len(those) > 1:
            raise SpecError(
                "this task is asked for twice", key="suites", value=" and ".join(f"{suite}/{name}" for suite in dict.fromkeys(those))
            )
    if not chosen:
        raise SpecError("at least one suite is needed", key="suites")
    return chosen


def _offered(suite: Suite, spec: SuiteSpec) -> dict[str, Task]:
    """The suite's tasks by name; of a suite that has any, those that are named."""
    if not suite.any_task:
        return {task.name: task for task in suite.tasks}
    if spec.tasks is None:
        raise SpecError(f"suite {suite.name} has any task of lm-eval, so name some: tasks: [arc_challenge, ...]", key="tasks")
    from harness.scoring.lm_eval_tasks import lm_eval_task

    return {name: lm_eval_task(name) for name in spec.tasks}


def _without_robust(spec: SuiteSpec) -> tuple[SuiteSpec, dict[str, list[PerturbationSpec]]]:
    """The spec with robust:<perturbation>:<task> replaced by <task>, and the perturbations so asked for by task."""
    found: dict[str, list[PerturbationSpec]] = {}
    names: list[str] = []
    for name in spec.tasks or ():
        robust = robust_task(name)
        if robust:
            found.setdefault(robust[1], []).append(robust[0])
            check_perturbations(found[robust[1]])
        else:
            names.append(name)
    if not found:
        return spec, {}
    # Beside its perturbed version a task is scored clean too, once.
    names += [task for task in found if task not in names]
    limit = spec.limit
    if isinstance(limit, dict):
        limit = {(robust_task(name) or ("", name))[1]: n for name, n in limit.items()}
    return spec.model_copy(update={"tasks": tuple(names), "limit": limit}), found


def check_perturbations(perturbations: Sequence[PerturbationSpec]) -> None:
    """Raises SpecError for one that does not exist, has no strength to set, or is asked for twice under one label."""
    labels = [spec.label for spec in perturbations]
    for spec in perturbations:
        if spec.name not in PERTURBATIONS:
            raise SpecError("unknown perturbation", key="perturbations", value=spec.name, valid=PERTURBATIONS)
        if spec.strength is not None and not PERTURBATIONS[spec.name].adjustable:
            raise SpecError(f"{spec.name} has no strength to set", key="perturbations", value=spec.label)
        if labels.count(spec.label) > 1:
            raise SpecError("this perturbation is asked for twice", key="perturbations", value=spec.label)


def score(
    student: ScoredStudent,
    suites: Sequence[SuiteSpec],
    perturbations: Sequence[PerturbationSpec | str | Mapping[str, Any]],
    *,
    ledger: Ledger,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    training: TrainingRecord | None = None,
) -> pd.DataFrame:
    """Scores a student on suites, clean and (the training pool's validation apart) under each perturbation.

    The items and their perturbations do not depend on `seed`: they are the same for every method and seed. What the model computes
    is charged to account "eval", phase "score" of `ledger`, which the student must be attached to.

    Args:
        seed: of sampled generations, where a task samples.
        progress: called with (prompts done, prompts in all).
        training: what the student was trained on, for the task "membership"; without it that task's row says why it has no score.
    Returns:
        One row per (suite, task, perturbation, sample_id, metric) with SAMPLE_COLUMNS. `value` is null unless status is "scored".
    Raises:
        SpecError: an unknown suite, task or perturbation.
    """
    changes = perturbation_specs(perturbations)
    check_perturbations(changes)
    selections = select(suites)
    tasks = [selection for selection in selections if selection.task.kind != "membership"]
    import pandas as pd

    from harness.scoring.evaluate import run
    from harness.scoring.membership import membership_rows

    with ledger.use_account("eval"), ledger.use_phase("score"):
        frames = [run(student, tasks, changes, ledger=ledger, seed=seed, progress=progress)] if tasks else []
        frames += [
            membership_rows(student, training, selection, ledger=ledger) for selection in selections if selection.task.kind == "membership"
        ]
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]


def evaluation_ngrams(suites: Sequence[SuiteSpec]) -> frozenset[int]:
    """Hashed 8-grams of every item that `suites` evaluate, for decontamination; validation items of the training pool are left out."""
    from harness.scoring.evaluate import item_texts

    selections = [selection for selection in select(suites) if selection.suite.evaluation and selection.task.kind != "membership"]
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
            "items": task.items,
            "source": task.source,
            "licence": task.licence,
        }
        for suite in map(load_suite, plugins.names("suites"))
        for task in suite.tasks
    ]
