"""Reproduces a frozen leaderboard: every row recomputed from its kept samples, then scored again where its students can be had."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from harness.core import provenance
from harness.core.spec import MethodSpec, StudySpec
from harness.errors import EngineError, SelfteachError, SourceError
from harness.study import rescore
from harness.study.cited import reproduce_published
from harness.study.fingerprint import method_of
from harness.study.plan import local_setting
from harness.study.retrain import Retrained, seconds_to_train, train_again
from harness.verdicts.board_file import Board, Model, PublishedRow, Row, Trial
from harness.verdicts.recheck import Agreement, KeptRun, OtherItemsError, agreement, frozen_problem, verdict_of

REPRODUCED, IN_PART, DIFFERS, CANNOT, UNDECIDED = "reproduced", "reproduced in part", "differs", "cannot run here", "undecided"
VERDICTS = (REPRODUCED, IN_PART, UNDECIDED, CANNOT, DIFFERS)
SCORED, RECOMPUTED, UNCHECKED = "scored again", "recomputed", "not checked"
CHECKS = (SCORED, RECOMPUTED, UNCHECKED)
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """How far to go.

    Attributes:
        runs: folder of run folders, where trained students are looked for and trained again.
        train: train those that are not there.
        seeds: at most so many students of each model.
        student: stands in for a student that was a local folder.
    """

    runs: Path
    train: bool = False
    seeds: int | None = None
    student: Path | None = None


@dataclass(frozen=True)
class RowResult:
    """What became of one row. `recomputed`: the frozen numbers follow from the kept samples (None: there are none, or not here)."""

    id: str
    value: float
    verdict: str
    why: str
    recomputed: bool | None
    agreement: Agreement | None = None
    students: str = ""

    @property
    def checked(self) -> str:
        """What was done about it here: one of CHECKS."""
        if self.agreement is not None:
            return SCORED
        return UNCHECKED if self.recomputed is None else RECOMPUTED

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self) | {"checked": self.checked}


@dataclass(frozen=True)
class Reproduced:
    """What became of the rows, and what is wrong with stages of their runs, by run folder and stage, whether a row rests on them or not."""

    rows: list[RowResult]
    damaged: dict[Path, dict[str, str]]


@dataclass
class _Scored:
    """New samples of a model's students by trial id, what kept others from being scored, and how students are not the frozen ones."""

    samples: dict[str, pd.DataFrame] = field(default_factory=dict)
    why_not: str = ""
    differs: str = ""
    same_weights: bool = True
    same_setting: bool = False
    note: str = ""


def reproduce(
    board: Board, board_dir: Path, rows: Sequence[Row | PublishedRow], options: Options, *, console: Console, report: Report
) -> Reproduced:
    """Reproduces `rows` of a board, in their order.

    Args:
        board_dir: folder of the board's file.
        console: takes the display of training.
        report: called with (what is being scored, prompts done, prompts in all).
    """
    kept: dict[str, KeptRun] = {}
    problems: dict[str, str | None] = {}
    for row in rows:
        if isinstance(row, Row):
            name = str(board.models[row.model].run)
            if name not in kept:
                kept[name] = KeptRun(board, name, board_dir)
            problems[row.id] = None if kept[name].missing else frozen_problem(row, board.models[row.model], kept[name])
    sound = {row.model for row in rows if isinstance(row, Row) and problems[row.id] == ""}
    scored = _Scorer(board, kept, options, console, report).score(sorted(sound, key=list(board.models).index))
    results = []
    for row in rows:
        if isinstance(row, PublishedRow):
            results.append(RowResult(row.id, row.value, *reproduce_published(row, options.student, report)))
        else:
            run = kept[str(board.models[row.model].run)]
            results.append(_judged(row, board.models[row.model], run, problems[row.id], scored.get(row.model)))
    return Reproduced(results, {run.folder: run.results.damaged for run in kept.values() if run.results and run.results.damaged})


def _judged(row: Row, model: Model, kept: KeptRun, problem: str | None, scored: _Scored | None) -> RowResult:
    if problem is None:
        return RowResult(row.id, row.value, CANNOT, kept.missing, None)
    if problem:
        return RowResult(row.id, row.value, DIFFERS, problem, False)
    assert scored is not None
    assert kept.results is not None
    if scored.differs:
        return RowResult(row.id, row.value, DIFFERS, scored.differs, True)
    if not scored.samples:
        return RowResult(row.id, row.value, CANNOT, scored.why_not, True)
    chosen = [trial for trial in model.trials if trial.trial in scored.samples]
    samples = kept.results.samples[kept.results.samples["method"] == model.method]
    pairs = [(samples[samples["seed"] == trial.seed], scored.samples[trial.trial]) for trial in chosen]
    metrics = {task: kept.entry.tasks[task].metric for task in row.tasks}
    try:
        found = agreement(row, pairs, metrics, same_weights=scored.same_weights, same_setting=scored.same_setting)
    except OtherItemsError as error:
        return RowResult(row.id, row.value, DIFFERS, str(error), True)
    students = f"{len(chosen)} of {len(model.trials)} students" if len(model.trials) > 1 else ""
    verdict = IN_PART if found.verdict == REPRODUCED and len(chosen) < len(model.trials) else found.verdict
    return RowResult(
        row.id, row.value, verdict, _why(found, row, scored, students if len(chosen) < len(model.trials) else ""), True, found, students
    )


def _why(found: Agreement, row: Row, scored: _Scored, only: str) -> str:
    low, high = found.interval
    within = {REPRODUCED: "inside", DIFFERS: "outside", UNDECIDED: "not inside"}[verdict_of(found.interval, row.margin)]
    measured = f"difference {found.difference:+.4f}, 90 % interval {low:+.4f} to {high:+.4f}, {within} the margin of ±{row.margin:g}"
    if found.same == found.paired and not found.lost:
        told = f"all {found.paired} scores are the frozen ones"
    elif found.verdict == DIFFERS != verdict_of(found.interval, row.margin):
        told = (
            f"{found.paired - found.same} of {found.paired} scores are not the frozen ones, although weights, device, number format, "
            f"threads, processor and versions are the same ({measured})"
        )
    else:
        told = measured + ("; too few items, or too many without a score, to show either" if found.verdict == UNDECIDED else "")
    if found.lost:
        told += (
            f"; {found.lost} of {found.paired + found.lost} cells have a score in one of both only, and count at their worst value; "
            f"of the others {found.same} of {found.paired} are equal"
        )
    return "; ".join(filter(None, [only and f"only {only} scored", told, scored.note, scored.why_not]))


class _Scorer:
    """Has the students of the models scored, training them where that is asked for."""

    def __init__(self, board: Board, kept: dict[str, KeptRun], options: Options, console: Console, report: Report) -> None:
        self.board, self.kept, self.options, self.console, self.report = board, kept, options, console, report
        self.folders = rescore.trained_folders([*(run.folder for run in kept.values() if not run.missing), options.runs])

    def score(self, models: Sequence[str]) -> dict[str, _Scored]:
        """New samples for each of the models."""
        found = {name: self._as_they_are(name) for name in models}
        if self.options.train:
            by_run: dict[str, list[str]] = defaultdict(list)
            for name in models:
                if self.board.models[name].trained and self._missing(name, found[name]):
                    by_run[str(self.board.models[name].run)].append(name)
            for run, names in by_run.items():
                self._train(run, names, found)
        for name in models:
            if found[name].samples:
                engine, found[name].same_setting = self._setting(self.board.models[name])
                found[name].note = "; ".join(filter(None, [engine, found[name].note]))
            self._say_what_is_missing(name, found[name])
        return found

    def _trials(self, name: str) -> Sequence[Trial]:
        return self.board.models[name].trials[: self.options.seeds]

    def _missing(self, name: str, scored: _Scored) -> list[Trial]:
        return [trial for trial in self._trials(name) if trial.trial not in scored.samples]

    def _as_they_are(self, name: str) -> _Scored:
        """Scores the students whose very weights are here."""
        model, scored = self.board.models[name], _Scored()
        for trial in self._trials(name):
            try:
                found = self._found(model, trial, scored)
                if found is not None:
                    wanted = self._wanted(model, trial)
                    scored.samples[trial.trial] = rescore.score_again(found, wanted, progress=partial(self.report, trial.trial))
            except SelfteachError as error:
                scored.why_not = rescore.why_not(error)
                if isinstance(error, SourceError):
                    scored.why_not += _remedy(model.source)
        return scored

    def _found(self, model: Model, trial: Trial, scored: _Scored) -> rescore.FoundStudent | None:
        """A student's weights and those that its adapters belong to, both being the frozen ones; None where they are not here."""
        if not model.trained:
            folder, scored.differs = self._untrained(model)
            return None if scored.differs else rescore.FoundStudent(folder, trained=False)
        if trial.weights_sha256 is None:
            return None
        trained = rescore.intact(self.folders.get(trial.weights_sha256, []), trial.weights_sha256)
        if trained is None:
            return None
        base, problem = rescore.base_folder(trained, model.weights_sha256, self.options.student)
        self._refuse_another(model, problem)
        scored.differs = scored.differs or problem
        return None if problem else rescore.FoundStudent(trained, trained=True, base=base)

    def _untrained(self, model: Model) -> tuple[Path, str]:
        """As rescore.untrained_folder, of the student that a model started from."""
        source = self._study(model).student_of(self._method(model)).model
        found = rescore.untrained_folder(source, model.weights_sha256, self.options.student)
        self._refuse_another(model, found[1])
        return found

    def _refuse_another(self, model: Model, differs: str) -> None:
        """Of several local students of a board --student is one: it says nothing about the others.

        Raises:
            SourceError: it is another one's.
        """
        if differs and self.options.student is not None:
            from harness.models.sources import weights_hash

            given = weights_hash(self.options.student)
            if any(other.weights_sha256 == given for other in self.board.models.values()):
                raise SourceError(
                    f"--student names another student of this leaderboard; name the folder of {model.source} in a call of its own"
                )

    def _setting(self, model: Model) -> tuple[str, bool]:
        """What to say of an engine that is another one than the frozen, and whether everything that scores may depend on is as it was."""
        kept, study = self.kept[str(model.run)], self._study(model)
        assert kept.results is not None
        entry, recorded = kept.entry, kept.results.study["provenance"].get("machine") or {}
        try:
            engine = rescore.engine_version(study.student_of(self._method(model)).engine)
        except EngineError:
            return "", False
        note = "" if engine == model.engine else f"scored by {engine}, frozen by {model.engine}"
        here = asdict(local_setting(entry.threads)), provenance.versions(), provenance.machine()["processor"]
        then = {"device": entry.device, "precision": entry.precision, "threads": entry.threads}, entry.versions, recorded.get("processor")
        return note, not note and here == then

    def _study(self, model: Model) -> StudySpec:
        results = self.kept[str(model.run)].results
        assert results is not None
        return rescore.study_of(results.study)

    def _method(self, model: Model) -> MethodSpec:
        return method_of(self._study(model), str(model.method))

    def _wanted(self, model: Model, trial: Trial) -> rescore.Wanted:
        study, entry = self._study(model), self.kept[str(model.run)].entry
        engine = study.student_of(self._method(model)).engine
        return rescore.Wanted(tuple(study.suites), tuple(study.perturbations), entry.item_seed, entry.threads, trial.seed, engine)

    def _train(self, run: str, names: list[str], found: dict[str, _Scored]) -> None:
        kept = self.kept[run]
        assert kept.results is not None
        names = [name for name in names if self._may_train(self.board.models[name], found[name])]
        if not names:
            return
        wanted = {str(self.board.models[name].method): (self.board.models[name], self._missing(name, found[name])) for name in names}
        trained, problem = train_again(kept.results, wanted, runs=self.options.runs, student=self.options.student, console=self.console)
        for name in names:
            scored = found[name]
            mine = {trial.trial: trained[trial.trial] for trial in self._missing(name, scored) if trial.trial in trained}
            scored.samples |= {trial: student.samples for trial, student in mine.items()}
            scored.why_not = problem
            _note_other_weights(scored, mine, kept)

    def _may_train(self, model: Model, scored: _Scored) -> bool:
        """Whether the untrained student is here and the frozen one; says so where it is not."""
        try:
            _, problem = self._untrained(model)
        except SelfteachError as error:
            scored.why_not = rescore.why_not(error)
            return False
        scored.differs = scored.differs or problem
        return not scored.differs

    def _say_what_is_missing(self, name: str, scored: _Scored) -> None:
        model, missing = self.board.models[name], self._missing(name, scored)
        if not missing or not model.trained or scored.why_not:
            return
        results = self.kept[str(model.run)].results
        assert results is not None
        minutes = seconds_to_train(results, missing) / 60
        count = f"{len(missing)} student{'s' if len(missing) > 1 else ''}"
        scored.why_not = (
            f"the weights of {count} are not in {self.options.runs}; --train trains them again "
            f"(about {max(1, round(minutes))} min of one worker where the run was made; --limit-seeds trains fewer)"
        )


def _note_other_weights(scored: _Scored, trained: dict[str, Retrained], kept: KeptRun) -> None:
    others = [student for student in trained.values() if not student.same_weights]
    if trained and not others:
        scored.note = "trained again to the same weights"
    if others:
        scored.same_weights = False
        entry, versions = kept.entry, provenance.versions()
        changed = [
            f"{name} {entry.versions.get(name)} → {versions[name]}" for name in versions if entry.versions.get(name) != versions[name]
        ]
        setting = f"{entry.device}, {entry.precision}, {entry.threads} threads"
        if others[0].setting != setting:
            changed.append(f"{setting} → {others[0].setting}")
        scored.note = f"trained again to other weights ({'; '.join(changed) or 'another processor or code'})"


def _remedy(source: str) -> str:
    return "" if source.startswith("file:") else f" (`selfteach models fetch {source}`)"
