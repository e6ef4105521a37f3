"""`selfteach score`: one model on suites of tasks, without a study."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.cli.text import console, print_json, print_table, say
from harness.core.perturbation_spec import PerturbationSpec, perturbation_specs
from harness.core.records import CLEAN
from harness.core.suite_spec import SuiteSpec
from harness.errors import SpecError
from harness.scoring.suites import load_suite

if TYPE_CHECKING:
    import pandas as pd

    from harness.models.student import Student
    from harness.verdicts.holistic import AxisValue
    from harness.verdicts.score_table import ScoreRow

SEED = 0
"""Of sampled replies; items and perturbations do not depend on it."""


def score_command(
    model: str, *, suites: Sequence[str], tasks: Sequence[str], limit: int | None, perturb: Sequence[str], out: Path | None, as_json: bool
) -> None:
    """Scores a model, prints the table and writes files where asked to."""
    from harness.scoring.suites import check_perturbations, select

    specs = suite_specs_for(suites, tasks, limit)
    perturbations = perturbation_specs(perturb)
    check_perturbations(perturbations)
    about = {entry.task.name: asdict(entry.task) | {"suite": entry.suite.name} for entry in select(specs)}
    if out is not None:
        _check_writable(out)
    started = time.monotonic()
    samples, flops = _scored(model, specs, perturbations)
    from harness.verdicts.robustness import robustness_of_samples
    from harness.verdicts.score_table import score_table

    rows, losses = score_table(samples, about), robustness_of_samples(samples, about, label=model)
    axes = _axes(samples) if any(spec.name.startswith("holistic") for spec in specs) else []
    run = {"model": model, "limit": limit, "seed": SEED, "eval_flops": flops, "wall_s": round(time.monotonic() - started, 1)}
    files = _written(samples, rows, out, model, run) if out is not None else []
    if as_json:
        tables = {"rows": [asdict(row) for row in rows], "axes": [asdict(axis) for axis in axes], "robustness": losses["rows"]}
        print_json({**run, **tables, "files": list(map(str, files))})
        return
    _print(rows, axes, losses, samples, run, files)


def _check_writable(out: Path) -> None:
    """Before anything is computed that could not be kept."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise SpecError(f"expected a folder that can be written ({error.strerror or error})", key="--out", value=str(out)) from error


def suite_specs_for(suites: Sequence[str], tasks: Sequence[str], limit: int | None) -> list[SuiteSpec]:
    """The suites with the tasks named, each with the suite that has it.

    Raises:
        SpecError: no suite, an unknown one, or a task that none of them has.
    """
    if not suites:
        raise SpecError("name at least one suite (`selfteach tasks` lists them)", key="--suite")
    loaded = [load_suite(name) for name in dict.fromkeys(suites)]
    specs = []
    taken: set[str] = set()
    for suite in loaded:
        offered = {task.name for task in suite.tasks}
        own = tuple(name for name in dict.fromkeys(tasks) if suite.any_task or name.rpartition(":")[2] in offered)
        taken |= set(own)
        if own or not tasks:
            specs.append(SuiteSpec(name=suite.name, tasks=own or None, limit=limit))
    for name in tasks:
        if name not in taken:
            valid = [task.name for suite in loaded for task in suite.tasks]
            raise SpecError(f"no such task in {' or '.join(suite.name for suite in loaded)}", key="--tasks", value=name, valid=valid)
    return specs


def _scored(model: str, specs: list[SuiteSpec], perturbations: list[PerturbationSpec]) -> tuple[pd.DataFrame, float]:
    from harness.core.budget import Ledger
    from harness.scoring.suites import score

    student, ledger = load_model(model), Ledger(account="eval")
    student.attach(ledger)
    with _progress() as report:
        samples = score(student, specs, perturbations, ledger=ledger, seed=SEED, progress=report)
    return samples, ledger.spent("eval")


def load_model(model: str) -> Student:
    """A known name, a source, a folder with a model in it, or the folder of a trained student.

    Raises:
        SpecError, SourceError: there is none.
    """
    from harness.models.student import STUDENT_FILE, Student

    folder = Path(model.removeprefix("file:")).expanduser()
    if (folder / STUDENT_FILE).is_file():
        return Student.restore(folder)
    source = f"file:{folder.absolute()}" if ":" not in model and folder.is_dir() else model
    return Student.load(source, adaptation=None, seed=SEED)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    writer = console(stderr=True)
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TextColumn("items"), TimeRemainingColumn())
    with Progress(*columns, console=writer, transient=True, disable=not writer.is_terminal) as progress:
        bar = progress.add_task("scoring", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _axes(samples: pd.DataFrame) -> list[AxisValue]:
    from harness.models.sources import is_cached
    from harness.verdicts.holistic import holistic_axes

    if not is_cached("minilm-l6-v2"):
        return holistic_axes(samples)
    from harness.models.embed import Embedder

    return holistic_axes(samples, encode=Embedder.load().encode)


def _written(samples: pd.DataFrame, rows: list[ScoreRow], out: Path, model: str, run: dict[str, Any]) -> list[Path]:
    from harness.cli.score_files import write_scores

    return write_scores(samples, rows, out, model=model, about=run)


def _print(
    rows: list[ScoreRow], axes: list[AxisValue], losses: dict[str, Any], samples: pd.DataFrame, run: dict[str, Any], files: list[Path]
) -> None:
    writer = console()
    columns = ("task", "metric", "score", "95 % interval", "scored", "chance", "", "licence", "source")
    for suite in dict.fromkeys(row.suite for row in rows):
        cells = [_cells(row) for row in rows if row.suite == suite]
        print_table(writer, suite, columns, cells, right=("score", "chance", "scored"))
        writer.print()
    if losses["rows"]:
        from harness.report.robustness import COLUMNS, table

        print_table(writer, "robustness", COLUMNS, table(losses), right=COLUMNS[2:5] + COLUMNS[7:])
        writer.print()
    _print_axes(writer, axes, samples)
    say(
        writer,
        f"{run['model']}: {run['wall_s']:.0f} s, {run['eval_flops'] / 1e12:.2f} TFLOP; intervals speak of items, not of training runs",
    )
    for path in files[:1]:
        say(writer, f"written: {path.parent} ({len(files)} files; `selfteach compare` reads them)")


def _cells(row: ScoreRow) -> tuple[object, ...]:
    found = row.estimate
    name = row.task if row.perturbation == CLEAN else f"  {row.perturbation}"
    missing = ", ".join(f"{count} {status}" for status, count in row.unscored.items())
    return (
        name,
        row.metric if row.higher_is_better else f"{row.metric} (lower is better)",
        "-" if found is None else f"{found.value:.3f}",
        "-" if found is None or found.interval is None else f"{found.interval[0]:.3f} to {found.interval[1]:.3f}",
        f"{row.n_scored}/{row.n_asked}",
        "-" if row.chance is None else f"{row.chance:.2f}",
        "; ".join(filter(None, (row.flag, missing))),
        row.licence if row.perturbation == CLEAN else "",
        row.source if row.perturbation == CLEAN else "",
    )


def _print_axes(writer: Any, axes: list[AxisValue], samples: pd.DataFrame) -> None:
    if not axes:
        return
    from harness.verdicts.holistic import CAVEATS, missing_axes

    cells = [
        (
            axis.axis,
            axis.measure,
            f"{axis.value:.3f}" if abs(axis.value) < 10 else f"{axis.value:.1f}",
            "-" if axis.interval is None else f"{axis.interval[0]:.3f} to {axis.interval[1]:.3f}",
            axis.n,
            axis.better or "-",
            axis.note,
        )
        for axis in axes
    ]
    print_table(writer, "beyond accuracy", ("axis", "measure", "value", "95 % interval", "n", "best", "note"), cells, right=("value", "n"))
    for task, reason in missing_axes(samples).items():
        say(writer, f"{task}: not scored: {reason}")
    for name in dict.fromkeys(axis.axis for axis in axes):
        say(writer, f"{name}: {CAVEATS[name]}")
    writer.print()
