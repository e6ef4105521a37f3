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

_MOST_PAIR_ROWS = 40


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
    header += [*(["checkpoints"] if several else []), first, second, "difference", f"{100 * (1 - found.alpha):.3g} % interval", "p"]
    adjusted = any(row.p_holm != row.p_value for row in rows)
    checks = list(dict.fromkeys(row.check.name for row in rows if row.check))
    header += [*(["p (Holm)"] if adjusted else []), *([f"p ({' / '.join(checks)})"] if checks else []), "verdict"]
    wanted = any(wording.needed_text(row) for row in rows)
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
    many = len(found.models) > 2 and family.overall and len(family.rows) > _MOST_PAIR_ROWS
    rows = [*([] if many else family.rows), *family.overall]
    header, cells = columns(rows, found)
    print_table(writer, title(family), header, cells, right=[name for name in header if name not in ("task", "first", "second", "verdict")])
    if many:
        say(writer, f"({len(family.rows)} rows of single tasks are in --json and --html)")
    told = family.overall or (family.rows if len(family.rows) <= 3 else [])
    for row in told if len(told) <= 3 else []:
        say(writer, row.words)


def _show_standings(family: Family, writer: Console) -> None:
    if not family.standings:
        return
    unit = all(row.unit_scale for row in family.rows)
    cells = [
        (
            "best" if index == 0 else "not told apart" if entry.near_best else "worse",
            entry.model,
            wording.score_text(entry.mean, unit=unit),
            entry.n_seeds,
            "" if entry.p_holm_vs_best is None else wording.p_text(entry.p_holm_vs_best),
        )
        for index, entry in enumerate(family.standings)
    ]
    print_table(
        writer,
        title(family),
        ("from the best", "model", "mean", "checkpoints", "p (Holm)"),
        cells,
        right=("mean", "checkpoints", "p (Holm)"),
    )
    near = [entry.model for entry in family.standings if entry.near_best]
    if len(near) > 1:
        say(writer, f"not distinguishable from the best: {', '.join(near)}")
    writer.print()
