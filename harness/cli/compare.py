"""`compare`: what two or more models' logs say of their difference; a terminal table, JSON, one HTML page, a LaTeX table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harness.cli.text import console, print_json, print_table, say
from harness.compare import wording
from harness.compare.align import align
from harness.compare.cells import ReadOptions
from harness.compare.compare import Comparison, Family, Row, compare
from harness.compare.sources import parse_source, read_sources
from harness.errors import SpecError

_OPTIONAL = ("items needed", "clusters", "checkpoints", "p exact", "p sign flips", "p")
"""Columns that a narrow terminal goes without, the first first."""
_CHECK = {"sign flips": "p sign flips"}
_MOST_TASKS = 12
"""Tasks up to which the means of three and more models are printed task by task."""


def compare_command(
    logs: Sequence[str],
    *,
    options: ReadOptions,
    models: Sequence[str],
    metrics: Sequence[str],
    lower: Sequence[str],
    alpha: float,
    margin: float | None,
    intersect: bool,
    html: Path | None,
    latex: Path | None,
    as_json: bool,
) -> None:
    """Reads, compares, prints and writes."""
    if not 0 < alpha < 0.5:
        raise SpecError("expected a number between 0 and 0.5", key="--alpha", value=alpha)
    if margin is not None and not 0 < margin < float("inf"):
        raise SpecError("expected a number above 0, on the scale of the scores (0.02 = 2 points of accuracy)", key="--margin", value=margin)
    for option, path in (("--html", html), ("--latex", latex)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise SpecError("cannot be written: a folder, or in a folder that is not there", key=option, value=str(path))
    reading = read_sources([parse_source(log) for log in logs], options)
    common = align(reading.cells, models=models, metrics=metrics, lower=lower, intersect=intersect)
    found = compare(common, alpha=alpha, margin=margin, intersect=intersect)
    found.notes.extend(reading.notes)
    if html is not None:
        from harness.cli.compare_export import write_html

        write_html(found, html)
    if latex is not None:
        from harness.cli.compare_export import write_latex

        write_latex(found, latex)
    if as_json:
        print_json(found.as_dict())
        return
    writer = console()
    show(found, writer)
    for path in (html, latex):
        if path is not None:
            say(writer, f"wrote {path}")


def show(found: Comparison, writer: Console) -> None:
    """Prints a comparison."""
    for family in found.families:
        if len(found.models) > 2:
            _show_standings(family, writer)
        _show_rows(family, found, writer)
        writer.print()
    for warning in found.warnings:
        say(writer, f"! {warning}", style="yellow")
    for note in found.notes:
        say(writer, f"- {note}")


def columns(rows: Sequence[Row], found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and cells of rows as people read them; columns that say nothing here are left out."""
    two = len(found.models) == 2
    first, second = (rows[0].first, rows[0].second) if two else ("first", "second")
    several = any(row.n_seeds > 1 for row in rows)
    header = ["task", *([] if two else ["first", "second"]), "items", *(["clusters"] if any(row.n_clusters for row in rows) else [])]
    header += [*(["checkpoints"] if several else []), first, second, "diff.", f"{100 * (1 - found.alpha):.3g} % interval", "p"]
    adjusted = any(row.p_holm != row.decisive_p for row in rows)
    checks = list(dict.fromkeys(row.check.name for row in rows if row.check))
    header += [*(["p (Holm)"] if adjusted else []), *([_CHECK.get(checks[0], "p exact")] if checks else []), "verdict"]
    wanted = two and any(wording.needed_text(row) for row in rows)
    header += ["items needed"] if wanted else []
    cells = []
    for row in rows:
        unit = row.unit_scale
        line = [row.task, *([] if two else [row.first, row.second]), f"{row.n_items:,}"]
        line += [f"{row.n_clusters or row.n_items:,}"] if "clusters" in header[:5] else []
        line += [str(row.n_seeds)] if several else []
        line += [wording.score_text(row.mean_first, unit=unit), wording.score_text(row.mean_second, unit=unit)]
        line += [
            wording.difference_text(row.difference, unit=unit),
            wording.interval_text(row.interval, unit=unit),
            wording.p_text(row.p_value),
        ]
        line += [wording.p_text(row.p_holm)] if adjusted else []
        line += [wording.p_text(row.check.p_value) if row.check else "–"] if checks else []
        line += [wording.verdict_text(row), *([wording.needed_text(row)] if wanted else [])]
        cells.append(line)
    return header, cells


def title(family: Family) -> str:
    """A family's metric and, if so, that lower is better."""
    return family.name if family.rows[0].higher_is_better else f"{family.name} (lower is better)"


def _show_rows(family: Family, found: Comparison, writer: Console) -> None:
    # Every pair on every task would be screens of rows: of three and more models only the pairs' means over tasks are printed.
    many = len(found.models) > 2 and bool(family.overall)
    rows = [*([] if many else family.rows), *family.overall]
    header, cells, hidden = _fitted(*columns(rows, found), width=writer.width)
    print_table(writer, title(family), header, cells, right=[name for name in header if name not in ("task", "first", "second", "verdict")])
    if hidden:
        say(writer, f"(not shown, the terminal is too narrow: {', '.join(hidden)})")
    if many:
        say(writer, f"({len(family.rows)} comparisons on single tasks are in --json and --html)")
    told = family.overall or (family.rows if len(family.rows) <= 3 else [])
    for row in told if len(told) <= 3 else []:
        say(writer, row.words)


def _fitted(header: list[str], cells: list[list[str]], *, width: int) -> tuple[list[str], list[list[str]], list[str]]:
    """The table without the optional columns that do not fit, and their names."""
    hidden: list[str] = []
    for name in _OPTIONAL:
        needed = sum(max(map(len, column)) + 3 for column in zip(header, *cells, strict=True))
        if needed > width and name in header:
            place = header.index(name)
            hidden.append(name)
            header = header[:place] + header[place + 1 :]
            cells = [line[:place] + line[place + 1 :] for line in cells]
    return header, cells, hidden


def _show_standings(family: Family, writer: Console) -> None:
    if not family.standings:
        return
    tasks = list(dict.fromkeys(row.task for row in family.rows))
    tasks = tasks if 1 < len(tasks) <= _MOST_TASKS else []
    means = {(row.task, model): (mean, row.unit_scale) for row in family.rows for model, mean in _means(row)}
    unit = all(row.unit_scale for row in family.rows)
    cells = []
    for index, entry in enumerate(family.standings):
        place = "best" if index == 0 else "not told apart" if entry.near_best else "worse"
        p_value = "" if entry.p_holm_vs_best is None else wording.p_text(entry.p_holm_vs_best)
        single = [wording.score_text(means[task, entry.model][0], unit=means[task, entry.model][1]) for task in tasks]
        cells.append([entry.model, wording.score_text(entry.mean, unit=unit), str(entry.n_seeds), p_value, place, *single])
    right = ("mean", "checkpoints", "p (Holm)", *tasks)
    print_table(writer, title(family), ("model", "mean", "checkpoints", "p (Holm)", "from the best", *tasks), cells, right=right)
    near = [entry.model for entry in family.standings if entry.near_best]
    if len(near) > 1:
        say(writer, f"not distinguishable from the best: {', '.join(near)}")
    writer.print()


def _means(row: Row) -> list[tuple[str, float]]:
    return [(row.first, row.mean_first), (row.second, row.mean_second)]
