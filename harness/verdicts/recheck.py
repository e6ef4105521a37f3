"""Whether frozen rows still are what their run's kept files say, and whether new samples of a row say the same."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel

from harness.core.records import Status
from harness.core.results import RunResults, load_run
from harness.core.store import RunStore
from harness.errors import SelfteachError, SpecError, StoreError
from harness.stats.clustered import FloatArray
from harness.stats.crossed import TaskScores, contrast, moments
from harness.stats.equivalence import equivalence, rope
from harness.stats.intervals import wilson
from harness.verdicts.board_file import Board, Model, Row
from harness.verdicts.frames import NotTestableError, Scores
from harness.verdicts.frozen import block_of, items_sha256, model_entry, model_prefix, row_entry, row_id, run_entry, same

LEVEL = 0.9
"""Of the interval that must lie inside the margin: two one-sided tests at 5 %."""
_OF_MODELS = frozenset({"licence", "memory_gb", "note"})
"""Fields of a model that no run says."""
MOST_FLIPS = 0.05
"""Share of unequal scores, by the lower end of its 95 % interval, beyond which students of the same weights in the same setting are not the
same: rounding flips about 2 %."""


class KeptRun:
    """A board's run on this disk; read once, each stage's seal checked once."""

    def __init__(self, board: Board, name: str, board_dir: Path) -> None:
        self.name, self.entry = name, board.runs[name]
        self.prefix = model_prefix(name, len(board.runs))
        self.folder, self.missing = Path(self.entry.path), ""
        self.results: RunResults | None = None
        try:
            self.folder = Path(os.path.relpath((board_dir / self.entry.path).resolve()))
            here = (self.folder / "study.json").is_file()
        except (OSError, ValueError):  # too long a path, or one that no disk can have
            here = False
        if not here:
            self.missing = f"its run is not here: {self.folder}"
        self.damage = ""
        self._seals: dict[str, str] = {}
        self._items: dict[str, str] = {}
        self._entry_problem: str | None = None
        self._model_problems: dict[str, str] = {}
        if self.missing:
            return
        try:
            self.results = load_run(self.folder, conclusions=False, without_damaged=True)
            self.scores = Scores(self.results)
        except SelfteachError as error:
            self.damage = str(error)

    def seal_problem(self, stage: str, sealed: str) -> str:
        """What is wrong with a stage, or nothing."""
        if stage not in self._seals:
            store = RunStore(self.folder)
            try:
                store.verify(stage)
                self._seals[stage] = str(store.meta(stage)["checksum"])
            except StoreError as error:
                return str(error)
        return "" if self._seals[stage] == sealed else f"stage {stage} is another one than the one that was frozen"

    def entry_problem(self) -> str:
        """What the board says of the run that the run does not."""
        assert self.results is not None
        if self._entry_problem is None:
            unknown = [task for task in self.entry.tasks if task not in self.scores.info]
            if unknown:
                return f"the run has no task {unknown[0]}"
            found = run_entry(self.results, list(self.entry.tasks), path=self.entry.path, item_seed=self.entry.item_seed)
            self._entry_problem = first_difference(self.entry, found, at=f"runs.{self.name}")
        return self._entry_problem

    def model_problem(self, name: str, model: Model) -> str:
        """What the board says of a model that the run does not."""
        assert self.results is not None
        if name not in self._model_problems:
            method = str(model.method)
            found = model_entry(self.results, self.name, method, block_of(self.results, method))
            self._model_problems[name] = first_difference(model, found, at=f"models.{name}", unless=_OF_MODELS)
        return self._model_problems[name]

    def items_problem(self, task: str) -> str:
        """Whether a task's items are the frozen ones."""
        assert self.results is not None
        if task not in self._items:
            self._items[task] = items_sha256(self.results.samples, task)
        return "" if self._items[task] == self.entry.tasks[task].items_sha256 else f"the kept items of {task} are not the frozen ones"


def frozen_problem(row: Row, model: Model, kept: KeptRun) -> str:
    """Why a row is not what its kept samples say; nothing if value, interval, items and checksums are."""
    if kept.damage:
        return kept.damage
    assert kept.results is not None
    for trial in model.trials:
        problem = kept.results.damaged.get(trial.train_stage) or kept.seal_problem(trial.score_stage, trial.sealed)
        if problem:
            return problem
    for task in row.tasks:
        problem = kept.items_problem(task)
        if problem:
            return problem
    finished = kept.results.trials[(kept.results.trials["method"] == model.method) & (kept.results.trials["status"] == "finished")]
    stages = {str(stage) for stage in finished["score_stage"]}
    if stages != {trial.score_stage for trial in model.trials}:
        return "the run's students of this method are not those that were frozen"
    return kept.entry_problem() or kept.model_problem(row.model, model) or _row_problem(row, model, kept)


def _row_problem(row: Row, model: Model, kept: KeptRun) -> str:
    """Which of a row's numbers and words does not follow from the kept samples."""
    assert kept.results is not None
    name = f"{kept.prefix}{model.method}"
    row_name = row_id(name, row.tasks, row.perturbation)
    try:
        found = row_entry(
            kept.results, kept.scores, str(model.method), row.tasks, row.perturbation, name=row_name, model=name, margin=row.margin
        )
    except (NotTestableError, SpecError) as error:
        return f"the kept samples have no score for it: {error}"
    return first_difference(row, found)


def first_difference(written: BaseModel, found: BaseModel, *, at: str = "", unless: frozenset[str] = frozenset()) -> str:
    """The first field of a board's entry that is not what the run gives, named with its place under `at`; nothing if there is none.

    Args:
        unless: fields that a run does not say.
    """
    return _difference(written.model_dump(mode="json", exclude=set(unless)), found.model_dump(mode="json", exclude=set(unless)), at)


def _difference(written: Any, found: Any, at: str) -> str:
    if isinstance(written, dict) and isinstance(found, dict):
        parts = [(f"{at}.{key}" if at else str(key), written.get(key), found.get(key)) for key in dict.fromkeys([*written, *found])]
    elif isinstance(written, list) and isinstance(found, list) and len(written) == len(found):
        parts = [(f"{at}[{place}]", *pair) for place, pair in enumerate(zip(written, found, strict=True))]
    elif written == found or (isinstance(written, int | float) and isinstance(found, int | float) and same(written, found)):
        return ""
    else:
        return f"{at} is written as {_shown(written)}, the run gives {_shown(found)}"
    return next(filter(None, (_difference(first, second, place) for place, first, second in parts)), "")


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


@dataclass(frozen=True)
class Agreement:
    """New scores of a row beside the frozen ones, on the same items of the same students.

    Attributes:
        frozen, new: means on the items that have a score in both.
        difference, interval: new − frozen, with the 90 % interval that TOST at 5 % looks at.
        p_value: of "they differ by the margin or more".
        same, paired: cells (student and item) with the same score, and all of them.
        agreement: 95 % Wilson interval of same/paired.
        lost: cells with a score in one of both only; `interval` counts each at its worst, once in either direction.
        verdict: "reproduced", "differs" or "undecided".
        repeatable: weights and setting were those of the run, so that scores ought to be equal; too many that are not make it differ.
    """

    frozen: float
    new: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    same: int
    paired: int
    agreement: tuple[float, float]
    lost: int
    n_seeds: int
    verdict: str
    repeatable: bool = False


class OtherItemsError(Exception):
    """New samples are of other items than the frozen ones; the message says how."""


def agreement(
    row: Row,
    pairs: Sequence[tuple[pd.DataFrame, pd.DataFrame]],
    metrics: Mapping[str, str],
    *,
    same_weights: bool,
    same_setting: bool = False,
) -> Agreement:
    """Tests whether new scores of a row are the frozen ones within the row's margin.

    A cell that has lost its score, or got one, counts at its worst: the interval reaches from its low end with every such cell at the
    lowest difference that the other score allows to its high end with every one at the highest.

    Args:
        pairs: for each student its frozen and its new samples (SAMPLE_COLUMNS).
        metrics: the metric that counts, by task.
        same_weights: whether the students are the very same; of students that were trained again seeds are random too.
        same_setting: whether device, number format, threads, processor, versions and engine are those of the run.
    Raises:
        OtherItemsError: prompts or items differ, or no item has both scores.
    """
    found = [_paired(row, task, metrics[task], pairs) for task in row.tasks]
    cell_N_2 = np.concatenate([task.cells for task in found])
    lost = sum(task.lost for task in found)
    equal = int(np.isclose(cell_N_2[:, 0], cell_N_2[:, 1], rtol=0, atol=1e-9).sum())
    frozen, new = np.mean([task.cells.mean(axis=0) for task in found], axis=0).tolist()
    repeatable = same_weights and same_setting
    if equal == len(cell_N_2) and not lost:
        difference, interval, p_value, verdict = 0.0, (0.0, 0.0), 0.0, "reproduced"
    else:
        pooled = same_weights or len(pairs) == 1
        ends = [contrast(moments([task.scores(end, pooled) for task in found]), (-1, 1), level=LEVEL) for end in (0, 1)]
        interval = (ends[0].interval[0], ends[1].interval[1])
        difference, p_value = new - frozen, max(equivalence(end, row.margin).p_value for end in ends)
        verdict = verdict_of(interval, row.margin)
        if repeatable and wilson(len(cell_N_2) - equal, len(cell_N_2))[0] > MOST_FLIPS:
            verdict = "differs"
    share = wilson(equal, len(cell_N_2))
    return Agreement(
        frozen, new, difference, interval, p_value, equal, len(cell_N_2), share, lost, len(pairs), verdict, repeatable
    )  # fmt: skip


def verdict_of(interval: tuple[float, float], margin: float) -> str:
    """What the interval of a difference says about a row with this margin."""
    decided = rope(interval, (-margin, margin))
    return {"practically equal": "reproduced", "practically different": "differs", "undecided": "undecided"}[decided]


@dataclass(frozen=True)
class _PairedTask:
    """Frozen and new scores (NaN where there is none) of one task: students, items, both."""

    values_S_N_2: FloatArray
    clusters_N: npt.NDArray[Any]
    lost: int

    @property
    def cells(self) -> FloatArray:
        """(cells, 2): those with both scores."""
        flat = self.values_S_N_2.reshape(-1, 2)
        return flat[~np.isnan(flat).any(axis=1)]

    def scores(self, end: int, pooled: bool) -> TaskScores:
        """With every missing score where it makes new − frozen lowest (end 0) or highest (1); `pooled`: items' means over the students."""
        seen = self.values_S_N_2[~np.isnan(self.values_S_N_2)]
        low, high = min(0.0, float(seen.min())), max(1.0, float(seen.max()))
        worst_2 = np.array([high, low] if end == 0 else [low, high])
        filled_S_N_2 = np.where(np.isnan(self.values_S_N_2), worst_2, self.values_S_N_2)
        return TaskScores(filled_S_N_2.mean(axis=0, keepdims=True) if pooled else filled_S_N_2, self.clusters_N)


def _paired(row: Row, task: str, metric: str, pairs: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> _PairedTask:
    """The items of a task that have a score, frozen or new, of every student."""
    found, lost = [], 0
    for frozen, new in pairs:
        before, after = (_scores(samples, task, metric, row.perturbation) for samples in (frozen, new))
        shared = before.index.intersection(after.index)
        changed = shared[(before.loc[shared, "prompt"] != after.loc[shared, "prompt"]).to_numpy()]
        if len(changed):
            raise OtherItemsError(f"{len(changed)} of {len(shared)} prompts of {task} are not the frozen ones ({changed[0]}, ...)")
        if len(shared) < max(len(before), len(after)):
            raise OtherItemsError(f"{task}: {len(before)} items frozen, {len(after)} scored now, {len(shared)} the same")
        wide = pd.DataFrame({"frozen": before["value"], "new": after["value"], "cluster": before["cluster"]}).loc[shared]
        n_scores = wide[["frozen", "new"]].notna().sum(axis=1)
        lost += int((n_scores == 1).sum())
        found.append(wide[n_scores > 0])
    shared = found[0].index
    for frame in found[1:]:
        shared = shared.intersection(frame.index)
    clusters_N = found[0].loc[shared, "cluster"].to_numpy()
    values_S_N_2 = np.stack([frame.loc[shared, ["frozen", "new"]].to_numpy(dtype=float, na_value=np.nan) for frame in found])
    both_N = ~np.isnan(values_S_N_2).any(axis=(0, 2))
    if pd.Series(clusters_N[both_N]).nunique() < 2:
        raise OtherItemsError(f"{task}: fewer than 2 items have both scores")
    return _PairedTask(values_S_N_2, clusters_N, lost)


def _scores(samples: pd.DataFrame, task: str, metric: str, perturbation: str) -> pd.DataFrame:
    mine = samples[(samples["task"] == task) & (samples["metric"] == metric) & (samples["perturbation"] == perturbation)]
    values = mine["value"].astype("Float64").where(mine["status"] == Status.SCORED)
    frame = pd.DataFrame({"value": values, "prompt": mine["prompt"], "cluster": mine["cluster"], "sample_id": mine["sample_id"]})
    return frame.set_index("sample_id").sort_index()
