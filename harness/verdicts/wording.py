"""Sentences on effects for verdicts: plain text, no markup; whoever prints it escapes it."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.records import CLEAN
from harness.verdicts.claims import NO_EFFECT, Estimand, Reading
from harness.verdicts.estimands import UNITS, Effect
from harness.verdicts.frames import PERTURBED

_QUANTITIES = {
    "drop": "loss of score under perturbation",
    "retention": "share of the clean score kept under perturbation",
    "reject_share": "share of outputs rejected by the verifier (a proxy for human correction)",
    "cost_usd": "dollars per training run: device and labels at the study's prices",
    "human_s": "seconds of human labelling per training run, at the study's assumed time a label",
    "labels": "human labels per training run: demonstrations and comparisons",
    "cost_at_equal_quality": "dollars spent until the comparator's final quality is reached",
    "leave_one_family_out": "mean score on the task family left out of training",
}


def amount(value: float, reading: Reading, *, signed: bool = True) -> str:
    """A value on the reading's scale: "+12.3 %", "+3.4 points", "0.62×", "-5 USD"."""
    sign = "+" if signed else ""
    if reading.measure == "ratio":
        return f"{value:.2f}×"
    if reading.measure == "relative":
        return f"{100 * value:{sign}.1f} %"
    unit = UNITS.get(reading.estimand.kind)
    return f"{value:{sign}.4g} {unit}" if unit else f"{100 * value:{sign}.1f} points"


def metric_text(estimand: Estimand, tasks: Sequence[str]) -> str:
    """What was measured: the quantity, the tasks averaged over, the view."""
    quantity = _QUANTITIES.get(estimand.kind, "mean score")
    if estimand.kind in UNITS or estimand.kind in ("cost_at_equal_quality", "leave_one_family_out"):
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
    threshold = amount(reading.threshold, reading)
    low, high = (amount(bound, reading) for bound in found.interval)
    against = f" against {found.comparator}, the hardest to beat" if len(reading.comparators) > 1 else ""
    shown = f"{amount(found.estimate, reading)} (counted, the same for every seed)" if found.certain else f"the interval {low} to {high}"
    if found.n_seeds < 2:
        text = f"With one training run of each, {amount(found.estimate, reading)}{against} speaks of these two runs, not of their methods"
    elif verdict == "met":
        text = f"{shown}{against} lies beyond the claimed {threshold}"
    elif verdict == "positive but short":
        text = f"{shown}{against} shows an effect in the claimed direction and excludes the claimed {threshold}"
    elif verdict == "contradicted":
        text = f"{shown}{against} {_contradiction(reading, found, threshold)}"
    elif alone != verdict:
        text = f"{shown}{against} alone would say {alone}, but not after Holm's adjustment for the other claims"
    elif found.interval[0] <= reading.threshold <= found.interval[1]:
        inside = found.interval[0] <= NO_EFFECT[reading.measure] <= found.interval[1]
        text = f"{shown}{against} holds both the claimed {threshold} and {'no effect' if inside else 'smaller effects'}"
    else:
        text = f"{shown}{against}; the comparators do not agree surely enough on the claimed {threshold}"
    return ". ".join([text[0].upper() + text[1:], *_remarks(found)]) + "."


def _contradiction(reading: Reading, found: Effect, threshold: str) -> str:
    low, high = found.interval
    none = NO_EFFECT[reading.measure]
    if high < none if reading.direction == "higher" else low > none:
        return f"shows an effect opposite to the claimed {threshold}"
    return f"excludes the claimed {threshold} and shows no effect in its direction"


def _remarks(found: Effect) -> list[str]:
    remarks = []
    if found.n_items < found.n_total:
        remarks.append(f"{found.n_total - found.n_items} of {found.n_total} items are left out: no score for one side in some seed")
    if found.flat and not found.certain:
        remarks.append("Both sides differ by the same amount on every item, so the interval rests on a floor, not on seen variation")
    return remarks
