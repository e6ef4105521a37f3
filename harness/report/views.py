"""What the report shows, computed from a run's frames: per-seed scores, spend, pool validation, corpora. No HTML here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.core.records import CLEAN, Status
from harness.report import numbers

POOL_VALIDATION = "pool_validation"
UNTRAINED = "base"
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
        rest = (
            f"cannot be told apart from {_listed(tied)}" if tied else "is ahead of every other method beyond doubt (adjusted paired tests)"
        )
        sentences.append(f"Highest score: {best['method']} with {score}; at this size of study it {rest}.")
    return sentences


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def method_order(trials: pd.DataFrame, leaderboard: Row) -> list[str]:
    """Every method's label, in the study's order."""
    names = [str(name) for name in trials["method"]] if len(trials) else []
    return list(dict.fromkeys(names + [str(row["method"]) for row in leaderboard.get("rows") or []]))


def primary_samples(study: Mapping[str, Any], samples: pd.DataFrame) -> pd.DataFrame:
    """The rows of each task's primary metric; of the first one written for tasks that the study does not describe."""
    if samples.empty:
        return samples
    first = samples.drop_duplicates("task").set_index("task")["metric"].to_dict()
    metrics = first | {task: entry["metric"] for task, entry in (study.get("tasks") or {}).items()}
    return samples[samples["metric"] == samples["task"].map(metrics)]


def seed_scores(primary: pd.DataFrame, tasks: Sequence[str]) -> dict[str, dict[int, dict[str, float]]]:
    """Clean score of each method, seed and task; the entry "" is the macro mean over `tasks`, absent unless all were scored.

    Unparsed answers count as the scorer recorded them: a row without a value is left out of its mean. `primary`: see `primary_samples`.
    """
    rows = _clean_scored(primary)
    rows = rows[rows["task"].isin(tasks)]
    found: dict[str, dict[int, dict[str, float]]] = {}
    for keys, group in rows.groupby(["method", "seed"], sort=False):
        method, seed = _pair(keys)
        means = {str(task): float(value) for task, value in group.groupby("task")["value"].mean().items()}
        if len(means) == len(set(tasks)):
            means[""] = float(np.mean(list(means.values())))
        found.setdefault(method, {})[int(seed)] = means
    return found


def _pair(keys: Any) -> tuple[str, Any]:
    first, second = keys
    return str(first), second


def _clean_scored(samples: pd.DataFrame) -> pd.DataFrame:
    return samples[(samples["perturbation"] == CLEAN) & (samples["status"] == Status.SCORED)].astype({"value": float})


def pool_validation(primary: pd.DataFrame) -> list[Row]:
    """Score on the pool's own validation split, untrained and trained: method, task, before, after, per-seed changes, items."""
    rows = _clean_scored(primary)
    rows = rows[rows["suite"] == POOL_VALIDATION]
    if rows.empty:
        return []
    found = []
    for task, of_task in rows.groupby("task", sort=False):
        means = of_task.groupby(["method", "seed"], sort=False)["value"].mean().unstack("seed")
        if UNTRAINED not in means.index:
            continue
        base_S = means.loc[UNTRAINED].to_numpy(float)
        base_S = np.where(np.isnan(base_S), np.nanmean(base_S), base_S)
        for method in means.index.drop(UNTRAINED):
            after_S = means.loc[method].to_numpy(float)
            there = ~np.isnan(after_S)
            changes = after_S[there] - base_S[there]
            fields = {"task": str(task), "method": str(method), "items": of_task["sample_id"].nunique()}
            values = {"before": float(base_S[there].mean()), "after": float(after_S[there].mean()), "mean_change": float(changes.mean())}
            found.append(fields | values | {"changes": changes.tolist()})
    return found


def distinct(trials: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Trials without the repetitions of methods that have no randomness and share one `stage` for every seed; `shared` marks those."""
    marked = trials.assign(shared=trials.groupby(["method", stage], dropna=False)["seed"].transform("size") > 1)
    return marked.drop_duplicates(["method", stage])


def spend(trials: pd.DataFrame, ledger: pd.DataFrame) -> list[Row]:
    """One row per training of the matched-compute audit: FLOPs against budget, tokens, padding, wall seconds, labels."""
    train = ledger[ledger["account"] == "train"] if len(ledger) else ledger
    totals = train.groupby("trial_id")[["tokens", "padding"]].sum() if len(train) else pd.DataFrame(columns=["tokens", "padding"])
    found = []
    for trial in distinct(trials, "train_stage").to_dict("records"):
        budget, flops = (None if numbers.absent(trial.get(key)) else float(trial[key]) for key in ("budget_flops", "train_flops"))
        share = flops / budget if budget and flops is not None else None
        tokens = totals.loc[trial["trial_id"]] if trial["trial_id"] in totals.index else {"tokens": None, "padding": None}
        found.append(
            trial
            | {
                "energy_j": trial.get("energy_j"),
                "share": share,
                "tokens": tokens["tokens"],
                "padding": tokens["padding"],
                "failed": trial.get("status") != FINISHED,
            }
        )
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
        dict.fromkeys(("value", "drop", "interval"))
        | {"method": str(row["method"]), "perturbation": str(name), "clean": row.get("value")}
        | {"n_items": row.get("n_items"), "n_seeds": row.get("n_seeds")}
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
    reasons = Counter(reason_kind(row) for row in corpus if not row.get("kept"))
    return [{"operation": name} | entry for name, entry in operations.items()], reasons.most_common()


def lineages(corpus: Sequence[Row], *, kept: int = 5, rejected: int = 4) -> list[Row]:
    """A few rows to read: the kept ones with the longest lineage, one of each operation first, and one rejected row per reason."""

    def length(row: Row) -> int:
        return -len(row.get("lineage") or ())

    accepted = sorted((row for row in corpus if row.get("kept")), key=length)
    chosen = _first_of_each(accepted, lambda row: str(row.get("operation")))[:kept]
    chosen += [row for row in accepted if not any(row is other for other in chosen)][: kept - len(chosen)]
    return chosen + _first_of_each([row for row in corpus if not row.get("kept")], reason_kind)[:rejected]


def reason_kind(row: Row) -> str:
    """Why a row was rejected, without the figures that stand behind a colon."""
    return str(row.get("reject_reason") or "no reason recorded").split(":")[0]


def _first_of_each(rows: Sequence[Row], key: Callable[[Row], str]) -> list[Row]:
    seen: dict[str, Row] = {}
    for row in rows:
        seen.setdefault(key(row), row)
    return list(seen.values())


def notes(study: Mapping[str, Any], trials: pd.DataFrame, leaderboard: Row, verdicts: Sequence[Row]) -> list[str]:
    """The limits a reader must know, those that follow from the run first."""
    judged = [str(note) for note in leaderboard.get("notes") or ()]
    found = judged + [str(note) for note in study.get("notes") or ()]
    n_seeds = trials["seed"].nunique() if len(trials) else 0
    if n_seeds < FEW_SEEDS and not judged:
        found.append(
            f"Only {n_seeds} training seed{'' if n_seeds == 1 else 's'}: below {FEW_SEEDS} the spread between trainings is hardly known."
        )
    missing = int((trials["status"] != FINISHED).sum()) if len(trials) else 0
    if missing and not judged:
        found.append(f"{missing} of {len(trials)} trials are not finished; scores cover the rest.")
    if not verdicts:
        found.append("No claim was judged in this run.")
    return found
