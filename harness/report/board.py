"""A frozen leaderboard as people read it: ranked with uncertainty, as cells, Markdown, CSV or LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from harness.report import numbers
from harness.report.table import latex_escaped
from harness.report.text import visible
from harness.verdicts.board_file import EVERY_TASK, Board, Row

FORMS = ("table", "markdown", "csv", "latex")
ROW_COLUMNS = ("model", "score", "95 % interval", "students x items", "margin")
PUBLISHED_COLUMNS = ("model", "task", "metric", "score", "shots", "source")


def groups(board: Board) -> list[tuple[str, list[Row]]]:
    """Rows of equal tasks and perturbation under a heading, best first; means over tasks come first."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in board.rows:
        run = str(board.models[row.model].run)
        name = row.tasks[0] if len(row.tasks) == 1 else f"{EVERY_TASK} of {len(row.tasks)} tasks ({', '.join(row.tasks)})"
        found.setdefault((run if len(board.runs) > 1 else "", name, row.perturbation), []).append(row)
    titled = []
    for (run, name, perturbation), rows in found.items():
        title = ", ".join(filter(None, [run, name, "" if perturbation == "clean" else f"under {perturbation}"]))
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
    parts = []
    for title, columns, cells in tables(board):
        lines = [columns, ["---"] * len(columns), *cells]
        body = ["| " + " | ".join(cell.replace("|", r"\|").replace("<", "&lt;") for cell in line) + " |" for line in lines]
        parts.append("\n".join([f"**{title.replace('<', '&lt;')}**", "", *body]))
    return "\n\n".join(parts) + "\n"


def latex(board: Board) -> str:
    """Every table of the board as LaTeX (needs the booktabs package)."""
    parts = []
    for title, columns, cells in tables(board):
        lines = [" & ".join(latex_escaped(cell).replace("±", r"\ensuremath{\pm}") for cell in line) + r" \\" for line in (columns, *cells)]
        parts.append(
            f"\\begin{{table}}\n\\centering\n\\caption{{{latex_escaped(title)}}}\n"
            + f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}\n\\toprule\n{lines[0]}\n\\midrule\n"
            + "\n".join(lines[1:])
            + "\n\\bottomrule\n\\end{tabular}\n\\end{table}\n"
        )
    return "\n".join(parts)


def as_csv(board: Board) -> str:
    """A line for each row, frozen and published, with plain numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "model", "tasks", "perturbation", "metric", "value", "low", "high", "n", "seeds", "margin", "source"])
    for row in board.rows:
        writer.writerow(
            [row.id, row.model, " ".join(row.tasks), row.perturbation, row.metric, row.value, *row.interval, row.n, row.seeds, row.margin,
             board.models[row.model].run]
        )  # fmt: skip
    for cited in board.published:
        writer.writerow([cited.id, cited.model, cited.task, "clean", cited.metric, cited.value, "", "", "", "", "", cited.source])
    return out.getvalue()
