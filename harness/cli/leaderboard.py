"""`leaderboard`: freeze the scores of runs into a file, show it, and reproduce it row by row."""

from __future__ import annotations

import contextlib
import fnmatch
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.cli.targets import check_file, write_file
from harness.cli.text import console, print_json, print_table, say, told_damage
from harness.core.published import is_published
from harness.core.results import RunResults, find_run, load_run
from harness.core.store import RunStore
from harness.errors import SpecError, StoreError
from harness.report import board as tables
from harness.report.text import visible
from harness.verdicts.board_file import MOST_MARGIN, Board, dump_board, load_board

if TYPE_CHECKING:
    from harness.study.reproduce import RowResult

DIFFERS_EXIT = 6
"""Something on the leaderboard is not what it was."""
NOTHING_CHECKED_EXIT = 7
"""No row could be scored again, nor recomputed from kept files."""
_STYLES = {"reproduced": "green", "reproduced in part": "yellow", "differs": "bold red", "undecided": "yellow"}


def build_command(places: Sequence[str], *, out: Path, margin: float, force: bool, partial: bool, unpublished: bool, as_json: bool) -> None:
    """Freezes the runs' scores into `out`.

    Args:
        partial: accept runs that are not finished.
        unpublished: accept runs that are not published, or lie outside the repository that `out` is in.
    Raises:
        SpecError: no such run, one that is not accepted, nothing scored, or `out` exists or cannot be written.
        StoreError: a stage is damaged.
    """
    from harness.study.stage import score_seed
    from harness.verdicts.frozen import freeze

    check_file(out, "--out", make_parents=True)
    if out.exists() and not force:
        raise SpecError("expected a file that does not exist yet (--force replaces it)", key="--out", value=str(out))
    if not 0 < margin <= MOST_MARGIN:
        raise SpecError(f"expected a number above 0, up to {MOST_MARGIN:g}", key="--margin", value=margin)
    results = [load_run(find_run(place)) for place in places]
    for run in results:
        if not partial:
            _refuse_unfinished(run)
        if not unpublished:
            _refuse_unpublished(run, out)
        store = RunStore(run.run_dir)
        for stage in dict.fromkeys(run.trials.loc[run.trials["status"] == "finished", "score_stage"]):
            store.verify(str(stage))
    frozen = freeze(results, out=out, margin=margin, item_seed=score_seed())
    board = frozen.board
    write_file(out, dump_board(board))
    if as_json:
        print_json({"out": str(out), "rows": len(board.rows), "models": len(board.models), "left_out": frozen.left_out})
        return
    writer = console()
    _print(writer, board)
    for told in frozen.left_out:
        say(writer, f"left out: {told}")
    say(writer, f"{out}: {len(board.rows)} rows of {len(board.models)} models")


def _refuse_unfinished(run: RunResults) -> None:
    waiting = run.trials[run.trials["status"] != "finished"]
    if len(waiting) == 0:
        return
    first = f"{waiting.iloc[0]['trial_id']}: {waiting.iloc[0]['status']}"
    raise SpecError(
        f"the run is not finished: {len(waiting)} of {len(run.trials)} students have no scores ({first}, ...); "
        "finish it, or freeze what there is with --partial",
        key="RUN",
        value=str(run.run_dir),
    )


def _refuse_unpublished(run: RunResults, out: Path) -> None:
    if not is_published(run.study):
        raise SpecError(
            "the run is not published, so nobody else could check the rows; `selfteach publish` it and build from that folder "
            "(--unpublished: for this machine alone)",
            key="RUN",
            value=str(run.run_dir),
        )
    place = _repository(out.absolute().parent)
    if not run.run_dir.resolve().is_relative_to(place):
        raise SpecError(
            f"the run lies outside {place}, so the file could name it by a path of this machine only; copy it there "
            "(--unpublished: for this machine alone)",
            key="RUN",
            value=str(run.run_dir),
        )


def _repository(folder: Path) -> Path:
    """The git repository that a folder is, or will be, in; without one the working folder, or the folder itself where that is elsewhere."""
    folder, here = folder.resolve(), Path.cwd().resolve()
    found = next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)
    return found or (here if folder.is_relative_to(here) else folder)


def show_command(path: Path, *, form: str, as_json: bool) -> None:
    """Prints a frozen leaderboard."""
    board = load_board(path)
    if form not in tables.FORMS:
        raise SpecError("unknown format", key="--format", value=form, valid=tables.FORMS)
    if as_json:
        print_json(board.model_dump(mode="json"))
    elif form == "table":
        _print(console(), board)
    else:
        sys.stdout.write({"markdown": tables.markdown, "csv": tables.as_csv, "latex": tables.latex}[form](board))


def _print(writer: Console, board: Board) -> None:
    for title, columns, cells in tables.tables(board):
        print_table(writer, title, columns, cells, right=columns[1:4] if columns == tables.ROW_COLUMNS else ("score",))
        writer.print()
    for note in board.notes:
        say(writer, f"note: {note}")


def reproduce_command(
    path: Path, *, rows: str | None, runs: Path, train: bool, limit_seeds: int | None, student: Path | None, as_json: bool
) -> int:
    """Reproduces a frozen leaderboard and prints what became of each row; the exit code, which docs/leaderboards.md explains.

    Rows that rest on a changed file differ; the others are reproduced, and every changed stage of their runs is told.

    Raises:
        SpecError: the file has a mistake, or no row has such an id.
        StoreError: raised after printing, where all rows were asked for and none differs, if any stage of a run was changed all the same.
    """
    from harness.study.reproduce import CHECKS, UNCHECKED, VERDICTS, Options, reproduce

    board = load_board(path)
    chosen = [row for row in board.every if rows is None or fnmatch.fnmatchcase(row.id, rows)]
    if not chosen:
        raise SpecError("no row has such an id", key="--rows", value=rows, valid=[row.id for row in board.every])
    if student is not None and not student.is_dir():
        raise SpecError("no such folder", key="--student", value=str(student))
    options = Options(runs=runs, train=train, seeds=limit_seeds, student=student)
    with _progress() as report:
        found = reproduce(board, path.parent, chosen, options, console=console(stderr=True), report=report)
    results = found.rows
    counts = {verdict: sum(result.verdict == verdict for result in results) for verdict in VERDICTS}
    checks = {check: sum(result.checked == check for result in results) for check in CHECKS}
    if as_json:
        changed = {str(folder): stages for folder, stages in found.damaged.items()}
        print_json(
            {"board": board.board, "counts": counts, "checks": checks, "changed": changed, "rows": [result.as_json() for result in results]}
        )
    else:
        _print_results(console(), results, counts, checks)
        for problem in (problem for stages in found.damaged.values() for problem in stages.values()):
            say(console(), f"changed: {problem}", style="bold red")
    if found.damaged:
        told = "; ".join(told_damage(folder, stages) for folder, stages in found.damaged.items())
        if rows is None and not counts["differs"]:
            raise StoreError(told)
        say(console(stderr=True), f"selfteach: warning: {told}")
    if counts["differs"]:
        return DIFFERS_EXIT
    return NOTHING_CHECKED_EXIT if checks[UNCHECKED] == len(results) else 0


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    writer = console(stderr=True)
    columns = (
        TextColumn("scoring {task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("items"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=writer, transient=True, disable=not writer.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        yield lambda label, done, total: progress.update(bar, description=visible(label), completed=done, total=total)


def _print_results(writer: Console, results: Sequence[RowResult], counts: dict[str, int], checks: dict[str, int]) -> None:
    columns = ("row", "frozen", "from its files", "scored again", "same scores", "verdict")
    print_table(writer, "", columns, [_cells(result) for result in results], right=("frozen", "scored again"))
    writer.print()
    by_reason: dict[tuple[str, str], list[str]] = {}
    for result in results:
        by_reason.setdefault((result.verdict, result.why), []).append(result.id)
    for (verdict, why), names in by_reason.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        say(writer, f"{verdict}: {shown}: {why}", style=_STYLES.get(verdict))
    recomputed = sum(bool(result.recomputed) for result in results)
    kept = sum(result.recomputed is not None for result in results)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    scored, files_only, unchecked = checks.values()
    say(writer, f"\n{len(results)} rows: {told}; {recomputed} of {kept} with kept samples follow from them to the digit")
    say(writer, f"{scored} scored again, {files_only} only recomputed from kept files, {unchecked} not checked at all")


def _cells(result: RowResult) -> tuple[object, ...]:
    found = result.agreement
    files = {True: "equal", False: "differs", None: "-"}[result.recomputed]
    if found is None:
        return (result.id, f"{result.value:.4f}", files, "-", "-", result.verdict)
    same = "-"
    if found.paired:
        low, high = found.agreement
        same = f"{found.same}/{found.paired} ({low:.1%} to {high:.1%})" + (f", {result.students}" if result.students else "")
    new = f"{found.new:.4f}" + (f" (these: {found.frozen:.4f})" if abs(found.frozen - result.value) > 5e-5 else "")
    return (result.id, f"{result.value:.4f}", files, new, same, result.verdict)
