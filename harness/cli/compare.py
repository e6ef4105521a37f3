"""`compare`: what two or more models' logs say of their difference; a terminal table, JSON, one HTML page, a LaTeX table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.cli.targets import check_file
from harness.cli.text import console, print_json, print_table, say
from harness.compare import wording
from harness.compare.align import align
from harness.compare.cells import ReadOptions
from harness.compare.compare import compare
from harness.compare.rows import Comparison, Family, Row, Standing
from harness.compare.sources import parse_source, read_sources
from harness.errors import SpecError
from harness.report.text import visible

_OPTIONAL = ("needed", "clusters", "checkpoints", "p exact", "p")
"""Columns that a narrow terminal goes without, the first first."""
_ALL_PAIRS = 6
"""Models up to which every pair is printed; of more only those with the best."""
_MOST_TASKS = 12
"""Tasks up to which the means of three and more models are printed task by task."""


def compare_command(
    logs: Sequence[str],
    *,
    options: ReadOptions,
    models: Sequence[str] | None,
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
    _check_models(models)
    for option, field in (("--by", options.task), ("--cluster", options.cluster)):
        if field == "":
            raise SpecError("expected the name of a field", key=option, value=field)
    if not 0 < alpha < 0.5:
        raise SpecError("expected a number between 0 and 0.5", key="--alpha", value=alpha)
    if margin is not None and not 0 < margin < float("inf"):
        raise SpecError("expected a number above 0, on the scale of the scores (0.02 = 2 points of accuracy)", key="--margin", value=margin)
    for option, path in (("--html", html), ("--latex", latex)):
        if path is not None:
            check_file(path, option)
    reading = read_sources([parse_source(log) for log in logs], options)
    common = align(reading.cells, models=models or (), metrics=metrics, lower=lower, intersect=intersect)
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


def _check_models(models: Sequence[str] | None) -> None:
    if models is None:
        return
    if "" in models:
        raise SpecError("expected names of models, separated by commas", key="--models", value=",".join(models))
    if twice := [model for model in models if models.count(model) > 1]:
        raise SpecError("a model is named twice", key="--models", value=twice[0])
    if len(models) < 2:
        raise SpecError("a comparison needs two models, separated by commas", key="--models", value=models[0])


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


@dataclass(frozen=True)
class Column:
    """One column of the table of pairs; `key` tells columns apart whatever the models in the titles are called."""

    key: str
    title: str
    cells: list[str]
    right: bool = True


def columns(rows: Sequence[Row], found: Comparison) -> list[Column]:
    """The table as people read it; columns that would say nothing here are left out."""
    two = len(found.models) == 2
    first, second = (rows[0].first, rows[0].second) if two else ("first", "second")
    score, difference = wording.score_text, wording.difference_text
    made = [Column("task", "task", [row.task for row in rows], right=False)]
    if not two:
        made.append(Column("first", "first model", [row.first for row in rows], right=False))
        made.append(Column("second", "second model", [row.second for row in rows], right=False))
    made.append(Column("items", "items", [f"{row.n_items:,}" for row in rows]))
    if any(row.n_clusters for row in rows):
        made.append(Column("clusters", "clusters", [f"{row.n_clusters or row.n_items:,}" for row in rows]))
    if any(row.n_seeds > 1 for row in rows):
        made.append(Column("checkpoints", "checkpoints", [str(row.n_seeds) for row in rows]))
    made.append(Column("mean first", first, [score(row.mean_first, unit=row.unit_scale) for row in rows]))
    made.append(Column("mean second", second, [score(row.mean_second, unit=row.unit_scale) for row in rows]))
    made.append(Column("difference", "diff.", [difference(row.difference, unit=row.unit_scale) for row in rows]))
    intervals = [wording.interval_text(row.interval, unit=row.unit_scale) for row in rows]
    made.append(Column("interval", f"{100 * (1 - found.alpha):.3g} % interval", intervals))
    made.append(Column("p", "p", [wording.p_text(row.p_value) for row in rows]))
    if checks := [row.check.name for row in rows if row.check]:
        name = "p sign flips" if set(checks) == {"sign flips"} else "p exact"
        made.append(Column("p exact", name, [wording.p_text(row.check.p_value) if row.check else "–" for row in rows]))
    if any(row.p_holm != row.decisive_p for row in rows):
        made.append(Column("p holm", "p (Holm)", [wording.p_text(row.p_holm) for row in rows]))
    made.append(Column("verdict", "verdict", [wording.verdict_text(row) for row in rows], right=False))
    if two and any(wording.needed_text(row) for row in rows):
        made.append(Column("needed", "items needed", [wording.needed_text(row) for row in rows]))
    return made


def title(family: Family) -> str:
    """A family's metric and, if so, that lower is better."""
    return family.name if family.rows[0].higher_is_better else f"{family.name} (lower is better)"


def _show_rows(family: Family, found: Comparison, writer: Console) -> None:
    # Every pair on every task would be screens of rows: of three and more models only the pairs' means over tasks are printed.
    single = [] if len(found.models) > 2 and family.overall else family.rows
    rows = [*single, *family.overall]
    if len(found.models) > _ALL_PAIRS and family.standings:
        best = family.standings[0].model
        rows = [row for row in rows if best in (row.first, row.second)]
    shown, hidden = _fitted(columns(rows, found), width=writer.width)
    _print(writer, title(family), shown)
    if hidden:
        say(writer, f"(not shown, the terminal is too narrow: {', '.join(hidden)})")
    if left_out := len(family.rows) + len(family.overall) - len(rows):
        say(writer, f"({left_out} more comparisons, of other pairs and on single tasks, are in --json and --html)")
    for text in wording.summary(family):
        say(writer, text)


def _print(writer: Console, heading: str, shown: Sequence[Column]) -> None:
    # The printer takes titles for markup, and models and tasks are in them.
    titles = [escape(visible(column.title)) for column in shown]
    right = [name for name, column in zip(titles, shown, strict=True) if column.right]
    print_table(writer, heading, titles, zip(*(column.cells for column in shown), strict=True), right=right)


def _fitted(made: list[Column], *, width: int) -> tuple[list[Column], list[str]]:
    """The columns without the optional ones that do not fit, and the titles of those."""
    hidden: list[str] = []
    for key in _OPTIONAL:
        needed = sum(max(map(len, (column.title, *column.cells))) + 3 for column in made)
        if needed > width:
            hidden += [column.title for column in made if column.key == key]
            made = [column for column in made if column.key != key]
    return made, hidden


def _show_standings(family: Family, writer: Console) -> None:
    if not family.standings:
        return
    tasks = list(dict.fromkeys(row.task for row in family.rows))
    tasks = tasks if 1 < len(tasks) <= _MOST_TASKS else []
    means = {(row.task, model): wording.score_text(mean, unit=row.unit_scale) for row in family.rows for model, mean in _means(row)}
    unit = all(row.unit_scale for row in family.rows)
    entries = family.standings
    shown = [
        Column("model", "model", [entry.model for entry in entries], right=False),
        Column("mean", "mean", [wording.score_text(entry.mean, unit=unit) for entry in entries]),
        Column("checkpoints", "checkpoints", [str(entry.n_seeds) for entry in entries]),
        Column("p", "p (Holm)", ["" if entry.p_holm_vs_best is None else wording.p_text(entry.p_holm_vs_best) for entry in entries]),
        Column("place", "from the best", [_place(index, entry) for index, entry in enumerate(entries)], right=False),
        *(Column(f"task {task}", task, [means[task, entry.model] for entry in entries]) for task in tasks),
    ]
    _print(writer, title(family), shown)
    writer.print()


def _place(index: int, entry: Standing) -> str:
    return "best" if index == 0 else "not told apart" if entry.near_best else "worse"


def _means(row: Row) -> list[tuple[str, float]]:
    return [(row.first, row.mean_first), (row.second, row.mean_second)]
