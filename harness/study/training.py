"""Training inside a worker: a trial's student, the students kept along its run, and the candidates of a tuning grid."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.core import grid, parts, plugins
from harness.core.budget import Caps, Ledger
from harness.core.spec import StudySpec
from harness.core.store import Meta, RunStore, write_json
from harness.errors import BudgetExceeded, CapReached, SpecError, TrainingError
from harness.models.student import Student
from harness.models.tracking import StageTracker
from harness.scoring import suites as scoring
from harness.scoring.cost import Prices, cost
from harness.seeds import generator
from harness.study import prepared
from harness.study.fingerprint import method_of
from harness.study.progress import ProgressWriter
from harness.study.stage import (
    CHECKPOINT_MODELS,
    CHECKPOINTS,
    HELD_OUT,
    ITEM,
    TRAINED_ON,
    TRAINED_ON_ROWS,
    StageTask,
    evaluation_ngrams,
    score_seed,
    spent_by_account,
    suite_spec,
    torch_seed,
    write_accounts,
    write_pairs,
)
from harness.study.tuning import chosen, validation_score

TENSORBOARD = "tensorboard"
"""Folder of a run with TensorBoard's files."""


def run_train_stage(task: StageTask, folder: Path, progress: ProgressWriter) -> Meta:
    """Trains one student and writes its model, ledger and curves into `folder`; what the method itself writes lies beside them.

    Where the first part was computed for several trials, training goes on from there, and the trial is charged the whole of it.
    """
    stage = task.stage
    values = chosen(task) if stage.content.get("tuned") else {}
    training, kept = _open(task, folder, progress)
    ledger, first, loaded_s = training.ledger, None, 0.0
    if stage.prepared is not None:
        loaded_s, first = ledger.wall_s(), _resume(task, training, folder)
        kept += first.kept
    with _tracked(task, training, values):
        ended_by = training.train(values, folder) if first is None else training.go_on(values, folder, first.ended_by)
    shared: Meta = {}
    if first is not None:
        # The seconds that the trial is charged but did not take: its own loading stands for that of the first part.
        shared = {"shared": {"stage": stage.prepared, "flops": first.train_flops, "wall_s": round(first.wall_s - loaded_s, 3)}}
    budget_flops = _budget_flops(task)
    if not getattr(training.method_class, "seedless", False) and ledger.spent() == 0:
        # Scored, it would pass for a trained student.
        if ended_by:
            raise SpecError(f"too small: {stage.label} was ended before its first step: {ended_by}", key="budget.caps")
        raise SpecError(f"too small: {stage.label} could not afford a single step", key="budget.train_flops", value=budget_flops)
    training.student.save(folder / "model")
    if stage.content.get("checkpoints"):
        kept.append({"share": 1.0, **_spend(ledger)})
        (folder / CHECKPOINTS).write_text(json.dumps(kept, indent=1) + "\n")
    _write_pairs(folder, training)
    for name, report in training.pool.reports().items() if hasattr(training.pool, "reports") else ():
        write_json(folder / name, report)
    write_accounts(ledger, folder)
    return _accounts(ledger, budget_flops) | shared | ({"ended_by": ended_by} if ended_by else {}) | ({"tuned": values} if values else {})


def run_prepare_stage(task: StageTask, folder: Path, progress: ProgressWriter) -> Meta:
    """The first part of training that several trials have in common: see harness.study.prepared for what it leaves."""
    training, kept = _open(task, folder, progress)
    (folder / prepared.MADE).mkdir()
    ended_by = training.begin({}, folder / prepared.MADE)
    prepared.save(folder, training.student, training.pool, training.ledger, kept=kept, ended_by=ended_by)
    write_accounts(training.ledger, folder)
    return _accounts(training.ledger, _budget_flops(task)) | ({"ended_by": ended_by} if ended_by else {})


def _budget_flops(task: StageTask) -> float:
    """FLOPs that the stage's trial may spend."""
    return float(task.stage.content["train_flops"])


def _open(task: StageTask, folder: Path, progress: ProgressWriter) -> tuple[_Training, list[dict[str, Any]]]:
    """Training at its start, and the list of kept students, which grows as the ledger passes their shares."""
    shares, budget_flops = task.stage.content.get("checkpoints", []), _budget_flops(task)
    kept: list[dict[str, Any]] = []
    training = _Training(task, Ledger(budget_flops, caps=_caps(task.study), on_change=_reports(progress)))
    if shares:
        student, ledger = training.student, training.ledger
        by_mark = {share * budget_flops: share for share in shares}
        ledger.watch(list(by_mark), lambda mark: kept.append(_keep(student, ledger, by_mark[mark], folder)))
    return training, kept


def _resume(task: StageTask, training: _Training, folder: Path) -> prepared.Prepared:
    store, upstream = RunStore(task.run_dir), task.stage.prepared
    assert upstream is not None
    store.verify(upstream)  # damage would go into every trial that is built on it
    return prepared.resume(store.folder(upstream), training.student, training.pool, training.ledger, folder)


def _accounts(ledger: Ledger, budget_flops: float) -> Meta:
    found = {"counters": ledger.counters, "spent": spent_by_account(ledger), "budget_flops": budget_flops, "notes": ledger.notes}
    return found | ({"tracking_s": round(ledger.tracker.spent_s, 3)} if ledger.tracker is not None else {})


def run_tune_stage(task: StageTask, folder: Path, progress: ProgressWriter) -> Meta:
    """Trains one candidate of a grid on account "tune" and scores it on the validation suites; keeps its score, not its model.

    A candidate whose training breaks off for reasons of its own (a diverging loss, a budget too small for it), or whose output cannot be
    ranked, has no score.
    """
    stage = task.stage
    flops, validation = float(stage.content["train_flops"]), [suite_spec(suite) for suite in stage.content["validation"]]
    training = _Training(task, Ledger(flops, account="tune", bound="tune", on_change=_reports(progress)))
    ledger, error = training.ledger, ""
    try:
        training.train(stage.content["values"], folder)
    except (TrainingError, BudgetExceeded) as refused:
        error = str(refused)
    except SpecError as refused:
        if refused.key != "budget.train_flops":  # how methods say that they cannot do with so little
            raise
        error = str(refused).replace("budget.train_flops", "tune.flops, its share", 1)
    if not error and ledger.spent() == 0:
        error = f"{flops:.3g} FLOPs do not pay for a single step"
    score, items = None, 0
    if not error:
        training.student.save(folder / "model")
        training.student.engine.close()
        student = Student.restore(folder / "model", engine=task.study.student.engine)
        student.attach(ledger)
        samples = scoring.score(student, validation, [], ledger=ledger, seed=score_seed())
        items = len(samples.drop_duplicates(ITEM))
        try:
            score = validation_score(samples, validation)
        except TrainingError as broken:
            error = str(broken)
    for path in list(folder.iterdir()):  # a candidate's corpus or policy is nobody's result
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_accounts(ledger, folder)
    found = {"values": stage.content["values"], "score": score, "items": items, "error": error}
    return found | {"counters": ledger.counters, "spent": spent_by_account(ledger), "budget_flops": flops}


class _Training:
    """Student, pool and method of a stage, on one ledger."""

    def __init__(self, task: StageTask, ledger: Ledger) -> None:
        study, self.stage, self.ledger = task.study, task.stage, ledger
        self.method = method_of(study, self.stage.label)
        self.config = self.method.config if self.stage.kind != "prepare" else self.stage.content["method"]["config"]
        self.method_class = plugins.load("methods", self.method.name)
        student = study.student_of(self.method)
        self.student = Student.load(
            student.model, adaptation=student.adaptation, seed=torch_seed("trial", self.stage.seed, "init"), engine=student.engine
        )
        self.student.attach(ledger)
        pool_class = plugins.load("pools", study.pool.name)
        self.pool = pool_class(
            pool_class.Config(**self.stage.content["pool"]["config"]),
            ledger=ledger,
            rng=generator("trial", self.stage.seed, "pool"),
            ngrams=evaluation_ngrams(study.suites),
        )
        torch.manual_seed(torch_seed("trial", self.stage.seed, "torch"))

    def train(self, values: grid.Values, out: Path) -> str:
        """Has the method train the student under its configuration with `values` set; why a cap ended it before its time, or nothing.

        Raises:
            TrainingError: the last update, after which nobody looked at a loss, left weights that are not finite.
        """
        if parts.in_two_parts(self.method_class):
            return self.go_on(values, out, self.begin(values, out))
        return self._checked(self._step(lambda config, rng: self.method_class().train(**self._given(rng, config, out)), values))

    def begin(self, values: grid.Values, out: Path) -> str:
        """The method's first part; why a cap ended it, or nothing."""

        def step(config: Any, rng: np.random.Generator) -> Student:
            self.method_class().begin(**self._given(rng, parts.first_config(self.method_class, config), out))
            return self.student

        return self._step(step, values)

    def go_on(self, values: grid.Values, out: Path, ended_by: str) -> str:
        """What follows the first part, unless a cap has ended that; as `train`."""
        if ended_by:
            return self._checked(ended_by)
        return self._checked(self._step(lambda config, rng: self.method_class().finish(**self._given(rng, config, out)), values))

    def _checked(self, ended_by: str) -> str:
        if not all(bool(torch.isfinite(weight).all()) for weight in self.student.trainable):
            raise TrainingError(f"{self.stage.label} diverged: the last update left weights that are not finite; lower its learning_rate")
        return ended_by or self.ledger.capped

    def _given(self, rng: np.random.Generator, config: Any, out: Path) -> dict[str, Any]:
        return {"student": self.student, "pool": self.pool, "ledger": self.ledger, "rng": rng, "config": config, "out": out}

    def _step(self, do: Callable[[Any, np.random.Generator], Student], values: grid.Values) -> str:
        """One part of training, with the trial's random stream from its start; why a cap ended it before its time, or nothing."""
        config = self.method_class.Config(**grid.with_values(self.config, values))
        try:
            self.student = do(config, generator("trial", self.stage.seed, "method", self.method.name))
        except CapReached as reached:
            self.student.model.eval()
            return str(reached)
        return ""


@contextlib.contextmanager
def _tracked(task: StageTask, training: _Training, values: grid.Values) -> Iterator[None]:
    """Reports the curves of the block to the trackers that were asked for."""
    study, stage, method, ledger = task.study, task.stage, training.method, training.ledger
    if not task.report_to:
        yield
        return
    fold = f"-{stage.note.replace(' ', '-')}" if stage.note else ""
    config = training.method_class.Config(**grid.with_values(method.config, values)).model_dump(mode="json")
    tracker = StageTracker(
        task.report_to,
        # The beginning of the stage's id tells runs of a study under other settings apart.
        run_name=f"{study.name}-{method.label.replace(':', '-')}-{stage.seed}{fold}-{stage.id[:6]}",
        group=study.name,
        settings={
            "study": study.name,
            "method": method.label,
            "seed": stage.seed,
            "stage": stage.id,
            "student": study.student_of(method).model,
            "adaptation": study.student_of(method).adaptation.model_dump(mode="json"),
            "pool": study.pool.name,
            "train_flops": stage.content["train_flops"],
            **{f"config.{key}": value for key, value in config.items()},
        },
        folder=task.run_dir / TENSORBOARD,
        note=ledger.note,
    )
    ledger.tracker = tracker
    for point in ledger.curves:  # of a first part that was computed for several trials
        tracker.log({point.curve: point.value}, point.train_flops)
    try:
        yield
    finally:
        tracker.close()


def _caps(study: StudySpec) -> Caps:
    caps, prices = study.budget.caps, Prices(**study.prices)
    if caps.usd is None:
        return Caps(**caps.model_dump())
    return Caps(**caps.model_dump(), price=lambda counters, wall_s: cost(counters, wall_s, prices).total_usd)


def _reports(progress: ProgressWriter) -> Callable[[Ledger], None]:
    return lambda ledger: progress.report(ledger.spent(), phase=ledger.phase)


def _keep(student: Student, ledger: Ledger, share: float, folder: Path) -> dict[str, Any]:
    """Saves the student as it is now, and says what was spent to get there."""
    student.save(folder / CHECKPOINT_MODELS / f"{share:g}")
    return {"share": share, **_spend(ledger)}


def _spend(ledger: Ledger) -> dict[str, Any]:
    return {"train_flops": ledger.spent(), "tokens": ledger.tokens(), "wall_s": round(ledger.wall_s(), 3), **ledger.counters}


def _write_pairs(folder: Path, training: _Training) -> None:
    """What a membership attack needs: a sample of what the student was trained on, and as much of the pool that it never saw.

    Both are drawn after training from a stream of their own, and neither is counted: nothing learns from them.
    """
    rng = generator("trial", training.stage.seed, "trained_on")
    pairs = list(training.student.trained_on)
    members = [pairs[index] for index in sorted(rng.permutation(len(pairs))[:TRAINED_ON_ROWS])]
    if not members:
        return
    write_pairs(folder / TRAINED_ON, members)
    if hasattr(training.pool, "held_out"):
        unseen = training.pool.held_out(len(members), rng=rng)
        render = training.student.render
        write_pairs(
            folder / HELD_OUT, [(render([{"role": "user", "content": shown.instruction.text}]), shown.response) for shown in unseen]
        )
