"""Frozen leaderboards, results/leaderboards/*.yaml: what was measured, on what, and what it would take to measure it again.

A board has `rows`, frozen from runs whose samples are kept, and `published` rows, cited from others' papers and model cards. Rows name
their model, run and source by a key of `models`, `runs` and `sources`, so that each is said once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, StrictInt, model_validator

from harness.core.yaml_file import YamlFile
from harness.errors import SpecError

DECIMALS = 6
"""Of frozen values and interval ends; a recomputed value must have the same digits."""
MOST_MARGIN = 0.1
"""A tenth of the scale; within a wider margin nearly any two models are the same."""
EVERY_TASK = "mean"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Key = Annotated[str, Field(min_length=1)]


def _without_address(text: str) -> str:
    if "://" in text:
        raise ValueError("expected no web address: name paper, table and arXiv number")
    return text


Citation = Annotated[str, Field(min_length=1), AfterValidator(_without_address)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Trial(Strict):
    """One student of a model: which trial of the run, and the checksums of its kept samples and its weights."""

    trial: str
    seed: StrictInt
    train_stage: str
    score_stage: str
    sealed: Sha256
    """Checksum of the score stage's meta.json, which holds those of its samples."""
    weights_sha256: Sha256 | None = None


class Model(Strict):
    """What a row is about.

    Attributes:
        source: where the untrained weights are from, as `selfteach models` names it; `file:` names a folder that was local.
        weights_sha256: of those weights; a model that rows were frozen of has it.
        engine: what scored it: "transformers" (in the version that its run names), or vLLM with its version.
        block: budget or student of a sweep at which it ran; models of different blocks are never ranked together.
        run, method, trials: of a model frozen from a run.
        memory_gb: what scoring it takes, where that is known.
    """

    source: str
    weights_sha256: Sha256 | None = None
    engine: str = "transformers"
    block: str = ""
    licence: str = ""
    trained: bool = False
    run: str | None = None
    method: str | None = None
    trials: tuple[Trial, ...] = ()
    memory_gb: float | None = Field(default=None, gt=0)
    note: str = ""


class TaskEntry(Strict):
    """A task as a run scored it. `items_sha256` covers ids, prompts and targets of the clean items that were asked."""

    suite: str
    version: str
    metric: str
    limit: StrictInt | None = Field(default=None, ge=1)
    n: StrictInt = Field(ge=1)
    items_sha256: Sha256
    chance: float | None = None
    higher_is_better: bool = True


class Run(Strict):
    """A run that rows were frozen from; `path` is relative to the board's file."""

    path: str
    study: str
    date: str | None = None
    commit: str | None = None
    device: str
    precision: str
    threads: StrictInt = Field(ge=1)
    item_seed: StrictInt
    """Seed of sampled replies; which items are scored follows from their ids."""
    versions: dict[str, str]
    tasks: dict[str, TaskEntry] = Field(min_length=1)


class Row(Strict):
    """A frozen score: the mean over `tasks` (equal weights) of a model's students, on one version of the items."""

    id: Key
    model: str
    tasks: tuple[str, ...] = Field(min_length=1)
    perturbation: str = "clean"
    metric: str
    value: StrictFloat
    interval: tuple[StrictFloat, StrictFloat]
    interval_by: str
    n: StrictInt = Field(ge=1)
    seeds: StrictInt = Field(ge=1)
    margin: StrictFloat = Field(gt=0, le=MOST_MARGIN)
    """A new score this close to the frozen one is the same."""

    @model_validator(mode="after")
    def _value_inside(self) -> Row:
        if not self.interval[0] <= self.value <= self.interval[1]:
            raise ValueError("value must lie in its interval")
        return self


class Source(Strict):
    """Where published numbers stand, and how they were measured according to it."""

    title: Citation
    table: Citation
    arxiv: str | None = Field(default=None, pattern=r"^\d{4}\.\d{4,5}$")
    read_in: Citation
    """The stored copy that the numbers were read in: repository, path, commit."""
    harness: Citation
    settings: Citation
    licence: Citation


class Rescoring(Strict):
    """How a published row can be scored here: which model and task, and how close counts as reproduced."""

    source: str
    suite: str
    task: str
    metric: str
    limit: int | None = Field(default=None, ge=1)
    """Items to score; None: all that the task has here."""
    margin: float = Field(gt=0, le=MOST_MARGIN)
    differs_in: tuple[str, ...] = ()
    """What is not as in the source, such as a subset of the items."""


class PublishedRow(Strict):
    """A number as published."""

    id: Key
    model: str
    task: str
    metric: str
    value: float = Field(ge=0, le=1)
    stderr: float | None = Field(default=None, gt=0)
    shots: int | None = Field(default=None, ge=0)
    source: str
    rescoring: Rescoring | None = None


class Board(Strict):
    """A frozen leaderboard."""

    board: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    schema_version: Literal[1]
    title: str = ""
    notes: tuple[str, ...] = ()
    models: dict[str, Model] = {}
    runs: dict[str, Run] = {}
    rows: tuple[Row, ...] = ()
    sources: dict[str, Source] = {}
    published: tuple[PublishedRow, ...] = ()

    @property
    def every(self) -> tuple[Row | PublishedRow, ...]:
        """All rows, frozen ones first."""
        return (*self.rows, *self.published)

    @model_validator(mode="after")
    def _not_empty(self) -> Board:
        if not self.rows and not self.published:
            raise ValueError("expected at least one entry in rows or published")
        return self


def load_board(path: Path) -> Board:
    """Reads and checks a board.

    Raises:
        SpecError: the first mistake, with file and line, key, value and what was expected.
    """
    file = YamlFile(path, "leaderboard")
    content = file.read()
    if not isinstance(content, dict):
        raise SpecError("a leaderboard file must be a mapping of keys such as board, models, runs, rows", file=path)
    board = file.validated(Board, content)
    _check_names(board, file)
    return board


def _check_names(board: Board, file: YamlFile) -> None:
    """That every name a row or model uses is one of the file's keys, and no id stands twice."""
    for name, model in board.models.items():
        if model.run is not None and model.run not in board.runs:
            raise file.fail("no such run in this file", ("models", name, "run"), model.run, board.runs)
    seen: set[str] = set()
    for place, row in enumerate(board.every):
        group, index = ("rows", place) if isinstance(row, Row) else ("published", place - len(board.rows))
        if row.id in seen:
            raise file.fail("another row has this id", (group, index, "id"), row.id)
        seen.add(row.id)
        if row.model not in board.models:
            raise file.fail("no such model in this file", (group, index, "model"), row.model, board.models)
        if isinstance(row, Row):
            _check_row(board, file, index, row)
        elif row.source not in board.sources:
            raise file.fail("no such source in this file", (group, index, "source"), row.source, board.sources)


def _check_row(board: Board, file: YamlFile, index: int, row: Row) -> None:
    model = board.models[row.model]
    if model.run is None or model.method is None or not model.trials:
        raise file.fail("a row of this group needs a model with run, method and trials", ("rows", index, "model"), row.model)
    if model.weights_sha256 is None:
        raise file.fail(
            "a model that rows were frozen of needs the sha256 of its untrained weights", ("models", row.model, "weights_sha256")
        )
    if (
        model.trained
        and (bare := next((place for place, trial in enumerate(model.trials) if trial.weights_sha256 is None), None)) is not None
    ):
        raise file.fail("a trained student needs the sha256 of its weights", ("models", row.model, "trials", bare, "weights_sha256"))
    tasks = board.runs[model.run].tasks
    for task in row.tasks:
        if task not in tasks:
            raise file.fail(f"run {model.run} has no such task", ("rows", index, "tasks"), task, tasks)


def dump_board(board: Board) -> str:
    """The board as YAML; keys that say nothing are left out."""
    content: dict[str, Any] = board.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=140, allow_unicode=True)
