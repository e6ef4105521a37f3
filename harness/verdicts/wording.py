"""Sentences on effects for verdicts: plain text, no markup; whoever prints it escapes it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.core.records import CLEAN
from harness.verdicts.claims import NO_EFFECT, Estimand, Reading
from harness.verdicts.estimands import LAST_SHARE, NEEDS_MORE, Effect, unit
from harness.verdicts.frames import PERTURBED
from harness.verdicts.tracks import AXES

_QUANTITIES = {
    "drop": "loss of score under perturbation",
    "retention": "share of the clean score kept under perturbation",
    "reject_share": "share of outputs rejected by the verifier (a proxy for human correction)",
    "cost_usd": "dollars per training run: device and labels at the study's prices",
    "human_s": "seconds of human labelling per training run, at the study's assumed time a label",
    "labels": "human labels per training run: demonstrations and comparisons",
    "leave_one_family_out": "mean score on task families left out of training",
    "queries": "calls of a model other than the student per training run",
    "transfer": "mean score of another student, trained on this one's corpus",
    "membership_auc": "area under the ROC curve of a membership-inference attack (0.5: members cannot be told)",
}


def amount(value: float, reading: Reading, *, signed: bool = True) -> str:
    """A value on the reading's scale: "+12.3 %", "+3.4 points", "0.62×", "-5 USD"."""
    sign = "+" if signed else ""
    if math.isinf(value):
        return "∞"
    if reading.measure == "ratio":
        return f"{value:.2f}×"
    if reading.measure == "relative":
        return f"{100 * value:{sign}.1f} %"
    counted_in = unit(reading.estimand)
    return f"{100 * value:{sign}.1f} points" if counted_in == "share" else f"{value:{sign}.4g} {counted_in}"


def claimed(reading: Reading) -> str:
    """What the effect is held against: "the claimed +25.0 %", "no effect", "the margin of ±2.0 points"."""
    if reading.direction == "equal":
        low, high = (amount(bound, reading) for bound in reading.region)
        assert reading.margin is not None, reading
        return (
            f"the margin {low} to {high}"
            if reading.measure == "ratio"
            else f"the margin of ±{amount(reading.margin, reading, signed=False)}"
        )
    return "no effect" if reading.threshold == NO_EFFECT[reading.measure] else f"the claimed {amount(reading.threshold, reading)}"


def metric_text(estimand: Estimand, tasks: Sequence[str]) -> str:
    """What was measured: the quantity, the tasks averaged over, the view."""
    quantity = _QUANTITIES.get(estimand.kind, "mean score")
    if estimand.kind == "curve":
        return f"mean of the training curve {estimand.curve!r} over the last {estimand.last_share or LAST_SHARE:.0%} of its points"
    if estimand.at_equal_quality:
        axis = "queries" if estimand.kind == "queries_at_equal_quality" else estimand.axis
        on = f" (mean score over {', '.join(tasks)})" if tasks else ""
        return f"{AXES[axis].words}, until the comparator's final quality is reached{on}"
    if estimand.kind == "leave_one_family_out" and tasks:
        return f"{quantity} (mean over {', '.join(tasks)}, each left out in turn)"
    if not estimand.scored or estimand.kind in NEEDS_MORE:
        return quantity
    where = f"mean over {', '.join(tasks)}" if tasks else f"suite {estimand.suite}" if estimand.suite else "all suites"
    view = {CLEAN: "", PERTURBED: ", mean over the perturbed versions of each item"}.get(estimand.view, f", under {estimand.view}")
    chance = "; tasks above chance only" if estimand.above_chance_only else ""
    return f"{quantity} ({where}{view}{chance})"


def explain(reading: Reading, found: Effect, verdict: str, *, alone: str) -> str:
    """Why this verdict, in numbers, then what to know of the data.

    Args:
        alone: the verdict without adjustment for the other claims.
    """
    low, high = (amount(bound, reading) for bound in found.interval)
    against = f" against {found.comparator}, the hardest to beat" if len(reading.comparators) > 1 else ""
    same = f"{amount(found.estimate, reading)} (counted, the same for every seed)"
    shown = same if found.certain else f"the interval {low} to {high}"
    if found.n_seeds < 2:
        text = f"With one training run of each, {amount(found.estimate, reading)}{against} speaks of these two runs, not of their methods"
    elif verdict == "inconclusive" and alone != verdict:
        text = f"{shown}{against} alone would say {alone}, but not after Holm's adjustment for the other claims"
    elif reading.direction == "equal":
        text = f"{shown}{against} {_equality(verdict)} {claimed(reading)}"
    else:
        text = f"{shown}{against}{_directed(reading, found, verdict)}"
    return ". ".join([text[0].upper() + text[1:], *_remarks(found)]) + "."


def _equality(verdict: str) -> str:
    return {"met": "lies within", "contradicted": "lies outside"}.get(verdict, "reaches across an end of")


def _directed(reading: Reading, found: Effect, verdict: str) -> str:
    if verdict == "met":
        return f" lies beyond {claimed(reading)}"
    if verdict == "positive but short":
        return f" shows an effect in the claimed direction and excludes {claimed(reading)}"
    if verdict == "contradicted":
        return f" {_contradiction(reading, found)}"
    none = NO_EFFECT[reading.measure]
    if not found.interval[0] <= reading.threshold <= found.interval[1]:
        return f"; the comparators do not agree surely enough on {claimed(reading)}"
    if reading.threshold == none:
        return f" includes {none:g}, no effect"
    return f" holds both {claimed(reading)} and {'no effect' if found.interval[0] <= none <= found.interval[1] else 'smaller effects'}"


def _contradiction(reading: Reading, found: Effect) -> str:
    low, high = found.interval
    none = NO_EFFECT[reading.measure]
    if high < none if reading.direction == "higher" else low > none:
        return (
            "shows an effect opposite to the claimed one"
            if reading.threshold == none
            else f"shows an effect opposite to {claimed(reading)}"
        )
    return "shows no effect" if reading.threshold == none else f"excludes {claimed(reading)} and shows no effect in its direction"


def _remarks(found: Effect) -> list[str]:
    remarks = [found.censoring] if found.censoring else []
    if found.n_items < found.n_total:
        remarks.append(f"{found.n_total - found.n_items} of {found.n_total} items are left out: no score for one side in some seed")
    if found.flat and not found.certain:
        remarks.append("Both sides differ by the same amount on every item, so the interval rests on a floor, not on seen variation")
    return remarks
