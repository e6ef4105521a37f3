"""Lineages as trees in the terminal: seed → operation → child, and the figures of each operation."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

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
            writer.print(_tree(seed_id, own, cut=writer.is_terminal))


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


def _tree(seed_id: str, rows: Sequence[tuple[Row, bool]], *, cut: bool) -> Tree:
    """One seed's tree; a row whose parent is not above it hangs from the seed, so no chain of parents can form a ring."""
    first = rows[0][0]
    start = first["lineage"][0]["text"] if first["lineage"] else ""
    root = Tree(_label([("seed ", "bold"), (seed_id, "bold"), (f" · {first['family']}", "dim")], "", start, cut=cut), guide_style="dim")
    nodes: dict[str, tuple[Tree, int]] = {}
    for row, matches in _with_ancestors(rows):
        above, depth = nodes.get(row["parent_id"], (root, 0))
        node = above.add(_node_label(row, matches, cut=cut))
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


def _node_label(row: Row, matches: bool, *, cut: bool) -> Text:
    verdict = ("kept", "green") if row["kept"] else ("rejected", "red")
    head = [(row["operation"], "bold" if matches else "dim"), (" · ", "dim"), verdict if matches else (verdict[0], "dim")]
    if row["reject_reason"]:
        head.append((f": {row['reject_reason']}", ""))
    if row["pass_rate"] is not None:
        head.append((f" · passed {row['pass_rate'] * row['samples']:.0f} of {row['samples']}", ""))
    reward = row["reward"]
    parts = " × ".join(f"{part} {figure(reward[part])}" for part in ("validity", "novelty", "learnability"))
    return _label(head, f"{parts} = reward {figure(reward['total'])}" if reward["validity"] else "", row["instruction"], cut=cut)


def _label(head: Sequence[tuple[str, str]], figures: str, text: str, *, cut: bool) -> Text:
    """A heading, and below it figures and a text: all of any origin, so made inert, their white space collapsed."""
    label = Text(no_wrap=True, overflow="ellipsis" if cut else "ignore")
    for part, style in head:
        label.append(_one_line(part), style)
    if figures:
        label.append(f"\n{figures}", "dim")
    shown = _one_line(text).strip()
    return label.append(f"\n{shown}") if shown else label


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", visible(text))


def _summary_row(name: str, figures: Row) -> tuple[object, ...]:
    share = f"{figures['kept']} ({figures['kept'] / figures['made']:.0%})" if figures["made"] else "0"
    means = (figure(figures[key]) for key in ("pass_rate", "validity", "novelty", "learnability", "reward"))
    # With spaces, so that a narrow terminal breaks names between words.
    return name.replace("_", " "), figures["made"], share, figures["answered"], *means


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
