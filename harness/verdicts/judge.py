"""Verdicts on claims, from a finished run's frames alone.

Per reading the effect is tested against its threshold and against "no effect", two-sided at α. The primary readings of all claims form one
Holm family for each of the two tests, so the chance that any false claim is called met is at most α/2. A reading against several
comparators must hold against each of them: its p for "beyond" is the largest of theirs (intersection–union), its p for "excluded" the
smallest times their number. "No difference" is shown by two one-sided tests against the ends of its margin, each at α/2 (the interval lies
inside), and contradicted where the effect surely lies outside; it takes no part in the family of tests of no effect.

A reading that rests on a stage with a changed file is not judged. It stays in the adjustments with p = 1, so that the others' adjusted p
values are never smaller than they were, whatever the file said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core.blocks import apart
from harness.stats.multiplicity import benjamini_hochberg, holm
from harness.stats.power import MOST_SEEDS, designs_needed, mde
from harness.verdicts.claims import NO_EFFECT, Claim, ClaimFile, Reading
from harness.verdicts.estimands import NEEDS_MORE, NO_FOLDS, Effect, effect, unit
from harness.verdicts.frames import Frames, NotTestableError, Scores, TaskInfo, compute_spread
from harness.verdicts.wording import amount, explain, metric_text

MATCH_TOLERANCE = 0.02
EVIDENCE_CHANGED = "evidence changed"
"""Instead of a verdict, where a reading rests on a changed file."""
FEW_SEEDS = 5
ESTIMANDS = {"relative": "relative difference", "absolute": "absolute difference", "ratio": "ratio"}
_COMPUTE_FREE = ("labels", "human_s", "queries", "cost_at_equal_quality", "queries_at_equal_quality", *NEEDS_MORE)
"""Estimands whose meaning does not depend on the methods having spent the same compute in this run."""


@dataclass(frozen=True)
class Tails:
    """One-sided p values in the claim's direction, over all comparators of a reading."""

    beyond: float
    """Of "the effect does not reach the threshold"."""
    excluded: float
    """Of "the effect reaches the threshold"."""
    positive: float
    """Of "no effect, or a reversed one"."""
    reversed: float

    @property
    def p_threshold(self) -> float:
        """Two-sided p of the threshold."""
        return min(1.0, 2 * min(self.beyond, self.excluded))

    @property
    def p_none(self) -> float:
        """Two-sided p of no effect."""
        return min(1.0, 2 * min(self.positive, self.reversed))


@dataclass(frozen=True)
class _Judged:
    claim: Claim
    reading: Reading
    effects: tuple[Effect, ...] = ()
    refused: str = ""
    p_threshold: float = 1.0
    p_none: float = 1.0
    p_bh: float | None = None
    changed: bool = False
    """It rests on a stage with a changed file."""

    @property
    def adjusted(self) -> bool:
        """Whether it takes part in adjustments for several tests."""
        return self.tested or self.changed

    @property
    def tested(self) -> bool:
        """Whether a test was made: not where nothing could be compared, nor where equal counts were compared."""
        return bool(self.effects) and not all(found.certain for found in self.effects)

    @property
    def tests(self) -> Tails:
        return combine(self.effects, self.reading)

    @property
    def binding(self) -> Effect:
        """The effect against the comparator that is hardest to beat."""
        none = NO_EFFECT[self.reading.measure]
        if self.reading.direction == "equal":
            return max(self.effects, key=lambda found: abs(found.estimate - none))
        sign = 1 if self.reading.direction == "higher" else -1
        return min(self.effects, key=lambda found: sign * found.estimate)


def judge(
    results: Frames,
    claims: ClaimFile | Sequence[ClaimFile],
    *,
    task_info: TaskInfo | None = None,
    checksums: Mapping[str, str] | None = None,
    damaged: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Judges every reading of every claim; rows of verdicts.json.

    Args:
        claims: one or several claim files; all their primary readings are adjusted together, at each file's own alpha.
        task_info: see `Scores`; by default the study's own description of its tasks.
        checksums: of the run's stages (harness.verdicts.evidence), to be recorded with the verdicts that rest on them.
        damaged: by stage what is wrong with its files; readings that rest on one of these are not judged.
    """
    scores = Scores(results, task_info)
    rows: list[tuple[ClaimFile, _Judged]] = []
    for file in [claims] if isinstance(claims, ClaimFile) else claims:
        for claim in file.claims:
            for reading in claim.readings:
                problem = _damage(claim, reading, results, damaged or {})
                refused = _Judged(claim, reading, refused=problem, changed=True) if problem else None
                rows.append((file, refused or _estimate(claim, reading, results, scores, file.alpha)))
    judged = _adjusted([row for _, row in rows])
    n_primary = sum(row.reading.primary and row.adjusted for row in judged)
    reports = [_report(row, file, results, scores, n_primary) for (file, _), row in zip(rows, judged, strict=True)]
    for report in reports:
        report["evidence_sha256"] = {stage: checksums[stage] for stage in report["evidence"]} if checksums else {}
    return reports


def combine(effects: Sequence[Effect], reading: Reading) -> Tails:
    """The one-sided p values of "against all comparators" (see the module's docstring)."""
    m = len(effects)
    if reading.direction == "equal":
        inside = max(max(found.p_above_low, found.p_below_threshold) for found in effects)
        outside = min(1.0, m * min(min(found.p_below_low, found.p_above_threshold) for found in effects))
        return Tails(inside, outside, 1.0, 1.0)
    up = reading.direction == "higher"
    beyond = max(found.p_above_threshold if up else found.p_below_threshold for found in effects)
    excluded = min(1.0, m * min(found.p_below_threshold if up else found.p_above_threshold for found in effects))
    positive = max(found.p_above_none if up else found.p_below_none for found in effects)
    reverse = min(1.0, m * min(found.p_below_none if up else found.p_above_none for found in effects))
    return Tails(beyond, excluded, positive, reverse)


def decide(tests: Tails, *, p_threshold: float, p_none: float, alpha: float) -> str:
    """The verdict from directions and (adjusted) two-sided p values.

    met: beyond the threshold. positive but short: an effect, and the threshold excluded. contradicted: the threshold excluded without an
    effect shown, or the effect reversed. inconclusive: the rest.
    """
    beyond = tests.beyond < tests.excluded and p_threshold <= alpha
    excluded = tests.excluded < tests.beyond and p_threshold <= alpha
    positive = tests.positive < tests.reversed and p_none <= alpha
    reverse = tests.reversed < tests.positive and p_none <= alpha
    if beyond:
        return "met"
    if excluded and positive:
        return "positive but short"
    return "contradicted" if excluded or reverse else "inconclusive"


def _estimate(claim: Claim, reading: Reading, results: Frames, scores: Scores, alpha: float) -> _Judged:
    try:
        for comparator in reading.comparators:
            _require_matched(claim.treatment, comparator, reading, results)
        found = tuple(effect(reading, claim.treatment, name, results, scores, level=1 - alpha) for name in reading.comparators)
    except NotTestableError as error:
        return _Judged(claim, reading, refused=str(error))
    judged = _Judged(claim, reading, found)
    return replace(judged, p_threshold=judged.tests.p_threshold, p_none=judged.tests.p_none)


def _require_matched(treatment: str, comparator: str, reading: Reading, results: Frames) -> None:
    different = apart(results.study, treatment, comparator)
    if different:
        raise NotTestableError(different)
    if reading.estimand.kind in _COMPUTE_FREE:
        return
    trials = results.trials
    if reading.estimand.kind == "leave_one_family_out":
        if results.folds.empty:
            raise NotTestableError(NO_FOLDS)
        trials = results.folds
    spread, owner = compute_spread(trials, [treatment, comparator])
    if not spread <= MATCH_TOLERANCE:
        raise NotTestableError(
            f"compute was not matched: {owner} missed its budget by {spread:.1%} (up to {MATCH_TOLERANCE:.0%} is allowed)"
        )


def _damage(claim: Claim, reading: Reading, results: Frames, damaged: Mapping[str, str]) -> str:
    """What is wrong with the first damaged stage that a reading rests on, or nothing.

    A seed of which a stage is damaged is not just left out: whoever damages files must not choose the seeds.
    """
    left_out = reading.estimand.kind == "leave_one_family_out"
    trials = results.folds if left_out else results.trials
    if not damaged or trials.empty:
        return ""
    mine = trials[trials["method"].isin([claim.treatment, *reading.comparators])]
    columns = ["train_stage", "score_stage", *(["checkpoint_stage"] if reading.estimand.at_equal_quality else [])]
    return next((damaged[stage] for column in columns for stage in mine[column].dropna() if stage in damaged), "")


def _adjusted(rows: list[_Judged]) -> list[_Judged]:
    primary = [index for index, row in enumerate(rows) if row.reading.primary and row.adjusted]
    others = [index for index, row in enumerate(rows) if not row.reading.primary and row.adjusted]
    result = list(rows)
    directed = [index for index in primary if rows[index].reading.direction != "equal"]
    thresholds, none = _each(holm, rows, primary, "p_threshold"), _each(holm, rows, directed, "p_none")
    for index in primary:
        result[index] = replace(rows[index], p_threshold=thresholds[index], p_none=none.get(index, 1.0))
    # What exploration finds is an effect; for "no difference" it is the equality.
    equal = [index for index in others if rows[index].reading.direction == "equal"]
    explored = _each(benjamini_hochberg, rows, [index for index in others if index not in equal], "p_none")
    explored |= _each(benjamini_hochberg, rows, equal, "p_threshold")
    for index in others:
        result[index] = replace(rows[index], p_bh=explored[index])
    return result


def _each(adjust: Callable[[list[float]], list[float]], rows: list[_Judged], chosen: list[int], name: str) -> dict[int, float]:
    return dict(zip(chosen, adjust([getattr(rows[index], name) for index in chosen]), strict=True)) if chosen else {}


def _verdict(row: _Judged, alpha: float) -> str:
    if row.refused:
        return EVIDENCE_CHANGED if row.changed else "not testable here"
    if min(found.n_seeds for found in row.effects) < 2:
        return "inconclusive"
    return decide(row.tests, p_threshold=row.p_threshold, p_none=row.p_none, alpha=alpha)


def _report(row: _Judged, file: ClaimFile, results: Frames, scores: Scores, n_primary: int) -> dict[str, Any]:
    claim, reading = row.claim, row.reading
    verdict = _verdict(row, file.alpha)
    report: dict[str, Any] = {
        "claim_id": claim.id, "sentence": claim.sentence, "source": claim.source, "reading": reading.text, "primary": reading.primary,
        "treatment": claim.treatment, "comparator": reading.rivals, "estimand": ESTIMANDS[reading.measure],
        "metric_text": metric_text(reading.estimand, row.binding.tasks if row.effects else ()),
        "unit": unit(reading.estimand), "threshold": reading.threshold, "direction": reading.direction, "margin": reading.margin,
        "verdict": verdict, "why": row.refused, "effect": None, "interval": None, "level": 1 - file.alpha, "p_value": None, "p_holm": None,
        "p_bh": None, "p_threshold": None, "p_threshold_holm": None, "binding_comparator": None, "n_seeds": None, "n_items": None,
        "n_dropped": None, "mde": None, "needed": None, "components": None, "baseline_value": None, "treatment_value": None,
        "bound": "", "censoring": "", "tasks": [],
        "rationale": claim.rationale if reading.primary else "", "note": reading.note, "evidence": [],
        "undefined_in_source": list(claim.undefined_in_source),
    }  # fmt: skip
    if not row.effects:
        return report
    found, directed = row.binding, reading.direction != "equal"
    return report | {
        "why": _why(row, verdict, file.alpha, results, scores), "effect": found.estimate,
        "interval": [_finite(end) for end in found.interval], "bound": found.bound, "censoring": found.censoring,
        "p_value": (row.tests.p_none if directed else found.p_value) if row.tested else None,
        "p_holm": row.p_none if row.tested and directed and reading.primary else None,
        "p_bh": row.p_bh, "p_threshold": row.tests.p_threshold if row.tested else None,
        "p_threshold_holm": row.p_threshold if row.tested and reading.primary else None, "binding_comparator": found.comparator,
        "n_seeds": found.n_seeds, "n_items": found.n_items, "n_dropped": found.n_total - found.n_items,
        "mde": _mde(row, file, n_primary), "needed": _needed(row, file, n_primary) if verdict == "inconclusive" else None,
        "components": vars(found.components), "baseline_value": _finite(found.comparator_value),
        "treatment_value": _finite(found.treatment_value),
        "tasks": list(found.tasks), "evidence": _evidence(row, results, scores),
    }  # fmt: skip


def _finite(value: float) -> float | None:
    """JSON has no infinity: an open end of an interval, a cost that was never reached."""
    return value if math.isfinite(value) else None


def _why(row: _Judged, verdict: str, alpha: float, results: Frames, scores: Scores) -> str:
    alone = decide(row.tests, p_threshold=row.tests.p_threshold, p_none=row.tests.p_none, alpha=alpha)
    sentences = [explain(row.reading, row.binding, verdict, alone=alone)]
    n_seeds = min(found.n_seeds for found in row.effects)
    if n_seeds < FEW_SEEDS:
        seeds = "1 training seed" if n_seeds == 1 else f"{n_seeds} training seeds"
        sentences.append(f"Only {seeds}: how much training runs differ is poorly known below {FEW_SEEDS}.")
    for method in (row.claim.treatment, *row.reading.comparators):
        planned = set(results.trials.loc[results.trials["method"] == method, "seed"])
        missing = sorted(int(seed) for seed in planned - set(scores.seeds([method])))
        if missing:
            sentences.append(f"{method} has no scores for seed {', '.join(map(str, missing))}; those seeds are left out for both sides.")
    return " ".join(sentences)


def _alpha(row: _Judged, file: ClaimFile, n_primary: int) -> float:
    """The level a reading has to reach at worst: primary ones share the file's."""
    return file.alpha / max(n_primary, 1) if row.reading.primary else file.alpha


def _mde(row: _Judged, file: ClaimFile, n_primary: int) -> float | None:
    found = row.binding
    if found.components.seed is None or found.certain:
        return None
    alpha = _alpha(row, file, n_primary)
    return mde(
        found.components, n_seeds=found.n_seeds, n_items=found.n_items, alpha=alpha, power=file.power, item_df=_item_df(found, row.reading)
    )


def _item_df(found: Effect, reading: Reading) -> float | None:
    """Of a claim on left-out families, which are the sample there and not their items; None elsewhere."""
    return len(found.tasks) - 1.0 if reading.estimand.kind == "leave_one_family_out" else None


def _needed(row: _Judged, file: ClaimFile, n_primary: int) -> str:
    """Designs whose test of the threshold would succeed with the wanted power if the observed effect were the true one."""
    found = row.binding
    if found.censoring:
        return "Larger budgets, so that the quality is reached in every seed, or more checkpoints early in the runs; then more seeds."
    if found.components.seed is None:
        return f"At least 2 training seeds, better {FEW_SEEDS} or more: one run of each method cannot tell the method from the run."
    distance = _distance(found, row.reading)
    alpha = _alpha(row, file, n_primary)
    fixed_items = not row.reading.estimand.scored
    item_df = _item_df(found, row.reading)
    designs = designs_needed(found.components, distance, n_items=found.n_items, alpha=alpha, power=file.power, item_df=item_df)
    designs = [design for design in designs if not fixed_items or design.n_items == found.n_items]
    away = amount(abs(distance), row.reading, signed=False)
    line = "edge of the margin" if row.reading.direction == "equal" else "threshold"
    if not designs:
        more = "" if fixed_items else ", even on 16 times the items"
        if row.reading.estimand.kind == "leave_one_family_out":
            more = f" on {len(found.tasks)} families; leave out more of them"
        return f"The effect lies {away} from the {line}: too close for {MOST_SEEDS} seeds{more}."
    choices = " or ".join(f"{design.n_seeds} seeds" + ("" if fixed_items else f" × {design.n_items} items") for design in designs)
    return (
        f"{choices}, if the true effect is the observed one, {away} from the {line} (power {file.power:.0%}; "
        f"variances from {found.n_seeds} seeds, so themselves uncertain)."
    )


def _distance(found: Effect, reading: Reading) -> float:
    """From the effect to the threshold, or to the nearer end of the margin."""
    if reading.direction != "equal":
        return found.estimate - reading.threshold
    return min(abs(found.estimate - bound) for bound in reading.region)


def _evidence(row: _Judged, results: Frames, scores: Scores) -> list[str]:
    estimand = row.reading.estimand
    left_out = estimand.kind == "leave_one_family_out"
    trials = results.folds if left_out else results.trials
    columns = ["train_stage", "checkpoint_stage", "score_stage"] if estimand.at_equal_quality else ["train_stage"]
    columns = ["score_stage"] if estimand.scored or left_out else columns
    stages: dict[str, None] = {}
    for comparator in row.reading.comparators:
        pair = [row.claim.treatment, comparator]
        used = trials[trials["seed"].isin(scores.seeds(pair))]
        for method in pair:
            stages |= dict.fromkeys(str(stage) for column in columns for stage in used.loc[used["method"] == method, column].dropna())
    return list(stages)
