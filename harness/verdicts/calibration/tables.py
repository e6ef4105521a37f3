"""The calibration's results as Markdown: one table a family, misses marked, and a summary that counts them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from harness.verdicts.calibration import normal_theory
from harness.verdicts.calibration.worlds import World

FALSE_ALARM_BAND = (0.035, 0.065)
COVERAGE_BAND = (0.935, 0.965)
MET_LIMIT = 0.05
RULES = ("corrected", "satterthwaite", "hillis", "t on seed means", "items only")
RATIO_INTERVALS = ("inverted test", "textbook Fieller", "log ratio")
WORLD = list(World.__dataclass_fields__)
BANDS: dict[tuple[str, str], tuple[float, float]] = {
    ("null", "corrected"): FALSE_ALARM_BAND,
    ("effect", "coverage"): COVERAGE_BAND,
    ("ratio", "inverted test"): COVERAGE_BAND,
    ("retention", "coverage"): COVERAGE_BAND,
    ("claim", "absolute: met"): (0.0, MET_LIMIT),
    ("claim", "relative: met"): (0.0, MET_LIMIT),
}
"""What a measure of the product must lie in, for designs of 3 or more seeds."""


def misses(results: pd.DataFrame) -> dict[tuple[str, str, str], tuple[int, int, float, float]]:
    """Per (family, kind, measure) with a band: cells of 3 or more seeds, those outside, lowest and highest value."""
    found = {}
    trained = results[results["n_seeds"] >= 3]
    for (family, kind), rows in trained.groupby(["family", "kind"], sort=False):
        for (of, measure), (low, high) in BANDS.items():
            if of == kind:
                values = rows[measure]
                outside = int(((values < low) | (values > high)).sum())
                found[str(family), str(kind), measure] = (len(values), outside, float(values.min()), float(values.max()))
    return found


def tables(results: pd.DataFrame) -> Iterator[str]:
    """All tables, as lines."""
    yield from _summary(results)
    yield from _normal_theory()
    grid = _paired(results, "difference")
    for (scores, clustered), rows in grid.groupby(["scores", "clustered"], sort=False):
        yield from _difference(f"One task, {scores} scores, {'items in passages' if clustered else 'independent items'}", rows)
    yield from _difference("Means over several tasks of 100 items", _paired(results, "tasks"))
    yield from _difference(
        "Edges: near ceiling, a four-way guess, rare success; items that matter far more than seeds", _paired(results, "edges")
    )
    yield from _plain(
        results, "ratio", "Ratios: coverage of three 95 % intervals where the ratio is defined", (*RATIO_INTERVALS, "defined")
    )
    yield from _plain(results, "retention", "Ratio of retentions (log scale): coverage", ("coverage", "defined"))
    claim = ("absolute: met", "absolute: excluded", "relative: met", "relative: excluded", "relative: not testable")
    yield from _plain(
        results, "claims", 'Claims whose threshold is the truth: how often "met", and how often the threshold is excluded', claim
    )


def _summary(results: pd.DataFrame) -> Iterator[str]:
    yield from ("## Summary", "", "Designs of 3 or more training seeds. A value outside its band is bold and has a 🔴 in the tables.", "")
    rows = [
        [family, kind, measure, f"{low:.3f}–{high:.3f}", str(cells), f"**{outside}** 🔴" if outside else "0"]
        for (family, kind, measure), (cells, outside, low, high) in misses(results).items()
    ]
    yield from _table(["family", "worlds", "measure", "range", "cells", "outside its band"], rows)


def _normal_theory() -> Iterator[str]:
    yield from (
        "## Normal scores, by quadrature",
        "",
        "Lowest–highest error rate over all mixtures of seed, item and residual variance.",
        "",
    )
    rows = [
        [f"{n_seeds} × {n_items}", _name(rule), *(f"{low:.3f}–{high:.3f}" for low, high in extremes.values())]
        for n_seeds, n_items, rule, extremes in normal_theory.rows()
    ]
    yield from _table(["seeds × items", "degrees of freedom", *(f"nominal {alpha:.2f}" for alpha in normal_theory.ALPHAS)], rows)


def _paired(results: pd.DataFrame, family: str) -> pd.DataFrame:
    """Null and effect cells of the same world in one row."""
    rows = results[results["family"] == family]
    keys = [name for name in WORLD if name != "effect"]
    null, effect = (rows.loc[rows["kind"] == kind].dropna(axis=1, how="all") for kind in ("null", "effect"))
    return null.drop(columns=["effect", "kind"]).merge(effect.drop(columns=["effect", "kind", "family"]), on=keys)


def _difference(title: str, rows: pd.DataFrame) -> Iterator[str]:
    yield from (f"## {title}", "", "False alarms at nominal .05; coverage and power under an effect of half a logit.", "")
    heads = [*_world_heads(rows), *map(_name, RULES), "coverage", "power"]
    lines = []
    for _, row in rows.iterrows():
        rates = [_marked(row[rule], BANDS.get(("null", rule)), row) for rule in RULES]
        lines.append([*_world(row, rows), *rates, _marked(row["coverage"], COVERAGE_BAND, row), _number(row["power"])])
    yield from _table(heads, lines)


def _plain(results: pd.DataFrame, family: str, title: str, measures: Sequence[str]) -> Iterator[str]:
    rows = results[results["family"] == family]
    yield from (f"## {title}", "")
    lines = [
        [*_world(row, rows), *(_marked(row[measure], BANDS.get((row["kind"], measure)), row) for measure in measures)]
        for _, row in rows.iterrows()
    ]
    yield from _table([*_world_heads(rows), *measures], lines)


def _world_heads(rows: pd.DataFrame) -> list[str]:
    extra = ["chance of success"] if rows["intercept"].nunique() > 1 else []
    return ["seeds × items" + (" × tasks" if rows["n_tasks"].max() > 1 else ""), "seed SD, item SD", *extra]


def _world(row: pd.Series, rows: pd.DataFrame) -> list[str]:
    size = f"{row['n_seeds']} × {row['n_items']}" + (f" × {row['n_tasks']}" if rows["n_tasks"].max() > 1 else "")
    seed_sd = f"{row['seed_sd']:g}" + (f" (+ {row['seed_task_sd']:g} by task)" if row["seed_task_sd"] else "")
    extra = [f"{World(2, 2, intercept=row['intercept']).truth()[1]:.2f}"] if rows["intercept"].nunique() > 1 else []
    return [size + (" (items only)" if row["n_seeds"] == 1 else ""), f"{seed_sd}, {row['item_sd']:g}", *extra]


def _name(rule: str) -> str:
    return {"corrected": "crossed (default)", "satterthwaite": "crossed, Satterthwaite", "hillis": "crossed, Hillis"}.get(rule, rule)


def _marked(value: float, band: tuple[float, float] | None, row: pd.Series) -> str:
    inside = band is None or row["n_seeds"] < 3 or band[0] <= value <= band[1]
    return _number(value) if inside else f"**{_number(value)}** 🔴"


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3f}".removeprefix("0")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""
