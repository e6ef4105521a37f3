"""A comparison as one self-contained HTML page and as a LaTeX table; names from logs are escaped, whatever they hold."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from harness.cli.compare import columns, title
from harness.cli.targets import write_file
from harness.compare import wording
from harness.compare.rows import Comparison, Row
from harness.report.table import latex_escaped
from harness.report.text import finalize, visible

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a1-\u00ac\u00ae-\u017f\n]")
"""What LaTeX's standard fonts and encoding do not have."""


def write_html(found: Comparison, path: Path) -> None:
    """Writes the page in one step."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness", "cli"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tables = []
    for family in found.families:
        rows = [*family.rows, *family.overall]
        made = columns(rows, found)
        cells = zip(*(column.cells for column in made), strict=True)
        lines = [
            {"cells": line, "words": row.words, "overall": row.overall, "bar": bar, "bh": wording.p_text(row.p_bh)}
            for row, line, bar in zip(rows, cells, _bars(rows), strict=True)
        ]
        tables.append({
            "title": title(family), "header": [column.title for column in made], "lines": lines,
            "standings": family.standings if len(found.models) > 2 else [], "unit": all(row.unit_scale for row in family.rows),
            "words": wording.summary(family),
        })  # fmt: skip
    css = Markup(resources.files("harness.report").joinpath("report.css").read_text(encoding="utf-8"))
    page = environment.get_template("compare.html.j2").render(
        found=found, tables=tables, css=css, score=wording.score_text, p=wording.p_text
    )
    write_file(path, page)


def _bars(rows: list[Row]) -> list[dict[str, float]]:
    """Where each interval, its difference and zero lie on a common axis, in percent of its width."""
    ends = [0.0, *(bound for row in rows for bound in row.interval)]
    low, high = min(ends), max(ends)
    width = (high - low) or 1.0

    def place(value: float) -> float:
        return round(100 * (value - low) / width, 2)

    return [
        {"left": place(row.interval[0]), "width": round(100 * (row.interval[1] - row.interval[0]) / width, 2), "dot": place(row.difference),
         "zero": place(0.0)}
        for row in rows
    ]  # fmt: skip


def write_latex(found: Comparison, path: Path) -> None:
    """Writes one table a family (needs the booktabs package)."""
    write_file(path, "\n".join(_table(found, index) for index in range(len(found.families))))


def _table(found: Comparison, index: int) -> str:
    family = found.families[index]
    made = columns([*family.rows, *family.overall], found)
    lines = [" & ".join(map(_latex, line)) + r" \\" for line in zip(*((column.title, *column.cells) for column in made), strict=True)]
    if family.overall:
        lines.insert(len(lines) - len(family.overall), r"\midrule")
    caption = f"{title(family)}: paired differences with {100 * (1 - found.alpha):.3g} % intervals. {' '.join(found.warnings[:3])}"
    body = "\n".join(lines[1:])
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{_latex(caption)}}}\n"
        f"\\begin{{tabular}}{{{''.join('r' if column.right else 'l' for column in made)}}}\n\\toprule\n{lines[0]}\n\\midrule\n{body}\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def _latex(text: str) -> str:
    plain = visible(text).replace("–", "--").replace("…", "...").replace("×", "x")
    return latex_escaped(_UNPRINTABLE.sub(lambda match: f"[U+{ord(match[0]):04X}]", plain))
