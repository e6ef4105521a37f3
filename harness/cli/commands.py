"""`run` and `report`."""

from __future__ import annotations

import os
import signal
import threading
import webbrowser
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.cli.sweep import print_sweep
from harness.cli.targets import check_new_folder
from harness.cli.text import console, print_json, print_table, say
from harness.core.results import RunResults, find_run, load_run
from harness.core.spec import load_study
from harness.core.store import RunStore, is_disk_full
from harness.core.trackers import read_trackers
from harness.errors import SpecError, StoreError
from harness.report import numbers

if TYPE_CHECKING:
    from harness.study.place import Place

BOARD_COLUMNS = ("rank", "method", "score", "95 % interval", "seeds x items", "training", "cost")


def run_command(
    path: Path,
    *,
    workers: int | None,
    threads: int | None,
    place: Place,
    out: Path | None,
    as_json: bool,
    report_to: str,
    command: str,
) -> None:
    """Runs a study and prints what came of it.

    Args:
        report_to: trackers, separated by commas.
        command: what was typed, for the run's record.
    Raises:
        SpecError: a mistake in the study, a tracker that is unknown or not installed, or `out` cannot be made.
        StageFailed: a stage failed; the rest was judged and reported.
    """
    from harness.cli.conclude import conclude
    from harness.study.display import duration
    from harness.study.run import RUNS, Layout, run_study

    writer = console(stderr=as_json)
    trackers = read_trackers([word.strip() for word in report_to.split(",") if word.strip()])
    study = load_study(path)
    if out is not None and not os.path.lexists(out):
        check_new_folder(out, "--out", make_parents=True)
    run_dir = out or RUNS / study.name
    place.check()
    place = place.found()
    layout = Layout.of(workers, threads or (1 if place.elsewhere else None), gpus=len(place.gpus or ()))
    with signals_as_ctrl_c():
        summary = run_study(
            study,
            study_file=path,
            run_dir=run_dir,
            layout=layout,
            console=writer,
            conclude=conclude,
            place=place,
            report_to=trackers,
            command=command,
        )
    if as_json:
        print_json({**vars(summary), "results": _conclusions(load_run(summary.run_dir))})
    else:
        print_conclusions(writer, load_run(summary.run_dir))
        say(writer, f"\n{summary.computed} stages computed, {summary.reused} reused, in {duration(summary.wall_s)}")
        if summary.report:
            say(writer, f"report: {summary.report}")
    summary.check()


@contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """SIGTERM (`kill`, schedulers) and SIGHUP (a closed terminal) stop what runs inside as Ctrl-C does, unless ignored (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script's shell starts what it puts in the background
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report_command(place: str, *, open_page: bool, as_json: bool) -> None:
    """Judges and renders a run again.

    Raises:
        SpecError: there is no such run, or nothing in it is scored yet.
        StoreError: it is in use or damaged, or the disk is full.
    """
    from harness.cli.conclude import conclude_with_tables
    from harness.study.schedule import disk_full_message

    run_dir = find_run(place)
    if load_run(run_dir, conclusions=False).samples.empty:
        raise SpecError("nothing is scored in this run yet", value=str(run_dir))
    writer = console(stderr=as_json)
    try:
        with RunStore(run_dir).locked():
            page, tables = conclude_with_tables(run_dir)
    except OSError as error:
        if is_disk_full(error):
            raise StoreError(disk_full_message(run_dir)) from error
        raise
    if as_json:
        print_json({"report": page, "tables": tables, "results": _conclusions(load_run(run_dir))})
    else:
        print_conclusions(writer, load_run(run_dir))
        say(writer, f"\nreport: {page}\ntables: {', '.join(_folded(tables))}")
    if open_page:
        webbrowser.open(page.absolute().as_uri())


def _folded(tables: Sequence[Path]) -> list[str]:
    """The tables beside the report by name, those in folders by number."""
    top = min((len(table.parts) for table in tables), default=0)
    inside = Counter(table.parent for table in tables if len(table.parts) > top)
    return [
        *(str(table) for table in tables if len(table.parts) == top),
        *(f"{count} files in {folder}" for folder, count in inside.items()),
    ]


def print_conclusions(writer: Console, results: RunResults) -> None:
    """Prints the verdicts on primary readings and the leaderboard."""
    primary = [verdict for verdict in results.verdicts if verdict["primary"]]
    if primary:
        writer.print()
        columns = ("claim", "primary reading", "verdict", "effect", "interval", "claimed")
        print_table(writer, "Verdicts", columns, map(_verdict_row, primary))
        say(writer, f"{len(results.verdicts) - len(primary)} other readings of these claims are in the report")
    board = results.leaderboard
    if board.get("rows"):
        writer.print()
        rows = [_board_row(row, matched=board["matched"]) for row in board["rows"]]
        print_table(writer, f"Leaderboard: {board['metric_text']}", BOARD_COLUMNS, rows, right=BOARD_COLUMNS[2:])
        for note in board["notes"]:
            say(writer, f"note: {note}")
        if board.get("axes"):
            say(writer, board["axes"]["text"])
    for block in board.get("blocks") or ():
        writer.print()
        rows = [_board_row(row, matched=block["matched"]) for row in block["rows"]]
        print_table(writer, f"Leaderboard at {block['name']}: {block['metric_text']}", BOARD_COLUMNS, rows, right=BOARD_COLUMNS[2:])
    if board.get("sweep"):
        print_sweep(writer, board["sweep"])


def _verdict_row(verdict: dict[str, Any]) -> tuple[object, ...]:
    estimand, unit = verdict["estimand"], verdict["unit"]
    return (
        verdict["claim_id"],
        verdict["reading"],
        verdict["verdict"],
        " ".join(filter(None, [verdict.get("bound", ""), numbers.effect(verdict["effect"], estimand, unit)])),
        numbers.effect_interval(verdict["interval"], estimand, unit),
        numbers.claimed(verdict),
    )


def _board_row(row: dict[str, Any], *, matched: bool) -> tuple[object, ...]:
    return (
        row["rank"] if matched else "-",
        row["method"],
        numbers.percent(row["value"]),
        numbers.interval(row["interval"]),
        f"{row['n_seeds']} x {row['n_items']}",
        numbers.flops(row["train_flops"]),
        numbers.dollars(row["cost_usd"]),
    )


def _conclusions(results: RunResults) -> dict[str, Any]:
    return {"verdicts": results.verdicts, "leaderboard": results.leaderboard}
