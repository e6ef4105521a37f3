"""One study from its file to its report: plan, do what is missing, judge, render."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from harness.core import provenance
from harness.core.published import is_published
from harness.core.spec import StudySpec
from harness.core.store import RunStore, is_disk_full, write_json, write_text
from harness.errors import SourceError, SpecError, StageFailed, StoreError
from harness.scoring.suites import select
from harness.study.calibration import calibrate, makespan_s, predict, stage_items
from harness.study.display import RunDisplay, duration
from harness.study.place import Place
from harness.study.plan import Plan, Setting, Stage, fold_suites, local_setting, needed, plan_study
from harness.study.plan import folds as fold_families
from harness.study.schedule import Outcome, disk_full_message
from harness.study.tuning import write_tuned
from harness.verdicts.claims import find_claims

RUNS = Path("results/runs")
CLAIMS = "claims"
"""Folder of a run with copies of its claim files."""


@dataclass(frozen=True)
class Layout:
    """How many worker processes, and threads in each."""

    workers: int
    threads: int

    @classmethod
    def of(cls, workers: int | None, threads: int | None = None, *, gpus: int = 0) -> Layout:
        """`workers` processes (by default one a GPU, else one a core) with `threads` each (by default an even share of the cores)."""
        count = workers or gpus or max(1, provenance.cores() // (threads or 1))
        return cls(count, threads or max(1, provenance.cores() // count))


@dataclass(frozen=True)
class RunSummary:
    """What a run did. `failed` maps stage names to messages."""

    run_dir: Path
    report: Path | None
    computed: int
    reused: int
    failed: dict[str, str] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)
    wall_s: float = 0.0

    def check(self) -> None:
        """Raises:
        StageFailed: a stage failed.
        """
        if not self.failed:
            return
        by_message: dict[str, list[str]] = {}  # no network, say, fails every stage in the same words
        for name, message in self.failed.items():
            by_message.setdefault(message, []).append(name)
        lines = [f"{', '.join(names)}: {message}" for message, names in by_message.items()]
        skipped = f"\n{len(self.blocked)} more could not start without them." if self.blocked else ""
        raise StageFailed(
            f"{len(self.failed)} stage(s) failed; the others are kept and the same command tries these again:\n  "
            + "\n  ".join(lines)
            + f"{skipped}\nTracebacks: {self.run_dir / 'stages' / 'failed'}"
        )


def make_plan(study: StudySpec, layout: Layout, setting: Setting | None = None) -> Plan:
    """The study's plan; fetches the student's weights if they are not here yet, because ids cover them.

    Args:
        setting: of the machines that will run it; this one's by default.
    """
    others = {study.student_of(method).model for method in study.methods} - {study.student.model}
    return plan_study(
        study,
        weights=_weights(study.student.model),
        setting=setting or local_setting(layout.threads),
        other_weights={name: _weights(name) for name in sorted(others)},
    )


def _weights(name: str) -> str:
    """sha256 of a model's weights."""
    from harness.models.sources import resolve, weights_hash

    try:
        folder = resolve(name)
        if not folder.is_dir():
            raise SourceError(
                f"{name}: a file that is no model; a model is a folder with safetensors, config and tokenizer, or a .gguf file"
            )
        return weights_hash(folder)
    except SourceError as error:
        raise SourceError(f"student.model: {error}") from error
    except SpecError as error:
        raise SpecError(error.expected, key="student.model", value=name) from error


def run_study(
    study: StudySpec,
    *,
    study_file: Path,
    run_dir: Path,
    layout: Layout,
    console: Console,
    conclude: Callable[[Path], Path],
    place: Place | None = None,
    report_to: tuple[str, ...] = (),
    command: str | None = None,
) -> RunSummary:
    """Runs whatever the study still lacks, then judges and reports what is finished.

    Args:
        study_file: where the study was read from; its claim files may be named from there. They are copied into the run.
        conclude: judges and reports a run folder, under the lock; returns the report's path. (Reports lie in a layer above this one.)
        place: where stages run; by default in processes of this machine.
        report_to: trackers that training curves go to as they come.
        command: what was typed, for study.json; by default what runs the study into the same folder.
    Raises:
        StoreError: the folder is in use, was removed meanwhile, or holds a damaged journal, or the disk is full.
        ExecutorError: the machines cannot be reached.
        SourceError: the student cannot be fetched.
    """
    started = time.monotonic()
    place, command = place or Place(), command or _command(study, study_file, run_dir)
    store = RunStore(run_dir)
    refuse_published(store)
    setting = None
    if place.elsewhere:
        console.print("asking one of the machines for its device and number format", highlight=False)
        with store.locked():  # a second run is refused now, not after its job has waited in a queue
            setting = place.setting(store, layout.threads)
    plan = make_plan(study, layout, setting)
    try:
        with store.locked():
            store.journal.events()  # a damaged one is told before the work, not after it
            copy_claims(study, study_file.parent, run_dir)
            place.fetch_finished(plan.stages, store, lambda text: _warn(console, text))
            outcome, todo = _do_stages(study, plan, store, layout, console, command, place, report_to)
            write_tuned(study, plan, store)
            report = None
            if _any_scored(plan, outcome):
                console.print("judging and writing the report", highlight=False)
                report = conclude(run_dir)
            store.journal.append("run_finished", failed=sorted(outcome.failed), wall_s=round(time.monotonic() - started, 1))
    except OSError as error:
        if is_disk_full(error) and not isinstance(error, StoreError):
            raise StoreError(disk_full_message(run_dir)) from error
        if not store.stages.is_dir():
            raise StoreError(f"{run_dir} was removed or moved while the run wrote to it; the same command starts afresh") from error
        raise
    computed = len(todo) - len(outcome.failed) - len(outcome.blocked)
    return RunSummary(
        run_dir=run_dir,
        report=report,
        computed=computed,
        reused=len(outcome.finished) - computed,
        failed={plan.stages[stage].name: message for stage, message in outcome.failed.items()},
        blocked=[plan.stages[stage].name for stage in outcome.blocked],
        wall_s=time.monotonic() - started,
    )


def _do_stages(
    study: StudySpec,
    plan: Plan,
    store: RunStore,
    layout: Layout,
    console: Console,
    command: str,
    place: Place,
    report_to: tuple[str, ...],
) -> tuple[Outcome, list[Stage]]:
    done = _intact(plan, store, console)
    _notice_other_code(study, plan, store, done, console)
    _notice_strays(plan, store, console)
    write_json(store.root / "study.json", study_record(study, plan, layout, command))
    store.journal.append("run_started", executor=place.executor, workers=layout.workers, threads=layout.threads, reused=len(done))
    calibration = calibrate(store.root.parent, layout.threads)
    seconds = predict(study, plan, calibration)
    todo = needed(plan.stages.values(), done)
    for stage in todo:
        (store.failed / f"{stage.id}.log").unlink(missing_ok=True)
    if not todo:
        console.print(f"all {len(done)} stages are finished: nothing to compute")
        return Outcome(finished=done), todo
    expected = duration(makespan_s(plan, seconds, done, layout.workers))
    console.print(
        escape(
            f"{study.name}: {len(todo)} of {len(plan.stages)} stages to do, {len(done)} reused; {place.describe(layout.workers)} x "
            f"{layout.threads} threads; about {expected} ({calibration.source})"
        ),
        highlight=False,
        soft_wrap=True,
    )
    display = RunDisplay(console, store, stages={stage.id: stage for stage in todo}, seconds=seconds, threads=layout.threads)
    executor = place.open(store, workers=min(layout.workers, len(todo)), threads=layout.threads)
    with display:
        outcome = executor.run(
            todo, done=done, seconds=seconds, task_for=lambda stage: _task(study, store, stage, layout, report_to), observer=display
        )
    return outcome, todo


def _task(study: StudySpec, store: RunStore, stage: Stage, layout: Layout, report_to: tuple[str, ...]) -> Any:
    from harness.study.stage import StageTask

    return StageTask(store.root.absolute(), study, stage, layout.threads, stage_items(study, stage), report_to)


def _command(study: StudySpec, study_file: Path, run_dir: Path) -> str:
    """What to type to run a study again into the same folder."""
    words = ["selfteach", "run", str(study_file), *([] if run_dir == RUNS / study.name else ["--out", str(run_dir)])]
    return shlex.join(words)


def study_record(study: StudySpec, plan: Plan, layout: Layout, command: str) -> dict[str, Any]:
    """study.json: the resolved study, its plan, and what it is run with."""
    return {
        **study.model_dump(mode="json"),
        "plan": plan.as_json(),
        "tasks": _task_info(study),
        "provenance": {
            "command": command,
            "machine": provenance.machine(),
            "device": plan.setting.device,
            "precision": plan.setting.precision,
            "workers": layout.workers,
            "threads": layout.threads,
            "versions": provenance.versions(),
            "commit": provenance.git_commit(Path(__file__).parent),
        },
    }


def refuse_published(store: RunStore) -> None:
    """Raises StoreError for a published run: there are no weights to go on from, and what is published stays as it is."""
    path = store.root / "study.json"
    try:
        study = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError:
        return  # a damaged record is written anew
    if isinstance(study, dict) and is_published(study):
        raise StoreError(f"{store.root} was published without weights and is not continued; run the study into another folder (--out)")


def copy_claims(study: StudySpec, study_dir: Path, run_dir: Path) -> None:
    """Copies the study's claim files into the run's folder, where they stand for what was written down before the results."""
    folder = run_dir / CLAIMS
    folder.mkdir(exist_ok=True)
    names = set()
    for number, name in enumerate(study.claims):
        source = find_claims(name, study_dir)
        names.add(f"{number}-{source.stem}.yaml")
        write_text(folder / f"{number}-{source.stem}.yaml", source.read_text(encoding="utf-8"))
    for path in folder.glob("*.yaml"):
        if path.name not in names:
            path.unlink()


def _task_info(study: StudySpec) -> dict[str, dict[str, Any]]:
    """What verdicts and report must know of each task, so that they need no plug-ins."""
    of_folds = select(fold_suites(study, families[0])) if (families := fold_families(study)) else []
    return {
        selection.task.name: {
            "suite": selection.suite.name,
            "metric": selection.task.metric,
            "chance": selection.task.chance,
            "higher_is_better": selection.task.higher_is_better,
            "kind": selection.task.kind,
            "generation_suite": selection.task.generation_suite,
        }
        for selection in (*of_folds, *select(study.suites))
    }


def _intact(plan: Plan, store: RunStore, console: Console) -> set[str]:
    """Finished stages whose files match their checksums; damaged ones are removed, with a notice, and will be computed again."""
    intact = set()
    for stage in plan.stages.values():
        if not store.exists(stage.id):
            continue
        try:
            store.verify(stage.id)
        except StoreError as error:
            _warn(console, f"{stage.name} is computed again: {error}")
            store.journal.append("stage_damaged", stage=stage.id, error=str(error))
            store.discard(stage.id)
        else:
            intact.add(stage.id)
    return intact


def _notice_other_code(study: StudySpec, plan: Plan, store: RunStore, done: set[str], console: Console) -> None:
    from harness.study.fingerprint import code_fingerprint

    other = [stage for stage in done if store.meta(stage)["code"] != code_fingerprint(study, plan.stages[stage])]
    if other:
        _warn(
            console,
            f"note: {len(other)} reused stages were computed by other code than this (same package versions and stage schema); "
            f"remove {shlex.quote(str(store.stages))} to compute everything afresh",
        )


def _notice_strays(plan: Plan, store: RunStore, console: Console) -> None:
    strays = [path.name for path in store.stages.iterdir() if path.name != "failed" and path.name not in plan.stages]
    if strays:
        setting = "another version of this study, or of its setting (threads, device, packages)"
        _warn(console, f"note: {len(strays)} finished stages belong to {setting}; kept, not used")


def _warn(console: Console, text: str) -> None:
    console.print(escape(text), style="yellow", highlight=False, soft_wrap=True)


def _any_scored(plan: Plan, outcome: Outcome) -> bool:
    return any(trial.score_stage in outcome.finished for trial in plan.trials)
