"""Lineages as trees in the terminal: seed → operation → child, and the figures of each operation."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from harness.cli.text import print_table, say
from harness.core.corpus import Row
from harness.report.text import visible

WIDEST_COLUMNS = 1_000_000
"""Of a line that goes to a file or pipe, where text is never cut."""
DEEPEST_INDENT = 8
"""Generations that are indented; later ones stand below the eighth, or nothing would be left of the line."""
INDENT_COLUMNS = 4
"""Of each generation, in a tree as rich draws it."""
_HEADS = ("operation", "made", "kept", "ans-\nwered", "pass\nrate", "valid-\nity", "nov-\nelty", "learn-\nability", "reward")


def print_trees(writer: Console, rows: Sequence[Row], matching: Collection[int]) -> None:
    """Prints a tree for each seed that has matching rows; their ancestors are drawn too, dimmed.

    Args:
        rows: a corpus; parents stand before their children.
        matching: indices of the rows to show.
    """
    by_seed: dict[str, list[tuple[Row, bool]]] = {}
    for index, row in enumerate(rows):
        by_seed.setdefault(row["seed_id"], []).append((row, index in matching))
    for seed_id, own in by_seed.items():
        if any(matches for _, matches in own):
            writer.print(_tree(seed_id, own, width=writer.width if writer.is_terminal else None))


def print_summary(writer: Console, summary: Row) -> None:
    """Prints the table of operations, and why rows were rejected."""
    body = [_summary_row(operation, figures) for operation, figures in summary["operations"].items()]
    print_table(writer, "", _HEADS, [*body, _summary_row("all", summary)], right=_HEADS[1:])
    if summary["verified_by"]:
        say(writer, "verified by: " + _counts(summary["verified_by"]))
    if summary["rejected"]:
        say(writer, "rejected: " + _counts(summary["rejected"]))


def figure(value: float | None) -> str:
    """Two digits, or a dash where there is nothing to average."""
    return "-" if value is None else f"{value:.2f}"


def _tree(seed_id: str, rows: Sequence[tuple[Row, bool]], *, width: int | None) -> Tree:
    """One seed's tree; a row whose parent is not above it hangs from the seed, so no chain of parents can form a ring.

    Args:
        width: columns to cut lines to; None leaves them whole.
    """
    lineage = rows[0][0]["lineage"]
    root = Tree(_label([("seed ", "bold"), (seed_id, "bold")], "", lineage[0]["text"] if lineage else "", width=width), guide_style="dim")
    nodes: dict[str, tuple[Tree, int]] = {}
    for row, matches in _with_ancestors(rows):
        above, depth = nodes.get(row["parent_id"], (root, 0))
        node = above.add(_node_label(row, matches, width=None if width is None else max(1, width - INDENT_COLUMNS * (depth + 1))))
        nodes[row["id"]] = (node, depth + 1) if depth + 1 < DEEPEST_INDENT else (above, depth)
    return root


def _with_ancestors(rows: Sequence[tuple[Row, bool]]) -> list[tuple[Row, bool]]:
    needed: set[str] = set()
    chosen = []
    for row, matches in reversed(rows):
        if matches or row["id"] in needed:
            needed.add(row["parent_id"])
            chosen.append((row, matches))
    return chosen[::-1]


def _node_label(row: Row, matches: bool, *, width: int | None) -> Text:
    verdict = ("kept", "green") if row["kept"] else ("rejected", "red")
    head = [(row["operation"], "bold" if matches else "dim"), (" · ", "dim"), verdict if matches else (verdict[0], "dim")]
    if row["reject_reason"]:
        head.append((f": {row['reject_reason']}", ""))
    if row["pass_rate"] is not None:
        head.append((f" · passed {row['pass_rate'] * row['samples']:.0f} of {row['samples']}", ""))
    reward = row["reward"]
    figures = ""
    if reward and reward["validity"]:
        parts = " × ".join(f"{part} {figure(reward[part])}" for part in ("validity", "novelty", "learnability"))
        figures = f"{parts} = reward {figure(reward['total'])}"
    parent = row["lineage"][-2]["text"] if len(row["lineage"]) > 1 else ""
    return _label(head, figures, row["instruction"], parent, width=width)


def _label(head: Sequence[tuple[str, str]], figures: str, text: str, parent: str = "", *, width: int | None) -> Text:
    """A heading, and below it figures and a text: all of any origin, so made inert, their white space collapsed."""
    label = Text(no_wrap=True, overflow="ignore" if width is None else "ellipsis")
    for part, style in head:
        label.append(_one_line(part), style)
    if figures:
        label.append(f"\n{figures}", "dim")
    shown = _one_line(text).strip()
    if width is not None:
        shown = _from_the_change(shown, _one_line(parent).strip(), width)
    return label.append(f"\n{shown}") if shown else label


def _from_the_change(text: str, parent: str, width: int) -> str:
    """What fits of a text: where it is too long, what it has in common with its parent's beginning is left out first."""
    common = next((index for index, pair in enumerate(zip(text, parent, strict=False)) if pair[0] != pair[1]), min(len(text), len(parent)))
    if cell_len(text) <= width or not common:
        return text
    # A wide character takes two columns, so its line may come out shorter than it could be, never longer than what is cut anyway.
    start = min(text.rfind(" ", 0, common + 1) + 1, len(text) - width + 1)
    return "…" + text[start:] if start > 0 else text


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", visible(text))


def _summary_row(name: str, figures: Row) -> tuple[object, ...]:
    share = f"{figures['kept']} ({figures['kept'] / figures['made']:.0%})" if figures["made"] else "0"
    means = (figure(figures[key]) for key in ("pass_rate", "validity", "novelty", "learnability", "reward"))
    # With spaces, so that a narrow terminal breaks names between words.
    return name.replace("_", " "), figures["made"], share, figures["answered"], *means


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
