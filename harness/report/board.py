"""A frozen leaderboard as people read it: ranked with uncertainty, as cells, Markdown, CSV or LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from harness.report import numbers
from harness.report.table import csv_text, latex_rows, markdown_rows, markdown_text
from harness.report.text import visible
from harness.verdicts.board_file import EVERY_TASK, Board, Row

FORMS = ("table", "markdown", "csv", "latex")
ROW_COLUMNS = ("model", "score", "95 % interval", "students x items", "margin")
PUBLISHED_COLUMNS = ("model", "task", "metric", "score", "shots", "source")
_WORDS = ("model", "task", "metric", "source")


def groups(board: Board) -> list[tuple[str, list[Row]]]:
    """Rows of equal run, block, tasks and perturbation under a heading, best first; means over tasks come first."""
    found: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in board.rows:
        run, block = str(board.models[row.model].run), board.models[row.model].block
        name = row.tasks[0] if len(row.tasks) == 1 else f"{EVERY_TASK} of {len(row.tasks)} tasks ({', '.join(row.tasks)})"
        found.setdefault((run if len(board.runs) > 1 else "", block, name, row.perturbation), []).append(row)
    titled = []
    for (run, block, name, perturbation), rows in found.items():
        title = ", ".join(filter(None, [run, block and f"at {block}", name, "" if perturbation == "clean" else f"under {perturbation}"]))
        about = board.runs[str(board.models[rows[0].model].run)].tasks[rows[0].tasks[0]]
        sign = -1 if about.higher_is_better or len(rows[0].tasks) > 1 else 1
        titled.append((title, sorted(rows, key=lambda row: (sign * row.value, row.id))))
    return titled


def row_cells(row: Row) -> tuple[str, ...]:
    """A row's cells under ROW_COLUMNS."""
    return (
        visible(row.model), numbers.percent(row.value), numbers.interval(list(row.interval)), f"{row.seeds} x {row.n}",
        f"±{numbers.number(row.margin)}",
    )  # fmt: skip


def published_cells(board: Board) -> list[tuple[str, ...]]:
    """The published rows under PUBLISHED_COLUMNS, best first within a task."""
    rows = sorted(board.published, key=lambda row: (row.task, row.metric, -row.value, row.id))
    return [
        (visible(row.model), visible(row.task), visible(row.metric), numbers.percent(row.value),
         "-" if row.shots is None else str(row.shots), visible(board.sources[row.source].title))
        for row in rows
    ]  # fmt: skip


def tables(board: Board) -> list[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    """Title, columns and cells of each table of the board."""
    found: list[tuple[str, Sequence[str], list[tuple[str, ...]]]] = [
        (visible(title), ROW_COLUMNS, [row_cells(row) for row in rows]) for title, rows in groups(board)
    ]
    if board.published:
        found.append(("published by others", PUBLISHED_COLUMNS, published_cells(board)))
    return found


def markdown(board: Board) -> str:
    """Every table of the board as Markdown."""
    return "\n".join(
        f"**{markdown_text(title)}**\n\n{markdown_rows([columns, *cells], numeric=_numeric(columns))}"
        for title, columns, cells in tables(board)
    )


def latex(board: Board) -> str:
    """Every table of the board as LaTeX (needs the booktabs package)."""
    return "\n".join(latex_rows([columns, *cells], title, numeric=_numeric(columns)) for title, columns, cells in tables(board))


def _numeric(columns: Sequence[str]) -> list[bool]:
    return [column not in _WORDS for column in columns]


def as_csv(board: Board) -> str:
    """A line for each row, frozen and published, with plain numbers; a text that a spreadsheet would run as a formula has an apostrophe."""
    lines: list[list[object]] = [
        ["id", "model", "tasks", "perturbation", "metric", "value", "low", "high", "n", "seeds", "margin", "source"],
        *(
            [row.id, row.model, " ".join(row.tasks), row.perturbation, row.metric, row.value, *row.interval, row.n, row.seeds, row.margin,
             str(board.models[row.model].run)]
            for row in board.rows
        ),
        *(
            [cited.id, cited.model, cited.task, "clean", cited.metric, cited.value, "", "", "", "", "", cited.source]
            for cited in board.published
        ),
    ]  # fmt: skip
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([csv_text(cell) if isinstance(cell, str) else cell for cell in line] for line in lines)
    return out.getvalue()
