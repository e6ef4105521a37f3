"""Tables of scores and verdicts: the leaderboard, task by task, each seed's scores, every reading of every claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report import numbers
from harness.report.table import Cell, Column, Table, amount, label, words

Row = dict[str, Any]


def leaderboard_table(board: Mapping[str, Any], *, drawings: Mapping[str, Any] | None = None, ends: tuple[str, str] | None = None) -> Table:
    """The leaderboard; ranks only where compute was matched. `drawings` per method are placed between `ends`."""
    matched = bool(board.get("matched"))
    columns = [Column("Method", "method", numeric=False)]
    columns += [Column("Rank", "rank"), Column("Ranks it may have", "rank_interval", numeric=False)] if matched else []
    columns += [Column("Score, 95 % interval", "score")]
    columns += [Column("", ends=ends)] if drawings is not None and ends else []
    columns += [
        Column("Seeds", "n_seeds"), Column("Items", "n_items"), Column("Train compute", "train_flops"), Column("Wall time", "wall_s"),
        Column("Cost", "cost_usd"), Column("Demonstrations", "demonstrations"), Column("Comparisons", "comparisons"),
    ]  # fmt: skip
    rows = [_board_row(row, matched, drawings if ends else None) for row in board.get("rows") or []]
    return Table("leaderboard", board_caption(board), columns, rows)


def _board_row(row: Mapping[str, Any], matched: bool, drawings: Mapping[str, Any] | None) -> list[Cell]:
    first, last = row.get("rank_interval") or (row.get("rank"), row.get("rank"))
    span = numbers.count(first) if first == last else f"{numbers.count(first)}–{numbers.count(last)}"
    tied = "tied with best" if matched and row.get("tied_with_best") else ""
    few = "few seeds" if not numbers.absent(row.get("n_seeds")) and row["n_seeds"] < 5 and row.get("train_flops") else ""
    dropped = "" if not row.get("n_dropped") else f"{numbers.count(row['n_dropped'])} without a score"
    return [
        label(row["method"], flag=tied, tone="good"),
        *([amount(row.get("rank"), numbers.count), words(span)] if matched else []),
        amount(row.get("value"), numbers.percent, interval=row.get("interval"), strong=True),
        *([] if drawings is None else [Cell("", drawing=drawings.get(row["method"]), color_of=str(row["method"]))]),
        amount(row.get("n_seeds"), numbers.count, flag=few),
        amount(row.get("n_items"), numbers.count, note=dropped),
        amount(row.get("train_flops"), numbers.flops),
        amount(row.get("wall_s"), numbers.seconds),
        amount(row.get("cost_usd"), numbers.dollars),
        amount(row.get("demonstrations"), numbers.count),
        amount(row.get("comparisons"), numbers.count),
    ]


def board_caption(board: Mapping[str, Any]) -> str:
    """What the score is and whether it may be ranked."""
    text = str(board.get("metric_text") or "mean of the tasks").rstrip(".")
    if not board.get("matched"):
        return f"Scores on clean items: {text}. Training compute was NOT matched: no ranks."
    spread = (
        ""
        if numbers.absent(board.get("match_spread"))
        else f"; every training account within {numbers.percent(board['match_spread'])} of the budget"
    )
    return f"Scores on clean items, best first: {text}{spread}. “Tied with best”: paired tests cannot tell it from the best."


def task_table(tasks: Sequence[Row], methods: Sequence[str]) -> Table:
    """Clean score of each method on each task; `tasks` as `cards.leaderboard` gives them."""
    columns = [Column("Task", "task", numeric=False), Column("Chance", "chance"), *(Column(name, name, method=True) for name in methods)]
    rows = [
        [
            words(task["name"]),
            Cell("none") if task["chance"] is None else amount(task["chance"], numbers.percent),
            *map(_task_cell, task["cells"]),
        ]
        for task in tasks
    ]
    text = "Clean score per task with 95 % interval; n: items scored. “At chance”: not above guessing, so differences there say little."
    return Table("tasks", text, columns, rows)


def _task_cell(cell: Row | None) -> Cell:
    if not cell:
        return Cell(numbers.MISSING)
    of = "" if not cell["n_total"] or cell["n_total"] == cell["n"] else f" of {numbers.count(cell['n_total'])}"
    flag = "at chance" if cell["at_chance"] else ""
    return amount(cell["value"], numbers.percent, interval=cell["interval"], note=f"n = {numbers.count(cell['n'])}{of}", flag=flag)


def seed_table(rows: Sequence[Row], tasks: Sequence[str]) -> Table:
    """Every training seed's scores, one row a checkpoint."""
    columns = [
        Column("Method", "method", numeric=False), Column("Seed", "seed", numeric=False), Column("Mean of tasks", "mean"),
        *(Column(task, f"task:{task}") for task in tasks),
    ]  # fmt: skip
    body = [
        [
            label(row["method"]),
            _seed(row["seed"]),
            amount(row["macro"], numbers.percent, strong=True),
            *(amount(value, numbers.percent) for value in row["tasks"]),
        ]
        for row in rows
    ]
    text = "Clean score of every training seed; “all”: a method without randomness, scored once."
    return Table("seeds", text, columns, body)


def _seed(seed: Any) -> Cell:
    return words(seed) if isinstance(seed, str) else amount(seed, numbers.count)


def readings_table(verdicts: Sequence[Row]) -> Table:
    """Every reading of every claim; `verdicts` with every key present (`cards.complete`)."""
    columns = [
        Column("Claim", "claim_id", numeric=False), Column("Reading", "reading", numeric=False),
        Column("Primary", "primary", numeric=False),
        Column("Verdict", "verdict", numeric=False), Column("Treatment", "treatment", numeric=False),
        Column("Comparator", "comparator", numeric=False), Column("Effect, interval", "effect"),
        Column("Claimed", "threshold", numeric=False), Column("p, adjusted", "p_adjusted"), Column("Seeds", "n_seeds"),
        Column("Items", "n_items"), Column("Detectable (MDE)", "mde"),
    ]  # fmt: skip
    rows = [_reading(verdict) for verdict in verdicts]
    text = "Effects with their intervals. p is adjusted by Holm over the primary readings, by Benjamini–Hochberg over the others."
    return Table("readings", text, columns, rows)


def _reading(found: Row) -> list[Cell]:
    estimand, unit, primary = found["estimand"], found["unit"], bool(found.get("primary"))

    def write(value: Any) -> str:
        return numbers.effect(value, estimand, unit)

    adjusted = found["p_holm"] if primary or found["p_bh"] is None else found["p_bh"]
    bound = f"{found['bound']} " if found.get("bound") else ""
    effect = Cell(bound + write(found["effect"]), _number(found["effect"]), found["interval"], write, strong=True)
    return [
        words(found["claim_id"]), words(found["reading"]), words("primary" if primary else "no"), words(found["verdict"]),
        words(found["treatment"]), words(found["binding_comparator"] or found["comparator"]), effect,
        words(numbers.claimed(found)), amount(adjusted, numbers.p_value), amount(found["n_seeds"], numbers.count),
        amount(found["n_items"] if unit == "share" else None, numbers.count),
        amount(found["mde"], lambda value: numbers.magnitude(value, estimand, unit)),
    ]  # fmt: skip


def _number(value: Any) -> float | None:
    return None if numbers.absent(value) else float(value)


def operations_table(method: str, operations: Sequence[Row], index: int) -> Table:
    """What each operation made of a method's instructions."""
    rows = [
        [
            words(row["operation"]), amount(row["made"], numbers.count), amount(row["kept"], numbers.count),
            amount(row["verified"], numbers.count), amount(row["kept"] / row["made"], numbers.percent),
        ]
        for row in operations
    ]  # fmt: skip
    columns = [
        Column("Operation", "operation", numeric=False), Column("Made", "made"), Column("Kept", "kept"), Column("Verified", "verified"),
        Column("Kept share", "kept_share"),
    ]  # fmt: skip
    return Table(f"operations{index}", f"Instructions by their last operation, all seeds of {method}.", columns, rows)


def reasons_table(method: str, reasons: Sequence[tuple[str, int]], index: int) -> Table:
    """Why a method's instructions were rejected."""
    rows = [[words(reason), amount(number, numbers.count)] for reason, number in reasons]
    columns = [Column("Reason", "reason", numeric=False), Column("Count", "count")]
    return Table(f"reasons{index}", f"Rejected instructions by reason, all seeds of {method}.", columns, rows)


def stages_table(trials: Sequence[Mapping[Any, Any]]) -> Table:
    """Which stages each trial is made of."""
    rows = [
        [words(row["trial_id"]), *(words(_known(row.get(key))) for key in ("train_stage", "score_stage", "status", "device"))]
        for row in trials
    ]
    columns = [
        Column("Trial", "trial_id", numeric=False), Column("Train stage", "train_stage", numeric=False),
        Column("Score stage", "score_stage", numeric=False), Column("Status", "status", numeric=False),
        Column("Device", "device", numeric=False),
    ]  # fmt: skip
    return Table("stages", "Content-addressed stages: equal ids were computed once.", columns, rows)


def _known(value: Any) -> Any:
    return value if isinstance(value, str) else None
