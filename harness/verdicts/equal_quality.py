"""Cost at equal quality as verdicts and the report have it: what one method spends to reach the quality at which another ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.stats.cost_quality import CostRatio, Curve, cost_ratio
from harness.stats.crossed import Components
from harness.verdicts.frames import Frames, NotTestableError, Scores, is_trained
from harness.verdicts.tracks import AXES, Track, has_checkpoints, tracks

NO_CHECKPOINTS = "needs students kept and scored along each run: add `checkpoints` to the study (this run scores final students only)"


@dataclass(frozen=True)
class EqualQuality:
    """The ratio of costs at the comparator's final quality, and what it rests on."""

    axis: str
    found: CostRatio
    n_items: int

    @property
    def bound(self) -> str:
        """ "≥" or "≤" where censoring leaves one end of the estimate open, else nothing."""
        if math.isclose(self.found.low, self.found.high):
            return ""
        return "≥" if math.isinf(self.found.high) else "≤"

    @property
    def estimate(self) -> float:
        """The geometric mean ratio, or the end of it that is known."""
        return self.found.high if self.bound == "≤" else self.found.low

    @property
    def components(self) -> Components:
        """Variance of the log ratio over seeds, which is the ratio's relative variance; unknown under censoring."""
        if self.bound or self.found.n_seeds < 2:
            return Components(None, 0.0, None)
        return Components(float(np.var(np.log([seed.low for seed in self.found.seeds]), ddof=1)), 0.0, 0.0)

    def values(self) -> tuple[float, float]:
        """Mean cost at which treatment and comparator reached the quality; infinite for a treatment that never did in some seed."""
        pairs = [(seed.treatment.high, seed.comparator.high) for seed in self.found.seeds]
        return float(np.mean([mine for mine, _ in pairs])), float(np.mean([theirs for _, theirs in pairs]))

    def censoring(self, treatment: str, comparator: str) -> str:
        """What is not known, as a sentence; nothing where everything is."""
        found, told = self.found, []
        never, at_start = round(found.share_never * found.n_seeds), round(found.share_at_start * found.n_seeds)
        if never:
            told.append(
                f"in {never} of {found.n_seeds} seeds {treatment} never reached {comparator}'s final quality, so its cost there is more "
                "than its whole run's"
            )
        if at_start:
            told.append(
                f"in {at_start} of {found.n_seeds} seeds {comparator}'s final quality was reached at the first point scored, so a cost is "
                "known only from above"
            )
        return "; ".join(told).capitalize()


def equal_quality(
    treatment: str, comparator: str, axis: str, results: Frames, scores: Scores, seeds: Sequence[int], tasks: Sequence[str], *, level: float
) -> EqualQuality:
    """What `treatment` spends on `axis` to reach the final quality of `comparator`, as a share of what that spends to reach it.

    Raises:
        NotTestableError: no scored checkpoints, a method that spends nothing on the axis, or nothing known of either end.
    """
    along = tracks(results, scores, [treatment, comparator], seeds, tasks)
    return _ratio(treatment, comparator, axis, along, seeds, level)


def _ratio(
    treatment: str, comparator: str, axis: str, along: dict[tuple[str, int], Track], seeds: Sequence[int], level: float
) -> EqualQuality:
    for method in (comparator, treatment):
        costs = [along[method, seed].cost_T[axis] for seed in seeds]
        if not all(np.isfinite(cost_T).all() for cost_T in costs):
            raise NotTestableError(f"{AXES[axis].words} of {method} were not recorded")
        if not all(cost_T[-1] > 0 for cost_T in costs):
            raise NotTestableError(f"{method} spends nothing ({AXES[axis].words}: 0), so there is no cost to compare")
    curves = [
        [Curve(along[method, seed].cost_T[axis], along[method, seed].quality_T) for seed in seeds] for method in (treatment, comparator)
    ]
    found = cost_ratio(*curves, level=level)
    if found.low == 0 and math.isinf(found.high):
        raise NotTestableError(
            f"{comparator} ends no better than the first point scored in some seed, so no cost of reaching its quality can be told"
        )
    return EqualQuality(axis, found, along[treatment, seeds[0]].n_items)


def equal_quality_table(results: Frames, scores: Scores, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Every pair of trained methods on every axis: what the first spends to reach the final quality of the second, against that one.

    Rows: treatment, comparator, axis, unit, ratio as text, interval, mean costs, seeds, share of censored seeds, why (where there is none).
    """
    if not has_checkpoints(results):
        return []
    methods = [method for method in scores.methods if is_trained(results.trials, method)]
    rows = []
    for treatment in methods:
        for comparator in methods:
            if treatment == comparator:
                continue
            seeds = scores.seeds([treatment, comparator])
            if not seeds:
                why = f"{treatment} and {comparator} share no training seed"
                rows.append({"treatment": treatment, "comparator": comparator, "axis": None, "why": why})
                continue
            try:
                along = tracks(results, scores, [treatment, comparator], seeds, tasks)
            except NotTestableError as error:
                rows.append({"treatment": treatment, "comparator": comparator, "axis": None, "why": str(error)})
                continue
            rows += [_row(treatment, comparator, axis, along, seeds) for axis in AXES if axis != "queries"]
    return rows


def _row(treatment: str, comparator: str, axis: str, along: dict[tuple[str, int], Track], seeds: Sequence[int]) -> dict[str, Any]:
    row: dict[str, Any] = {"treatment": treatment, "comparator": comparator, "axis": axis, "unit": AXES[axis].unit, "why": ""}
    try:
        told = _ratio(treatment, comparator, axis, along, seeds, 0.95)
    except NotTestableError as error:
        return row | {"ratio": None, "why": str(error)}
    found, (mine, theirs) = told.found, told.values()
    return row | {
        "ratio": told.found.text,
        "interval": [found.interval[0], None if math.isinf(found.interval[1]) else found.interval[1]],
        "treatment_cost": None if math.isinf(mine) else mine,
        "comparator_cost": theirs,
        "n_seeds": found.n_seeds,
        "share_never": found.share_never,
        "share_at_start": found.share_at_start,
    }
