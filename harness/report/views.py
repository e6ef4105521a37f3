"""What the report shows, computed from a run's frames: per-seed scores, spend, pool validation, corpora. No HTML here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.core.records import CLEAN, Status
from harness.report import numbers

POOL_VALIDATION = "pool_validation"
FEW_SEEDS = 5
FINISHED = "finished"
OUTCOMES = ("met", "positive but short", "inconclusive", "contradicted", "not testable here")

Row = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """One claim: its primary reading, the others, and how sure the run is of it."""

    primary: Row
    others: list[Row]


def claims(verdicts: Sequence[Row]) -> list[Claim]:
    """Verdicts grouped by claim in their order; without a reading marked primary the first one leads."""
    groups: dict[str, list[Row]] = {}
    for verdict in verdicts:
        groups.setdefault(str(verdict.get("claim_id")), []).append(verdict)
    found = []
    for readings in groups.values():
        lead = next((reading for reading in readings if reading.get("primary")), readings[0])
        found.append(Claim(lead, [reading for reading in readings if reading is not lead]))
    return found


def summary(found: Sequence[Claim], leaderboard: Row) -> list[str]:
    """Plain-language sentences on the outcome, computed from the verdicts and the leaderboard."""
    sentences = []
    if found:
        tally = Counter(str(claim.primary.get("verdict")) for claim in found)
        names = [*OUTCOMES, *sorted(set(tally) - set(OUTCOMES))]
        parts = [f"{tally[name]} {name}" for name in names if tally[name]]
        noun = "claim" if len(found) == 1 else "claims"
        sentences.append(f"Of {len(found)} {noun} judged on the primary reading: {', '.join(parts)}.")
    rows = leaderboard.get("rows") or []
    if rows and not leaderboard.get("matched"):
        sentences.append("The methods did not spend the same compute, so they are not ranked.")
    elif rows:
        best = max(rows, key=lambda row: -np.inf if numbers.absent(row.get("value")) else row["value"])
        score = f"{numbers.percent(best.get('value'))} {numbers.interval(best.get('interval'))}"
        tied = [str(row["method"]) for row in rows if row is not best and row.get("tied_with_best")]
        rest = f"cannot be told apart from {' and '.join(tied)}" if tied else "is ahead of all others beyond its interval"
        sentences.append(f"Highest score: {best['method']} with {score}; at this size of study it {rest}.")
    return sentences


def method_order(trials: pd.DataFrame, leaderboard: Row) -> list[str]:
    """Every method's label, in the study's order."""
    names = [str(name) for name in trials["method"]] if len(trials) else []
    return list(dict.fromkeys(names + [str(row["method"]) for row in leaderboard.get("rows") or []]))


def primary_samples(samples: pd.DataFrame) -> pd.DataFrame:
    """The rows of each task's first metric, in the order the scorer wrote them."""
    if samples.empty:
        return samples
    first = samples.groupby(["suite", "task"], sort=False)["metric"].transform("first")
    return samples[samples["metric"] == first]


def seed_scores(samples: pd.DataFrame, tasks: Sequence[str]) -> dict[str, dict[int, dict[str, float]]]:
    """Clean score of each method, seed and task; the entry "" is the macro mean over `tasks`, absent unless all were scored.

    Unparsed answers count as the scorer recorded them: a row without a value is left out of its mean.
    """
    rows = primary_samples(samples)
    rows = rows[(rows["perturbation"] == CLEAN) & rows["task"].isin(tasks) & (rows["status"] == Status.SCORED)] if len(rows) else rows
    found: dict[str, dict[int, dict[str, float]]] = {}
    for (method, seed), group in rows.groupby(["method", "seed"], sort=False) if len(rows) else ():
        means = {str(task): float(value) for task, value in group.groupby("task")["value"].mean().items()}
        if len(means) == len(set(tasks)):
            means[""] = float(np.mean(list(means.values())))
        found.setdefault(str(method), {})[int(seed)] = means
    return found


def pool_validation(samples: pd.DataFrame) -> list[Row]:
    """Score on the pool's own validation split, untrained and trained: method, task, before, after, per-seed changes, items."""
    rows = primary_samples(samples)
    rows = rows[(rows["suite"] == POOL_VALIDATION) & (rows["perturbation"] == CLEAN) & (rows["status"] == Status.SCORED)] if len(rows) else rows
    if rows.empty:
        return []
    means = rows.groupby(["task", "method", "seed"], sort=False)["value"].mean()
    items = rows.groupby("task")["sample_id"].nunique()
    found = []
    for (task, method), by_seed in means.groupby(level=["task", "method"], sort=False):
        if method == "base" or (task, "base") not in means.index.droplevel("seed"):
            continue
        base = means[task, "base"]
        before = by_seed.index.get_level_values("seed").map(lambda seed, base=base: base.get(seed, base.mean()))
        changes = by_seed.to_numpy(float) - before.to_numpy(float)
        found.append({
            "task": str(task), "method": str(method), "before": float(before.to_numpy(float).mean()), "after": float(by_seed.mean()),
            "changes": [float(change) for change in changes], "items": int(items[task]),
        })  # fmt: skip
    return found


def spend(trials: pd.DataFrame, ledger: pd.DataFrame) -> list[Row]:
    """One row per trial of the matched-compute audit: FLOPs against budget, tokens, padding, wall seconds, labels."""
    train = ledger[ledger["account"] == "train"] if len(ledger) else ledger
    totals = train.groupby("trial_id")[["tokens", "padding"]].sum() if len(train) else pd.DataFrame(columns=["tokens", "padding"])
    found = []
    for trial in trials.to_dict("records"):
        budget, flops = trial.get("budget_flops"), trial.get("train_flops")
        share = None if numbers.absent(budget) or numbers.absent(flops) or not budget else float(flops) / float(budget)
        tokens = totals.loc[trial["trial_id"]] if trial["trial_id"] in totals.index else {"tokens": None, "padding": None}
        found.append(trial | {"share": share, "tokens": tokens["tokens"], "padding": tokens["padding"], "failed": trial.get("status") != FINISHED})
    return found


def phase_shares(ledger: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Each method's mean share of training FLOPs per phase; untrained methods are absent."""
    train = ledger[(ledger["account"] == "train") & (ledger["flops"] > 0)] if len(ledger) else ledger
    found: dict[str, dict[str, float]] = {}
    for method, group in train.groupby("method", sort=False) if len(train) else ():
        by_phase = group.groupby("phase")["flops"].sum().sort_values(ascending=False)
        found[str(method)] = {str(phase): float(value / by_phase.sum()) for phase, value in by_phase.items()}
    return found


def robustness(leaderboard: Row) -> list[Row]:
    """One row per method and perturbation: clean value, perturbed value, drop with its interval."""
    return [
        {"method": str(row["method"]), "perturbation": str(name), "clean": row.get("value"), "n_items": row.get("n_items"), "n_seeds": row.get("n_seeds")}
        | dict(entry)
        for row in leaderboard.get("rows") or []
        for name, entry in (row.get("robustness") or {}).items()
    ]


def corpus_counts(corpus: Sequence[Row]) -> tuple[list[Row], list[tuple[str, int]]]:
    """How many instructions each operation made, kept and had verified; and how many were rejected for each reason."""
    operations: dict[str, Row] = {}
    for row in corpus:
        entry = operations.setdefault(str(row.get("operation") or "none"), {"made": 0, "kept": 0, "verified": 0})
        entry["made"] += 1
        entry["kept"] += bool(row.get("kept"))
        entry["verified"] += bool(row.get("verified"))
    reasons = Counter(str(row.get("reject_reason") or "no reason recorded") for row in corpus if not row.get("kept"))
    return [{"operation": name} | entry for name, entry in operations.items()], reasons.most_common()


def lineages(corpus: Sequence[Row], *, kept: int = 5, rejected: int = 4) -> list[Row]:
    """A few rows to read: the kept ones with the longest lineage, one of each operation first, and one rejected row per reason."""

    def length(row: Row) -> int:
        return -len(row.get("lineage") or ())

    accepted = sorted((row for row in corpus if row.get("kept")), key=length)
    chosen = _first_of_each(accepted, "operation")[:kept]
    chosen += [row for row in accepted if not any(row is other for other in chosen)][: kept - len(chosen)]
    return chosen + _first_of_each([row for row in corpus if not row.get("kept")], "reject_reason")[:rejected]


def _first_of_each(rows: Sequence[Row], key: str) -> list[Row]:
    seen: dict[str, Row] = {}
    for row in rows:
        seen.setdefault(str(row.get(key)), row)
    return list(seen.values())


def notes(study: Mapping[str, Any], trials: pd.DataFrame, leaderboard: Row, verdicts: Sequence[Row]) -> list[str]:
    """The limits a reader must know, those that follow from the run first."""
    found = [str(note) for note in leaderboard.get("notes") or ()]
    found += [str(note) for note in study.get("notes") or ()]
    n_seeds = trials["seed"].nunique() if len(trials) else 0
    if n_seeds < FEW_SEEDS:
        found.append(
            f"Only {n_seeds} training seed{'' if n_seeds == 1 else 's'}: with fewer than {FEW_SEEDS} the spread between trainings is itself hardly known."
        )
    missing = int((trials["status"] != FINISHED).sum()) if len(trials) else 0
    if missing:
        found.append(f"{missing} of {len(trials)} trials are not finished; scores cover the rest.")
    if not verdicts:
        found.append("No claim was judged in this run.")
    return found
