"""From a run to frozen rows, and from a run's kept samples back to the value of a row: one computation for both."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.published import weights_sha256
from harness.core.records import CLEAN
from harness.core.results import RunResults
from harness.core.store import Meta, RunStore
from harness.errors import SpecError
from harness.stats.crossed import contrast, moments
from harness.verdicts.board_file import DECIMALS, EVERY_TASK, Board, Model, Row, Run, TaskEntry, Trial
from harness.verdicts.frames import NotTestableError, Scores, is_trained
from harness.verdicts.leaderboard import bounded, own_seeds, task_entry

MARGIN = 0.05
"""Default: a tenth of the scale is a lot, and within 2 points nothing can be shown on 60 items."""
SEEDS_AND_ITEMS, ITEMS = "95 %, training seeds and items", "95 %, items"


@dataclass(frozen=True)
class Frozen:
    """The numbers of a row, rounded as they are written."""

    value: float
    interval: tuple[float, float]
    interval_by: str
    n: int
    seeds: int


def frozen_value(results: RunResults, scores: Scores, method: str, tasks: Sequence[str], perturbation: str) -> Frozen:
    """A method's mean over `tasks`, with the interval of the run's leaderboard.

    Raises:
        NotTestableError: the run has no scores for it.
    """
    seeds = own_seeds(method, results.trials, scores)
    parts = [scores.collect(task, [(method, perturbation)], seeds) for task in tasks]
    if len(parts) == 1:
        entry = task_entry(parts[0], scores)
        value, interval, n = entry["value"], entry["interval"], entry["n"]
    else:
        found = contrast(moments([part.scores for part in parts]), (1,))
        value, interval, n = found.estimate, bounded(found), found.n_items
    low, high = (min(interval[0], value), max(interval[1], value))
    return Frozen(_rounded(value), (_rounded(low), _rounded(high)), SEEDS_AND_ITEMS if len(seeds) > 1 else ITEMS, int(n), len(seeds))


def same(first: float, second: float) -> bool:
    """Whether two frozen numbers have the same digits."""
    return math.isclose(first, second, rel_tol=0, abs_tol=0.5 * 10**-DECIMALS)


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS) + 0.0


def items_sha256(samples: pd.DataFrame, task: str) -> str:
    """A sha256 over ids, prompts and targets of a task's clean items, whoever was asked: what makes two scores of a task comparable."""
    clean = samples[(samples["task"] == task) & (samples["perturbation"] == CLEAN)]
    rows = sorted(set(clean[["sample_id", "prompt", "target"]].itertuples(index=False, name=None)))
    return hashlib.sha256("".join("\x1f".join(map(str, row)) + "\x1e" for row in rows).encode()).hexdigest()


def freeze(runs: Sequence[RunResults], *, out: Path, margin: float, item_seed: int) -> Board:
    """The board of one or several runs.

    Per method a row for the mean over the leaderboard's tasks, clean and under each perturbation, and a row for each task.

    Args:
        out: where the board will be written; runs are named by their path from there.
        margin: see `Row`.
        item_seed: the seed that students are scored with.
    Raises:
        SpecError: a run has no leaderboard, or two have one name.
    """
    models: dict[str, Model] = {}
    entries: dict[str, Run] = {}
    rows: list[Row] = []
    for results in runs:
        name = str(results.study["name"])
        if name in entries:
            raise SpecError("two runs of one name cannot be on one leaderboard", key="RUN", value=name)
        tasks = _tasks(results)
        prefix = f"{name}:" if len(runs) > 1 else ""
        entries[name] = _run(results, tasks, out, item_seed)
        scores = Scores(results)
        for method in _ranked(results):
            models[prefix + method] = _model(results, name, method)
            rows += _rows(results, scores, method, tasks, prefix + method, margin)
    title = "; ".join(str(results.study.get("title") or results.study["name"]) for results in runs)
    return Board(board=out.stem, schema_version=1, title=title, models=models, runs=entries, rows=tuple(rows))


def _ranked(results: RunResults) -> list[str]:
    return [str(row["method"]) for row in results.leaderboard["rows"]]


def _tasks(results: RunResults) -> list[str]:
    board = results.leaderboard.get("rows") or []
    if not board:
        raise SpecError("this run has no leaderboard; `selfteach report` writes it", key="RUN", value=str(results.run_dir))
    return [str(task) for task in board[0]["per_task"]]


def _rows(results: RunResults, scores: Scores, method: str, tasks: list[str], model: str, margin: float) -> list[Row]:
    wanted: list[tuple[str, list[str], str]] = [(f"{model}/{EVERY_TASK}", tasks, CLEAN)] if len(tasks) > 1 else []
    wanted += [(f"{model}/{task}", [task], CLEAN) for task in tasks]
    for label in scores.perturbations:
        perturbed = [task for task in tasks if scores.has(task, label)]
        wanted += [(f"{model}/{EVERY_TASK}@{label}", perturbed, label)] if perturbed else []
    rows = []
    for name, chosen, label in wanted:
        try:
            found = frozen_value(results, scores, method, chosen, label)
        except (NotTestableError, SpecError):
            continue  # fewer than two items of it have a score
        metrics = list(dict.fromkeys(str(scores.info[task]["metric"]) for task in chosen))
        rows.append(
            Row(id=name, model=model, tasks=tuple(chosen), perturbation=label, metric=", ".join(metrics), margin=margin, **vars(found))
        )
    return rows


def _run(results: RunResults, tasks: list[str], out: Path, item_seed: int) -> Run:
    study, provenance = results.study, results.study["provenance"]
    suites = {suite["name"]: suite for suite in study["suites"]}
    about = {task: study["tasks"][task] for task in tasks}
    made_by = _distributions(results)
    entries = {}
    for task, info in about.items():
        limit = suites[info["suite"]].get("limit")
        clean = results.samples[(results.samples["task"] == task) & (results.samples["perturbation"] == CLEAN)]
        entries[task] = TaskEntry(
            suite=info["suite"], version=made_by.get(info["suite"], "unknown"), metric=info["metric"],
            limit=limit.get(task) if isinstance(limit, dict) else limit, n=int(clean["sample_id"].nunique()),
            items_sha256=items_sha256(results.samples, task), chance=info.get("chance"),
            higher_is_better=info.get("higher_is_better", True),
        )  # fmt: skip
    setting = study["plan"]["setting"]
    return Run(
        path=Path(os.path.relpath(results.run_dir, out.parent)).as_posix(), study=study["name"], commit=provenance.get("commit"),
        date=(provenance.get("published") or {}).get("run_ended"), device=setting["device"], precision=setting["precision"],
        threads=setting["threads"], item_seed=item_seed, versions=provenance["versions"], tasks=entries,
    )  # fmt: skip


def _distributions(results: RunResults) -> dict[str, str]:
    """Which package, in which version, each suite came from."""
    store, found = RunStore(results.run_dir), dict[str, str]()
    for stage in dict.fromkeys(str(stage) for stage in results.trials["score_stage"] if store.finished(str(stage))):
        found |= {suite["name"]: suite["from"] for suite in store.meta(stage)["content"]["suites"]}
    return found


def _model(results: RunResults, run: str, method: str) -> Model:
    store = RunStore(results.run_dir)
    mine = results.trials[(results.trials["method"] == method) & (results.trials["status"] == "finished")]
    students = mine.drop_duplicates("score_stage").sort_values("seed")
    trained = is_trained(results.trials, method)
    trials, source = [], None
    for row in students.to_dict("records"):
        train, score = store.meta(row["train_stage"]), store.meta(row["score_stage"])
        source = _untrained(train) or source
        trials.append(
            Trial(
                trial=row["trial_id"], seed=int(row["seed"]), train_stage=row["train_stage"], score_stage=row["score_stage"],
                sealed=score["checksum"], weights_sha256=weights_sha256(train) if trained else None,
            )
        )  # fmt: skip
    student = results.study["student"]
    return Model(source=student["model"], weights_sha256=source, trained=trained, run=run, method=method, trials=tuple(trials))


def _untrained(train: Meta) -> str | None:
    student: dict[str, Any] = train["content"].get("student") or {}
    return student.get("weights")
