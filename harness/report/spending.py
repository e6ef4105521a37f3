"""What the report says of spending: phases of compute, the ranking on each axis of matching, cost at equal quality, tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.core.grid import written
from harness.core.results import RunResults
from harness.report import numbers, views
from harness.report.table import Cell, Column, Table, amount, label, markdown_rows, words
from harness.report.text import visible
from harness.verdicts.judge import MATCH_TOLERANCE

Row = dict[str, Any]
PAIR_AXES = ("flops", "seconds", "usd", "labels")


def context(run: RunResults) -> Row:
    """What the spending templates name."""
    board, shares = run.leaderboard, views.phase_shares(run.ledger)
    spend = views.spend(run.trials, run.ledger)
    axes = _axes(board.get("axes") or {})
    pairs = _pairs(board.get("equal_quality") or [])
    tuned = _tuned(run.tuned)
    return {
        "budgets": sorted({float(row["budget_flops"]) for row in spend if not numbers.absent(row["budget_flops"])}),
        "audit_table": _audit(spend) if spend else None,
        "trainings_table": _trainings(spend) if spend else None,
        "accounts_table": _accounts(run),
        "phases_table": _phases(shares) if shares else None,
        "axes_text": axes["text"] if axes else "",
        "axes_table": _axes_table(axes) if axes else None,
        "pairs_table": _pairs_table(pairs) if pairs else None,
        "tuned_table": _tuned_table(tuned) if tuned else None,
        "capped": [str(row["trial_id"]) for row in run.trials.to_dict("records") if isinstance(row.get("ended_by"), str)],
    }


def _audit(spend: Sequence[Row]) -> Table:
    """One row a method: how near each of its training accounts came to the budget."""
    rows = []
    for method in dict.fromkeys(str(row["method"]) for row in spend):
        own = [row for row in spend if row["method"] == method]
        shares = [row["share"] for row in own if row["share"]]
        flops = [row["train_flops"] for row in own if not numbers.absent(row["train_flops"])]
        off = max((abs(share - 1) for share in shares), default=None)
        failed = sum(row["failed"] for row in own)
        state, tone = ("untrained", "") if off is None else ("matched", "good") if off <= MATCH_TOLERANCE else ("not matched", "bad")
        rows.append([
            label(method), amount(len(own), numbers.count, flag=f"{failed} unfinished" if failed else "", tone="bad"),
            amount(sum(flops) / len(flops) if flops else None, numbers.flops), amount(min(shares, default=None), numbers.percent),
            amount(max(shares, default=None), numbers.percent), amount(off, numbers.percent, strong=True),
            Cell(state, state, flag="" if tone == "good" or off is None else "beyond the limit", tone=tone),
        ])  # fmt: skip
    columns = [
        Column("Method", "method", numeric=False), Column("Trainings", "trainings"), Column("Mean spend", "mean_train_flops"),
        Column("Least, of budget", "least_share"), Column("Most, of budget", "most_share"), Column("Furthest off", "furthest_off"),
        Column("Judged", "judged", numeric=False),
    ]  # fmt: skip
    text = f"Training account of every method against the budget; matched: every training within {numbers.percent(MATCH_TOLERANCE)} of it."
    return Table("audit", text, columns, rows)


def _trainings(spend: Sequence[Row]) -> Table:
    rows = [
        [
            label(row["method"]), words("all") if row["shared"] else amount(row["seed"], numbers.count), words(row["status"]),
            amount(row["train_flops"], numbers.flops),
            amount(row["share"], numbers.percent, strong=True) if row["train_flops"] else Cell("untrained"),
            amount(row["tokens"], numbers.count), amount(row["padding"], numbers.count), amount(row["wall_s"], numbers.seconds),
            amount(row["energy_j"], numbers.energy), amount(row["demonstrations"], numbers.count),
            amount(row["comparisons"], numbers.count), amount(row["queries"], numbers.count),
            amount(row["verifications"], numbers.count), amount(row["human_s"], numbers.seconds),
            amount(row["cost_usd"], numbers.dollars),
        ]
        for row in spend
    ]  # fmt: skip
    columns = [
        Column("Method", "method", numeric=False), Column("Seed", "seed", numeric=False), Column("Status", "status", numeric=False),
        Column("Train compute", "train_flops"), Column("Of budget", "share_of_budget"), Column("Tokens", "tokens"),
        Column("Padding", "padding_tokens"), Column("Wall time", "wall_s"), Column("Energy", "energy_j"),
        Column("Demonstrations", "demonstrations"), Column("Comparisons", "comparisons"), Column("Queries", "queries"),
        Column("Verifications", "verifications"), Column("Human time", "human_s"), Column("Cost", "cost_usd"),
    ]  # fmt: skip
    text = (
        "Training account of every trial; “all”: a method without randomness, done once. Tokens as charged, padding apart; labels and "
        "queries are counted beside the budget. Energy: where a counter was read."
    )
    failed = frozenset(place for place, row in enumerate(spend) if row["failed"])
    return Table("trainings", text, columns, rows, marked=failed)


def _accounts(run: RunResults) -> Table | None:
    """What each method's trials spent in every account, shared stages counted once a method."""
    own = views.distinct(run.trials, "train_stage")
    ledger = run.ledger[run.ledger["trial_id"].isin(own["trial_id"])] if len(run.ledger) else run.ledger
    totals = ledger.groupby(["method", "account"], sort=False)["flops"].sum() if len(ledger) else None
    if totals is None or not float(totals.sum()):
        return None
    accounts = list(dict.fromkeys(account for _, account in totals.index))
    methods = list(dict.fromkeys(method for method, _ in totals.index))
    rows = [[label(name), *(amount(totals.get((name, account)), numbers.flops) for account in accounts)] for name in methods]
    columns = [Column("Method", "method", numeric=False), *(Column(str(account), f"{account}_flops") for account in accounts)]
    text = (
        "Compute of all trials of a method by account. Only “train” is bound by the budget; “eval” is scoring, “tune” the search of "
        "settings."
    )
    return Table("accounts", text, columns, rows)


def _phases(shares: Mapping[str, Mapping[str, float]]) -> Table:
    phases, _ = phase_rows(shares)
    rows = [[label(method), *(amount(by_phase.get(phase), numbers.percent) for phase in phases)] for method, by_phase in shares.items()]
    columns = [Column("Method", "method", numeric=False), *(Column(phase) for phase in phases)]
    return Table("phases", "Share of each method's training FLOPs by phase, mean over seeds.", columns, rows)


def phase_rows(shares: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Phases, the largest first, and each method's share of its training FLOPs in each."""
    totals: dict[str, float] = {}
    for by_phase in shares.values():
        for phase, share in by_phase.items():
            totals[phase] = totals.get(phase, 0.0) + share
    phases = sorted(totals, key=lambda phase: -totals[phase])
    return phases, [
        (method, [numbers.percent(by_phase[phase]) if phase in by_phase else numbers.MISSING for phase in phases])
        for method, by_phase in shares.items()
    ]


def phase_markdown(shares: Mapping[str, Mapping[str, float]]) -> str:
    """The table of phase shares in Markdown."""
    phases, rows = phase_rows(shares)
    lines = [["method", *phases], *([visible(method), *cells] for method, cells in rows)]
    return markdown_rows(lines, numeric=[False, *(True for _ in phases)])


def _axes(table: Mapping[str, Any]) -> Row:
    if not table:
        return {}
    methods = list(table["rows"][0]["spend"])
    rows = [
        {
            "axis": row["axis"],
            "spend": [row["spend"][method] for method in methods],
            "at": numbers.spend(row["at"], row["axis"]),
            "ranking": {entry["method"]: (place, entry) for place, entry in enumerate(row["ranking"] or (), start=1)},
            "why": row["why"],
        }
        for row in table["rows"]
    ]
    return {"methods": methods, "rows": rows, "text": table["text"], "checkpoints": table["checkpoints"], "tasks": table["tasks"]}


def _axes_table(axes: Row) -> Table:
    """Methods by axes: mean spend, and below it place and score at equal spend."""

    def cell(row: Row, at: int, method: str) -> Cell:
        axis = row["axis"]
        place, entry = row["ranking"].get(method, (None, None))
        note = "" if entry is None else f"at equal spend: {place}., {numbers.percent(entry['value'])}"
        flag = "tied with best" if entry and entry["tied_with_best"] else ""
        return amount(row["spend"][at], lambda value: numbers.spend(value, axis), note=note, flag=flag, tone="good")

    rows = [[label(method), *(cell(row, at, method) for row in axes["rows"])] for at, method in enumerate(axes["methods"])]
    columns = [Column("Method", "method", numeric=False), *(Column(numbers.AXIS_NAMES[row["axis"]], row["axis"]) for row in axes["rows"])]
    text = "Mean spend of whole runs on each axis."
    if axes["checkpoints"]:
        told = "; ".join(
            numbers.AXIS_NAMES[row["axis"]] + (f" {row['at']}" if row["ranking"] else f": no ranking, {row['why']}") for row in axes["rows"]
        )
        text += (
            " Below it: place and score at the largest spend that all methods reached in every seed, on "
            f"{', '.join(axes['tasks'])}; “tied with best”: paired tests over seeds cannot tell it from the best. Compared at: {told}."
        )
    return Table("axes", text, columns, rows)


def _pairs(table: Sequence[Row]) -> dict[tuple[str, str], Row]:
    """Rows of the table of equal quality by (method, rival): {axis: row}, and why there is nothing."""
    pairs: dict[tuple[str, str], Row] = {}
    for row in table:
        pair = pairs.setdefault((row["treatment"], row["comparator"]), {"axes": {}, "why": "", "told": None})
        if row.get("ratio") is None:
            pair["why"] = pair["why"] or row["why"]
        else:
            pair["axes"][row["axis"]] = pair["told"] = row
    return pairs


def _pairs_table(pairs: Mapping[tuple[str, str], Row]) -> Table:
    def cell(row: Row | None) -> Cell:
        if row is None:
            return Cell(numbers.MISSING)
        mine = "never in some seed" if row["treatment_cost"] is None else numbers.spend(row["treatment_cost"], row["axis"])
        exact = str(row["ratio"]).replace(".", "", 1).isdigit()
        note = f"{mine} against {numbers.spend(row['comparator_cost'], row['axis'])}"
        return Cell(f"{row['ratio']}×", float(row["ratio"]) if exact else str(row["ratio"]), row["interval"], numbers.number, note=note)

    rows = [
        [
            label(treatment), label(comparator), *(cell(pair["axes"].get(axis)) for axis in PAIR_AXES),
            amount(pair["told"]["share_never"] if pair["told"] else None, numbers.percent),
            amount(pair["told"]["n_seeds"] if pair["told"] else None, numbers.count), words(None if pair["told"] else pair["why"]),
        ]
        for (treatment, comparator), pair in pairs.items()
    ]  # fmt: skip
    columns = [
        Column("Method", "method", numeric=False), Column("Rival", "rival", numeric=False),
        *(Column(numbers.AXIS_NAMES[axis], f"{axis}_ratio") for axis in PAIR_AXES),
        Column("Never reached", "share_never"), Column("Seeds", "n_seeds"), Column("Why nothing is known", "why", numeric=False),
    ]  # fmt: skip
    text = "Cost to reach the rival's final quality as a multiple of the rival's own, by axis, with 95 % interval over seeds."
    return Table("equal_quality", text, columns, rows)


def _tuned_table(tuned: Sequence[Row]) -> Table:
    rows = [
        [
            label(row["method"]), words(row["chosen"]),
            words("; ".join(f"{values}: {score}{' ' + errors if errors else ''}" for values, score, errors in row["candidates"])),
            amount(row["flops"], numbers.flops),
        ]
        for row in tuned
    ]  # fmt: skip
    columns = [
        Column("Method", "method", numeric=False), Column("Chosen", "chosen", numeric=False),
        Column("Candidates", "candidates", numeric=False), Column("Tuning compute", "tune_flops"),
    ]  # fmt: skip
    text = "Every candidate of each method's grid with its validation score; account “tune”, beside the training budget."
    return Table("tuned", text, columns, rows)


def _tuned(record: Mapping[str, Any]) -> list[Row]:
    return [
        {
            "method": label,
            "chosen": written(entry["values"]),
            "candidates": [
                (written(candidate["values"]), numbers.percent(candidate["score"]), "; ".join(candidate["errors"]))
                for candidate in entry.get("candidates", [])
            ],
            "flops": sum(candidate["flops"] for candidate in entry.get("candidates", [])),
        }
        for label, entry in (record.get("methods") or {}).items()
    ]
