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

from harness.core.blocks import blocks, label
from harness.core.published import weights_sha256
from harness.core.records import CLEAN
from harness.core.results import RunResults
from harness.core.scrub import scrubbed_text
from harness.core.store import Meta, RunStore
from harness.errors import SpecError
from harness.stats.crossed import contrast, moments
from harness.verdicts.board_file import DECIMALS, EVERY_TASK, Board, Model, Row, Run, TaskEntry, Trial
from harness.verdicts.frames import APART, NotTestableError, Scores, is_trained
from harness.verdicts.leaderboard import bounded, own_seeds, task_entry

MARGIN = 0.05
"""Default: a tenth of the scale is a lot, and within 2 points nothing can be shown on 60 items."""
SEEDS_AND_ITEMS, ITEMS = "95 %, training seeds and items", "95 %, items"


@dataclass(frozen=True)
class FrozenValue:
    """The numbers of a row, rounded as they are written."""

    value: float
    interval: tuple[float, float]
    interval_by: str
    n: int
    seeds: int


def frozen_value(results: RunResults, scores: Scores, method: str, tasks: Sequence[str], perturbation: str) -> FrozenValue:
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
    return FrozenValue(_rounded(value), (_rounded(low), _rounded(high)), SEEDS_AND_ITEMS if len(seeds) > 1 else ITEMS, int(n), len(seeds))


def same(first: float, second: float) -> bool:
    """Whether two frozen numbers have the same digits."""
    try:
        return math.isclose(first, second, rel_tol=0, abs_tol=0.5 * 10**-DECIMALS)
    except OverflowError:  # a whole number beyond the range of floats
        return first == second


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS) + 0.0


def items_sha256(samples: pd.DataFrame, task: str) -> str:
    """A sha256 over ids, prompts and targets of a task's clean items, whoever was asked: what makes two scores of a task comparable."""
    clean = samples[(samples["task"] == task) & (samples["perturbation"] == CLEAN)]
    rows = sorted(set(clean[["sample_id", "prompt", "target"]].itertuples(index=False, name=None)))
    return hashlib.sha256("".join("\x1f".join(map(str, row)) + "\x1e" for row in rows).encode()).hexdigest()


@dataclass(frozen=True)
class Frozen:
    """A board, and in words all that its runs have and it has not."""

    board: Board
    left_out: list[str]


def freeze(runs: Sequence[RunResults], *, out: Path, margin: float, item_seed: int) -> Frozen:
    """The board of one or several runs.

    Per method a row for the mean over the leaderboard's tasks, clean and under each perturbation, and a row for each task; of a sweep over
    budgets or students those of every block, whose methods' labels name it.

    Args:
        out: where the board will be written; runs are named by their path from there.
        margin: see `Row`.
        item_seed: the seed that students are scored with.
    Raises:
        SpecError: a run has no leaderboard, two have one name, or no row has enough scores.
    """
    models: dict[str, Model] = {}
    entries: dict[str, Run] = {}
    rows: list[Row] = []
    left_out: list[str] = []
    for results in runs:
        name = str(results.study["name"])
        if name in entries:
            raise SpecError("two runs of one name cannot be on one leaderboard", key="RUN", value=name)
        prefix = model_prefix(name, len(runs))
        scores = Scores(results)
        ranked = _ranked(results)
        tasks = list(dict.fromkeys(task for _, block_tasks, _ in ranked for task in block_tasks))
        if not tasks:
            told = "nothing of this run is ranked" if results.leaderboard else "this run has no leaderboard; `selfteach report` writes it"
            raise SpecError(told, key="RUN", value=str(results.run_dir))
        path = Path(os.path.relpath(results.run_dir, out.parent)).as_posix()
        entries[name] = run_entry(results, tasks, path=path, item_seed=item_seed)
        for block, block_tasks, methods in ranked:
            for method in methods:
                models[prefix + method] = model_entry(results, name, method, block)
                rows += _rows(results, scores, method, block_tasks, prefix + method, margin, left_out)
        left_out += _unperturbed(scores, ranked, prefix)
        left_out += _unranked(results, scores, ranked)
    if not rows:
        raise SpecError("no row can be frozen", key="RUN", value="; ".join(left_out))
    title = "; ".join(str(results.study.get("title") or results.study["name"]) for results in runs)
    board = Board(board=out.stem, schema_version=1, title=title, models=models, runs=entries, rows=tuple(rows))
    return Frozen(board, left_out)


Ranked = tuple[str, list[str], list[str]]
"""A block's name ("" where there is one only), the tasks of its leaderboard, and its methods, best first."""


def _ranked(results: RunResults) -> list[Ranked]:
    others: list[dict[str, Any]] = results.leaderboard.get("blocks", [])
    named = [(blocks(results.study)[0].name if others else "", results.leaderboard), *((str(board["name"]), board) for board in others)]
    return [
        (name, list(board["rows"][0]["per_task"]), [str(row["method"]) for row in board["rows"]])
        for name, board in named
        if board.get("rows")
    ]


def block_of(results: RunResults, method: str) -> str:
    """The block that a method ran in; "" in a study with one only."""
    found = blocks(results.study)
    return next(block.name for block in found if method in block.methods) if len(found) > 1 else ""


def _unperturbed(scores: Scores, ranked: Sequence[Ranked], prefix: str) -> list[str]:
    """Tasks that the means under a perturbation are without."""
    told = []
    for name, tasks, _ in ranked:
        where = f" at {name}" if name else ""
        for perturbation in scores.perturbations:
            gone = [task for task in tasks if not scores.has(task, perturbation)]
            if len(gone) == len(tasks):
                told.append(f"rows {prefix}*/{EVERY_TASK}@{perturbation}{where}: no task has such a version")
            elif gone:
                which = f"{', '.join(gone)}, which {'has' if len(gone) == 1 else 'have'} no such version"
                told.append(f"rows {prefix}*/{EVERY_TASK}@{perturbation}{where} are without {which}")
    return told


def _unranked(results: RunResults, scores: Scores, ranked: Sequence[Ranked]) -> list[str]:
    """Tasks, blocks and students of a run that no row is about, and why."""
    left_out = [f"{block.name}: nothing of it is ranked" for block in blocks(results.study) if not _has(ranked, block.methods)]
    for name, tasks, _ in ranked:
        where = f" at {name}" if name else ""
        for task in scores.info:
            if task not in tasks:
                suite = scores.info[task]["suite"]
                why = (
                    f"suite {suite} is in no leaderboard" if suite in APART else "lower is better, or fewer than 2 items that all answered"
                )
                left_out.append(f"task {task}{where}: {why}")
    unfinished = results.trials[results.trials["status"] != "finished"]
    left_out += [f"student {row['trial_id']}: {row['status']}" for row in unfinished.to_dict("records")]
    return left_out + [f"students without {fold}: no leaderboard has them" for fold in dict.fromkeys(results.folds["fold"])]


def _has(ranked: Sequence[Ranked], methods: Sequence[str]) -> bool:
    return any(set(methods) & set(listed) for _, _, listed in ranked)


def _rows(results: RunResults, scores: Scores, method: str, tasks: list[str], model: str, margin: float, left_out: list[str]) -> list[Row]:
    wanted = [(tasks, CLEAN)] if len(tasks) > 1 else []
    wanted += [([task], CLEAN) for task in tasks]
    for perturbation in scores.perturbations:
        perturbed = [task for task in tasks if scores.has(task, perturbation)]
        wanted += [(perturbed, perturbation)] if perturbed else []
    rows = []
    for chosen, perturbation in wanted:
        name = row_id(model, chosen, perturbation)
        try:
            rows.append(row_entry(results, scores, method, chosen, perturbation, name=name, model=model, margin=margin))
        except (NotTestableError, SpecError) as error:
            left_out.append(f"row {name}: {error}")
    return rows


def model_prefix(run: str, n_runs: int) -> str:
    """What stands before a method's label in the name of a model, on a board of several runs."""
    return f"{run}:" if n_runs > 1 else ""


def row_id(model: str, tasks: Sequence[str], perturbation: str) -> str:
    """The name of a row: its model, and its task or "mean"."""
    if perturbation != CLEAN:
        return f"{model}/{EVERY_TASK}@{perturbation}"
    return f"{model}/{tasks[0] if len(tasks) == 1 else EVERY_TASK}"


def row_entry(
    results: RunResults, scores: Scores, method: str, tasks: Sequence[str], perturbation: str, *, name: str, model: str, margin: float
) -> Row:
    """A row as the run has it.

    Raises:
        NotTestableError, SpecError: the run has no scores for it.
    """
    found = frozen_value(results, scores, method, tasks, perturbation)
    metric = ", ".join(dict.fromkeys(str(scores.info[task]["metric"]) for task in tasks))
    return Row(id=name, model=model, tasks=tuple(tasks), perturbation=perturbation, metric=metric, margin=margin, **vars(found))


def run_entry(results: RunResults, tasks: Sequence[str], *, path: str, item_seed: int) -> Run:
    """What a board says of a run.

    Args:
        tasks: those that the board has rows of.
        path: of the run, from the board's folder.
    """
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
        path=path, study=study["name"], commit=provenance.get("commit"), date=(provenance.get("published") or {}).get("run_ended"),
        device=setting["device"], precision=setting["precision"], threads=setting["threads"], item_seed=item_seed,
        versions=provenance["versions"], tasks=entries,
    )  # fmt: skip


def _distributions(results: RunResults) -> dict[str, str]:
    """Which package, in which version, each suite came from."""
    store, found = RunStore(results.run_dir), dict[str, str]()
    finished = results.trials[results.trials["status"] == "finished"]
    for stage in dict.fromkeys(str(stage) for stage in finished["score_stage"]):
        found |= {suite["name"]: suite["from"] for suite in store.meta(stage)["content"]["suites"]}
    return found


def model_entry(results: RunResults, run: str, method: str, block: str) -> Model:
    """What a board says of a method's students. A student that was a local folder is named by its last part.

    Args:
        run: the board's name of the run.
    """
    store = RunStore(results.run_dir)
    mine = results.trials[(results.trials["method"] == method) & (results.trials["status"] == "finished")]
    students = mine.drop_duplicates("score_stage").sort_values("seed")
    trained = is_trained(results.trials, method)
    trials: list[Trial] = []
    source: str | None = None
    engine = "transformers"
    for row in students.to_dict("records"):
        train, score = store.meta(row["train_stage"]), store.meta(row["score_stage"])
        source = _untrained(train) or source
        engine = str(score["content"].get("versions", {}).get("engine", engine))
        trials.append(
            Trial(
                trial=row["trial_id"], seed=int(row["seed"]), train_stage=row["train_stage"], score_stage=row["score_stage"],
                sealed=score["checksum"], weights_sha256=weights_sha256(train) if trained else None,
            )
        )  # fmt: skip
    return Model(
        source=scrubbed_text(_student(results, method)), weights_sha256=source, engine=engine, block=block, trained=trained, run=run,
        method=method, trials=tuple(trials),
    )  # fmt: skip


def _student(results: RunResults, method: str) -> str:
    """The name of the student that a method started from."""
    spec: dict[str, Any] = next(spec for spec in results.study["methods"] if label(spec) == method)
    return str(((spec.get("at") or {}).get("student") or results.study["student"])["model"])


def _untrained(train: Meta) -> str | None:
    student: dict[str, Any] = train["content"].get("student") or {}
    return student.get("weights")
