"""Before a study: the smallest effect each claim could find at this size, and the cheapest seeds × items that would find what is claimed.

Variance components come from a pilot run, from an earlier run of the same study, or from what the study states under `planning`; the
effect sought is the claimed one against no effect, for a claim of no difference its margin at a true difference of 0. The level is alpha
divided by the number of claims, Holm's strictest step. S seeds × N items cost S·(seed cost + N·item cost): every method is trained once a
seed, and every item scored, clean and perturbed, for every method and seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.results import RunResults
from harness.core.spec import PlanningSpec, StudySpec
from harness.errors import SpecError
from harness.scoring.suites import select
from harness.stats.crossed import Components
from harness.stats.power import FEWEST_SEEDS, MOST_SEEDS, PricedDesign, cheapest_design, mde, seeds_needed
from harness.study.calibration import DEFAULT_ITEMS
from harness.study.plan import Plan
from harness.verdicts.claims import NO_EFFECT, Claim, ClaimFile, Estimand, Reading
from harness.verdicts.estimands import unit
from harness.verdicts.frames import VALIDATION_SUITE
from harness.verdicts.judge import ESTIMANDS, judge


@dataclass(frozen=True)
class Costs:
    """What one more training seed and one more scored item (for one seed) of the whole study cost, and in which unit."""

    seed: float
    item: float
    unit: str


@dataclass(frozen=True)
class ClaimPlan:
    """What a study of `n_seeds` × `n_items` can say on one claim's primary reading."""

    claim: Claim
    reading: Reading
    n_seeds: int
    n_items: int
    components: Components | None
    basis: str
    detectable: float | None
    """Smallest effect found with the wanted power, on the reading's scale (of `measure`)."""
    measure: str
    sought: float | None
    """Distance of the claimed effect from none, or the margin; None where no size is claimed, or it is on another scale."""
    cheapest: PricedDesign | None

    @property
    def enough(self) -> bool | None:
        """Whether the study's size finds the effect sought; None where that is not known."""
        return None if self.detectable is None or self.sought is None else self.detectable <= self.sought


def plan_claims(
    study: StudySpec, files: Sequence[ClaimFile], *, pilot: RunResults | None, pilot_name: str, costs: Costs
) -> list[ClaimPlan]:
    """The plan of every claim's primary reading.

    Args:
        pilot: a run, finished or not, whose variances are used where it can be judged on a reading.
        pilot_name: how the basis calls it.
    """
    measured = {(row["claim_id"], row["reading"]): row for row in judge(pilot, files)} if pilot is not None else {}
    n_claims = sum(len(file.claims) for file in files)
    plans = []
    for file in files:
        for claim in file.claims:
            reading = next(reading for reading in claim.readings if reading.primary)
            row = measured.get((claim.id, reading.text))
            found = _lacking(study, claim, reading) or _components(study, reading, row, pilot_name)
            n_items = planned_clean_items(study, reading.estimand, found.tasks) if reading.estimand.scored else found.n_items
            plans.append(_plan(study, file, claim, reading, found, n_items, file.alpha / n_claims, costs))
    return plans


def planned_clean_items(study: StudySpec, estimand: Estimand, measured: Sequence[str] = ()) -> int:
    """Unperturbed items of the tasks that the estimand averages over; of those `measured` where a pilot left tasks at chance out."""
    chosen = [
        selection
        for selection in select(study.suites)
        if (selection.suite.name == estimand.suite or (estimand.suite is None and selection.suite.name != VALIDATION_SUITE))
        and (estimand.tasks is None or selection.task.name in estimand.tasks)
        and (not (measured and estimand.above_chance_only) or selection.task.name in measured)
    ]
    return sum(selection.limit or DEFAULT_ITEMS for selection in chosen)


def study_costs(
    study: StudySpec, plan: Plan, seconds: Mapping[str, float], *, device_hour_usd: float, trained_usd: Mapping[str, float]
) -> Costs:
    """Costs of a seed and of an item from predicted durations and prices: dollars, or device hours where nothing is priced.

    First parts of training that several trials share are computed, and counted, once; not so in what an earlier run has counted, where
    each trial was charged the whole.

    Args:
        seconds: predicted duration of every stage.
        trained_usd: dollars of one training run of each method, labels included, as far as an earlier run has counted them.
    """
    seed = study.seeds[0]
    trials = [trial for trial in plan.trials if trial.seed == seed and not trial.seedless and trial.fold is None]
    train_h = {trial.label: seconds[trial.train_stage] / 3600 for trial in trials}
    first_of = {trial.label: first for trial in trials if (first := plan.stages[trial.train_stage].prepared) is not None}
    first_h = {first: seconds[first] / 3600 for first in first_of.values()}
    paid = {first for label, first in first_of.items() if label in trained_usd}
    items = sum(selection.limit or DEFAULT_ITEMS for selection in select(study.suites))
    item_h = sum(seconds[trial.score_stage] for trial in trials) / 3600 / items
    seed_usd = sum(trained_usd.get(label, hours * device_hour_usd) for label, hours in train_h.items())
    seed_usd += sum(hours * device_hour_usd for first, hours in first_h.items() if first not in paid)
    if seed_usd + item_h * device_hour_usd > 0:
        return Costs(seed_usd, item_h * device_hour_usd, "USD")
    return Costs(sum(train_h.values()) + sum(first_h.values()), item_h, "device hours")


@dataclass(frozen=True)
class _Found:
    components: Components | None
    measure: str
    basis: str
    tasks: tuple[str, ...] = ()
    n_items: int = 1
    """Of a pilot whose families were left out."""

    @property
    def item_df(self) -> float | None:
        """Of claims on left-out families, which are the sample there and not their items."""
        return len(self.tasks) - 1.0 if self.n_items > 1 else None


def _lacking(study: StudySpec, claim: Claim, reading: Reading) -> _Found | None:
    """That a claim is about methods which the study has not, if it is: a claim names methods by their labels, variant included."""
    labels = [method.label for method in study.methods]
    missing = [name for name in (claim.treatment, *reading.comparators) if name not in labels]
    if not missing:
        return None
    alike = [label for label in labels if label.partition(":")[0] in missing]
    has = f" (it has {', '.join(alike[:3])})" if alike else ""
    return _Found(None, reading.measure, f"not testable: the study has no {' and no '.join(missing)}{has}")


def _components(study: StudySpec, reading: Reading, row: Mapping[str, Any] | None, pilot: str) -> _Found:
    if row is not None and row["components"] and row["components"]["seed"] is not None:
        size = f"{row['n_seeds']} seeds" + (f" x {row['n_items']} items" if row["n_items"] > 1 else "")
        n_items = row["n_items"] if reading.estimand.kind == "leave_one_family_out" else 1
        return _Found(Components(**row["components"]), reading.measure, f"measured in {pilot} ({size})", tuple(row["tasks"]), n_items)
    why = ""
    if row is not None:
        why = f"; {pilot} cannot tell: " + ("it has one seed" if row["components"] else row["why"])
    return _assumed(study.planning, reading, why)


def _assumed(planning: PlanningSpec, reading: Reading, why: str) -> _Found:
    kind, scale = reading.estimand.kind, 1.0
    if kind not in ("score", "reject_share"):
        return _Found(None, reading.measure, f"known after a pilot{why}")
    measure = "absolute"
    if reading.measure != "absolute" and planning.comparator_score is not None:
        value = planning.comparator_score if kind == "score" else 1 - planning.comparator_score
        scale, measure = value**-2, reading.measure
    spreads = (planning.seed_sd, planning.item_sd, planning.residual_sd)
    basis = "assumed SDs: " + ", ".join(f"{name} {sd:g}" for name, sd in zip(("seed", "item", "residual"), spreads, strict=True))
    if measure != "absolute":
        basis += f", comparator at {planning.comparator_score:g}"
    return _Found(Components(*(sd**2 * scale for sd in spreads)), measure, basis + why)


def _plan(
    study: StudySpec, file: ClaimFile, claim: Claim, reading: Reading, found: _Found, n_items: int, alpha: float, costs: Costs
) -> ClaimPlan:
    parts, n_seeds = found.components, len(study.seeds)
    # Equality needs two one-sided tests to succeed, so each may fail half as often.
    power = (1 + file.power) / 2 if reading.direction == "equal" else file.power
    sought = abs(reading.threshold - NO_EFFECT[reading.measure]) or None
    sought = sought if found.measure == reading.measure else None
    detectable, cheapest = None, None
    if parts is not None and n_seeds >= 2 and n_items:
        detectable = mde(parts, n_seeds=n_seeds, n_items=n_items, alpha=alpha, power=power, item_df=found.item_df)
    if parts is not None and sought is not None:
        if reading.estimand.scored:
            cheapest = cheapest_design(parts, sought, seed_cost=costs.seed, item_cost=costs.item, alpha=alpha, power=power)
        elif (seeds := seeds_needed(parts, sought, n_items=n_items, alpha=alpha, power=power, item_df=found.item_df)) is not None:
            seeds = max(seeds, FEWEST_SEEDS)
            cheapest = PricedDesign(seeds, n_items, seeds * costs.seed)
    basis = found.basis if n_items else "the study scores none of its tasks"
    return ClaimPlan(claim, reading, n_seeds, n_items, parts, basis, detectable, found.measure, sought, cheapest)


def as_record(plan: ClaimPlan, costs: Costs) -> dict[str, Any]:
    """A plan for `--json`."""
    cheapest = plan.cheapest
    return {
        "claim": plan.claim.id, "reading": plan.reading.text, "threshold": plan.reading.threshold, "direction": plan.reading.direction,
        "margin": plan.reading.margin, "detectable": plan.detectable, "detectable_measure": ESTIMANDS[plan.measure],
        "unit": unit(plan.reading.estimand), "sought": plan.sought, "enough": plan.enough, "n_seeds": plan.n_seeds, "n_items": plan.n_items,
        "cheapest": None if cheapest is None else vars(cheapest) | {"unit": costs.unit}, "most_seeds": MOST_SEEDS,
        "components": vars(plan.components) if plan.components else None, "basis": plan.basis,
    }  # fmt: skip


def given_costs(seed: float | None, item: float | None) -> Costs | None:
    """Costs stated on the command line, in whatever unit; None where none are.

    Raises:
        SpecError: only one of them is given, one is below 0, or both are 0.
    """
    if seed is None and item is None:
        return None
    if seed is None or item is None:
        missing = "--seed-cost" if seed is None else "--item-cost"
        raise SpecError("costs are compared with one another: give both --seed-cost and --item-cost, in one unit", key=missing)
    if seed + item == 0:
        raise SpecError("one of the two costs must be above 0", key="--seed-cost, --item-cost")
    return Costs(seed, item, "units given")
