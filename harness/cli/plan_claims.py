"""The part of `plan` on claims: what the study could find of each, and the cheapest design that would tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.cli.text import print_table, say
from harness.core.results import RunResults
from harness.core.spec import StudySpec
from harness.report import numbers
from harness.scoring.cost import Prices
from harness.stats.power import MOST_SEEDS
from harness.study.plan import Plan
from harness.study.sample_size import ClaimPlan, Costs, as_record, given_costs, plan_claims, study_costs
from harness.verdicts.claims import ClaimFile, find_claims, load_claims
from harness.verdicts.estimands import unit
from harness.verdicts.judge import ESTIMANDS


@dataclass(frozen=True)
class PlannedClaims:
    """Claims of a study with what it could find of them."""

    files: list[ClaimFile]
    plans: list[ClaimPlan]
    costs: Costs

    @property
    def count(self) -> int:
        """All claims, which the level is shared among."""
        return sum(len(file.claims) for file in self.files)

    def alpha_each(self) -> dict[str, float]:
        """By claim, the level of Holm's strictest step."""
        return {claim.id: file.alpha / self.count for file in self.files for claim in file.claims}

    def records(self) -> list[dict[str, Any]]:
        """For JSON."""
        return [as_record(row, self.costs) for row in self.plans]

    def print(self, writer: Console) -> None:
        """Prints a row a claim; nothing where there is none."""
        if not self.plans:
            return
        power, alpha = _either([file.power for file in self.files]), _either([file.alpha for file in self.files])
        at = f"power {power} at alpha {alpha}/{self.count} (Holm's strictest step over {self.count} claims)"
        costs, price = self.costs, f"cost ({self.costs.unit})"
        columns = ("claim", "primary reading", "claimed", "detectable", "this study", "cheapest enough", price, "variances")
        writer.print()
        print_table(writer, f"What this study could find, with {at}", columns, map(_claim_row, self.plans), right=columns[2:7])
        say(
            writer,
            f"Costs: {costs.seed:.4g} {costs.unit} a training seed, {costs.item:.3g} an item scored for one seed (all methods, all views). "
            "Detectable: smallest true effect that would be told from none (✓: smaller than claimed). Cheapest enough: seeds x items, "
            "3 seeds or more, that would tell the claimed effect from none; to show an effect beyond the claimed one takes more.",
        )


def planned_claims(
    study: StudySpec,
    path: Path,
    plan: Plan,
    seconds: Mapping[str, float],
    *,
    given: tuple[float | None, float | None],
    earlier: RunResults | None,
    pilot: str | None,
) -> PlannedClaims:
    """Plans the study's claims.

    Args:
        path: the study's file; its claim files may be named from there.
        seconds: predicted, by stage.
        given: cost of one more seed and of one more scored item, where the user says.
        earlier: a run whose variances and label costs are used; `pilot` is the name it was asked for by.
    Raises:
        SpecError: a mistake in the claims, the pilot or the costs.
    """
    files = [load_claims(find_claims(name, path.parent)) for name in study.claims]
    costs = given_costs(*given) or study_costs(
        study, plan, seconds, device_hour_usd=Prices(**study.prices).device_hour_usd, trained_usd=_training_costs(earlier)
    )
    measured = earlier if earlier is not None and len(earlier.samples) else None
    plans = plan_claims(study, files, pilot=measured, pilot_name=pilot or "the last run", costs=costs)
    return PlannedClaims(files, plans, costs)


def _training_costs(earlier: RunResults | None) -> dict[str, float]:
    """Mean dollars of one training run of each method, labels included."""
    if earlier is None:
        return {}
    means = earlier.trials.dropna(subset=["cost_usd"]).groupby("method")["cost_usd"].mean()
    return {str(method): float(cost) for method, cost in means.items()}


def _either(values: list[float]) -> str:
    return " or ".join(sorted({f"{value:g}" for value in values}))


def _claim_row(plan: ClaimPlan) -> tuple[object, ...]:
    reading, cheapest = plan.reading, plan.cheapest
    found = ESTIMANDS[plan.measure]
    counted_in = unit(reading.estimand)
    what = "–" if plan.detectable is None else numbers.magnitude(plan.detectable, found, counted_in)
    if plan.enough is not None:
        what += " ✓" if plan.enough else " ✗"
    here = f"{plan.n_seeds} x {plan.n_items}" if reading.estimand.scored else f"{plan.n_seeds} seeds"
    if cheapest is None:
        design, cost = ("–" if plan.components is None or plan.sought is None else f"none up to {MOST_SEEDS} seeds"), "–"
    else:
        design = f"{cheapest.n_seeds} x {cheapest.n_items}" if reading.estimand.scored else f"{cheapest.n_seeds} seeds"
        cost = numbers.number(cheapest.cost)
    row = {"threshold": reading.threshold, "margin": reading.margin, "direction": reading.direction}
    claimed_text = numbers.claimed(row | {"estimand": ESTIMANDS[reading.measure], "unit": counted_in})
    return plan.claim.id, reading.text, claimed_text, what, here, design, cost, plan.basis
