"""One table of the report: shown on the page, sorted there by plain values, and written as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report import numbers
from harness.report.text import visible

Writer = Callable[[Any], str]
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "\u2212": r"\ensuremath{-}", "\u2013": "--", "\u202f": r"\,", "×": r"\ensuremath{\times}", "\n": " ", "\t": " ",
    "≥": r"\ensuremath{\geq}", "≤": r"\ensuremath{\leq}", "±": r"\ensuremath{\pm}", "∞": r"\ensuremath{\infty}",
    "·": r"\textperiodcentered{}",
})  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Column:
    """A column's head; `key` names it in CSV files (the title where none is given).

    Attributes:
        method: whether the title is a method's label, which gets its colour.
        ends: what stands at both ends of a column of drawings, which files leave out.
    """

    title: str
    key: str = ""
    numeric: bool = True
    method: bool = False
    ends: tuple[str, str] | None = None


@dataclass(frozen=True)
class Cell:
    """What stands in a place of a table.

    Attributes:
        text: as people read it.
        value: what it is sorted by and what CSV files hold, without rounding; None where it is missing.
        interval: ends of the value's interval; `write` writes them.
        note: a smaller second line, in Markdown and LaTeX in brackets.
        flag: a short warning beside the text.
        tone: "", "good" or "bad": the colour of the flag.
        method: whether the text is a method's label, which gets its colour.
        drawing: places of marks on a track (harness.report.cards.Scale), in the colour of the method `color_of`.
    """

    text: str
    value: float | str | None = None
    interval: Sequence[float | None] | None = None
    write: Writer = numbers.percent
    note: str = ""
    flag: str = ""
    tone: str = ""
    method: bool = False
    strong: bool = False
    drawing: dict[str, Any] | None = None
    color_of: str = ""

    @property
    def bounds(self) -> str:
        """The interval as people read it, "" where there is none."""
        return "" if self.interval is None else numbers.interval(self.interval, self.write)


@dataclass(frozen=True)
class Table:
    """A named table. `basis` says what its numbers rest on: seeds, items, device, number format, convention, commit.

    Rows are lists of cells, one a column; the first names the row. `marked` rows are drawn as failed.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    basis: str = ""
    marked: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        wrong = [len(row) for row in self.rows if len(row) != len(self.columns)]
        assert not wrong, (self.name, wrong[:1], len(self.columns))


def label(name: object, *, flag: str = "", tone: str = "", strong: bool = False, value: float | str | None = None) -> Cell:
    """A method's label."""
    return Cell(str(name), str(name) if value is None else value, method=True, flag=flag, tone=tone, strong=strong)


def words(text: object, *, note: str = "", flag: str = "", tone: str = "") -> Cell:
    """Plain text; nothing is a dash."""
    shown = numbers.MISSING if text is None or text == "" else str(text)
    return Cell(shown, None if shown is numbers.MISSING else shown, note=note, flag=flag, tone=tone)


def amount(
    value: Any, write: Writer, *, interval: Sequence[Any] | None = None, bounds: Writer | None = None, note: str = "", flag: str = "",
    tone: str = "", strong: bool = False,
) -> Cell:  # fmt: skip
    """A number written by `write`, its interval by `bounds` (the same where none is named)."""
    plain = None if numbers.absent(value) else float(value)
    ends = None if interval is None or all(numbers.absent(end) for end in interval) else tuple(_plain(end) for end in interval)
    return Cell(write(value), plain, interval=ends, write=bounds or write, note=note, flag=flag, tone=tone, strong=strong)


def _plain(value: Any) -> float | None:
    return None if numbers.absent(value) else float(value)


def as_csv(table: Table) -> str:
    """Unrounded values, one line a row; a column with intervals is followed by its lower and upper ends.

    A text that a spreadsheet would run as a formula is written with an apostrophe before it.
    """
    places = [place for place, column in enumerate(table.columns) if column.ends is None]
    wide = {place for place in places if any(row[place].interval is not None for row in table.rows)}
    lines: list[list[Any]] = [[]]
    for place in places:
        key = visible(table.columns[place].key or table.columns[place].title)
        lines[0] += [key, f"{key}_low", f"{key}_high"] if place in wide else [key]
    for row in table.rows:
        line: list[Any] = []
        for place in places:
            line.append(_csv_value(row[place]))
            if place in wide:
                line += row[place].interval or (None, None)
        lines.append(line)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def _csv_value(cell: Cell) -> float | int | str | None:
    if isinstance(cell.value, float) and cell.value.is_integer() and abs(cell.value) < 1e15:
        return int(cell.value)
    return csv_text(cell.value) if isinstance(cell.value, str) else cell.value


def csv_text(text: str) -> str:
    """`text` without control characters, and so that no spreadsheet takes it for a formula."""
    shown = visible(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def printed(table: Table) -> list[list[str]]:
    """Head and rows as people read them, intervals and notes beside the value."""
    places = [place for place, column in enumerate(table.columns) if column.ends is None]
    return [
        [visible(table.columns[place].title) for place in places],
        *([_printed(row[place]) for place in places] for row in table.rows),
    ]


def _printed(cell: Cell) -> str:
    parts = [
        visible(cell.text),
        cell.bounds,
        f"({visible(cell.flag)})" if cell.flag else "",
        f"({visible(cell.note)})" if cell.note else "",
    ]
    return " ".join(filter(None, parts))


def caption(table: Table) -> str:
    """The caption with what the numbers rest on."""
    return " ".join(filter(None, [visible(table.caption), visible(table.basis)]))


def as_markdown(table: Table) -> str:
    """A Markdown table with its caption below."""
    return (
        markdown_rows(printed(table), numeric=[c.numeric for c in table.columns if c.ends is None]) + f"\n{markdown_text(caption(table))}\n"
    )


def markdown_rows(lines: Sequence[Sequence[str]], *, numeric: Sequence[bool]) -> str:
    """Head and rows as Markdown; nothing in a cell can end it."""
    rule = ["---:" if right else "---" for right in numeric]
    return "".join(
        "| " + " | ".join(line) + " |\n"
        for line in ([*map(markdown_text, lines[0])], rule, *([*map(markdown_text, line)] for line in lines[1:]))
    )


def markdown_text(text: str) -> str:
    """`text` so that Markdown shows it in one cell, without markup or pictures."""
    return text.replace("\\", "&#92;").replace("|", r"\|").replace("<", "&lt;").replace("](", r"]\(").replace("\n", " ")


def latex_escaped(text: str) -> str:
    """`text` so that LaTeX prints it as it is."""
    return text.translate(_LATEX)


def as_latex(table: Table) -> str:
    """A LaTeX table (needs the booktabs package)."""
    return latex_rows(printed(table), caption(table), numeric=[c.numeric for c in table.columns if c.ends is None])


def latex_rows(lines: Sequence[Sequence[str]], text: str, *, numeric: Sequence[bool]) -> str:
    """Head and rows as a LaTeX table with a caption."""
    head, *body = (" & ".join(map(latex_escaped, line)) + r" \\" for line in lines)
    rows, columns = "\n".join(body), "".join("r" if right else "l" for right in numeric)
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{latex_escaped(text)}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{head}\n\\midrule\n{rows}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def files(table: Table) -> dict[str, str]:
    """The table in every format by the ending of its file's name."""
    return {"csv": as_csv(table), "md": as_markdown(table), "tex": as_latex(table)}
