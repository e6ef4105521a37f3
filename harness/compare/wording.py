"""Numbers and verdicts in plain words; whoever prints them escapes the names in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.compare.rows import Family, Row

FIRST, SECOND, EQUIVALENT, NOT_APART = "first better", "second better", "equivalent", "not distinguishable"

MOST_SENTENCES = 3
"""Tasks up to which each is told in a sentence where there is no mean over tasks."""


def score_text(value: float, *, unit: bool) -> str:
    """A mean score: percent for scores in 0..1, else four significant digits."""
    return f"{100 * value:.1f} %" if unit else f"{value:.4g}"


def difference_text(value: float, *, unit: bool) -> str:
    """A difference with its sign: points of a percentage for scores in 0..1."""
    text = f"{100 * value:+.1f}" if unit else f"{value:+.3g}"
    return f"+{text[1:]}" if float(text) == 0 else text


def interval_text(interval: tuple[float, float], *, unit: bool) -> str:
    """An interval of a difference."""
    return f"{difference_text(interval[0], unit=unit)} to {difference_text(interval[1], unit=unit)}"


def p_text(value: float) -> str:
    """A p value with two to four decimals."""
    return "< .0001" if value < 0.0001 else f"{value:.4f}" if value < 0.01 else f"{value:.3f}" if value < 0.9995 else "1"


def verdict_text(row: Row) -> str:
    """The verdict with the model's name, short enough for a table."""
    return {FIRST: f"{row.first} better", SECOND: f"{row.second} better", NOT_APART: "not told apart"}.get(row.verdict, row.verdict)


def needed_text(row: Row) -> str:
    """The data that would show a difference as large as the one seen; "" where no number of items would or it is shown already."""
    if row.verdict != NOT_APART or row.needed is None:
        return ""
    if row.needed.n_seeds is None:
        return _thousands(row.needed.n_items)
    return f"{row.needed.n_seeds} checkpoints × {_thousands(row.needed.n_items)}"


def sentence(row: Row, alpha: float, margin: float | None, *, alone: bool) -> str:
    """What the row says, in one or two sentences; `alone`: its p value is not adjusted for other comparisons."""
    unit = row.unit_scale
    size = difference_text(row.difference, unit=unit).lstrip("+-") + (" points" if unit else "")
    over = "the mean over tasks" if row.overall else f"{row.task} ({row.metric})"
    lower = "" if row.higher_is_better else ", where lower is better"
    if row.verdict in (FIRST, SECOND):
        better, worse = (row.first, row.second) if row.verdict == FIRST else (row.second, row.first)
        adjusted = "after Holm's adjustment " if row.p_holm != row.decisive_p else ""
        return f"{better} is better than {worse} on {over}{lower} by {size} ({adjusted}p {_equal(row.p_holm)})."
    if row.verdict == EQUIVALENT:
        assert margin is not None, row
        assert row.equivalence_p is not None, row
        inside = difference_text(margin, unit=unit).lstrip("+") + (" points" if unit else "")
        return f"{row.first} and {row.second} differ by less than {inside} on {over} (two one-sided tests, p {_equal(row.equivalence_p)})."
    text = f"{row.first} and {row.second} are not distinguishable on {over} (p {_equal(row.p_holm)}): that is not the same as equal."
    if row.decisive_p <= alpha:
        text += f" Alone it would be (p {_equal(row.decisive_p)}), but not among as many comparisons."
    if row.detectable is not None:
        seen = difference_text(row.detectable, unit=unit).lstrip("+") + (" points" if unit else "")
        data = f"{_thousands(row.n_items)} items" if row.n_seeds == 1 else f"{row.n_seeds} checkpoints × {_thousands(row.n_items)} items"
        text += f" These {data} would show a true difference of {seen} or more (80 % power{'' if alone else ', before adjustment'})."
    needed = needed_text(row)
    if needed:
        text += f" For a difference as small as the one seen ({size}) about {needed} items would be needed."
    return text


def summary(family: Family) -> list[str]:
    """What a family says in a few sentences: of three and more models which are near the best, of two the verdict."""
    if len(family.standings) > 2:
        best, *others = family.standings
        near = [entry.model for entry in others if entry.near_best]
        worse = [entry.model for entry in others if not entry.near_best]
        direction = "highest" if family.rows[0].higher_is_better else "lowest"
        text = f"{best.model} has the {direction} mean"
        text += f"; not distinguishable from the best: {', '.join([best.model, *near])}" if near else ", and is better than every other"
        return [f"{text}; worse: {', '.join(worse)}." if near and worse else f"{text}."]
    rows = family.overall or (family.rows if len(family.rows) <= MOST_SENTENCES else [])
    return [row.words for row in rows]


def _equal(p_value: float) -> str:
    text = p_text(p_value)
    return text if text.startswith("<") else f"= {text}"


def _thousands(count: int) -> str:
    return f"{count:,}" if count < 10**9 else "over a billion"
