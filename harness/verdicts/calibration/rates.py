"""What is counted in a cell: shares of simulated studies in which the product's functions are right or wrong.

Studies go through `moments` and `mean_and_error` in batches; `contrast`, `ratio_tails` and `power_product` are the same arithmetic on one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.stats.crossed import MeanAndError, Moments, mean_and_error, moments
from harness.stats.freedom import DegreesOfFreedom, FloatArray
from harness.stats.student import t_quantile, t_tail
from harness.verdicts.calibration.design import Cell
from harness.verdicts.calibration.worlds import World
from harness.verdicts.judge import Tails, decide

ALPHA = 0.05
DIFFERENCE = np.array([1.0, -1.0])
_BATCH_CELLS = 500_000
Counts = dict[str, npt.NDArray[Any]]


def rates(cell: Cell, *, replications: int, rng: np.random.Generator) -> dict[str, float]:
    """Shares by name over `replications` studies of the cell's world (of those where a ratio is defined); NaN: does not exist there."""
    counted = {"null": null_counts, "effect": effect_counts, "ratio": ratio_counts, "retention": retention_counts, "claim": claim_counts}
    world = cell.world
    batch = max(1, _BATCH_CELLS // (world.n_seeds * world.n_items * world.n_tasks))
    total: Counter[str] = Counter()
    for start in range(0, replications, batch):
        fitted = moments(world.draw(min(batch, replications - start), rng))
        total.update({name: float(values.sum()) for name, values in counted[cell.kind](world, fitted).items()})
    if "defined" not in total:
        return {name: count / replications for name, count in total.items()}
    defined = total.pop("defined")
    return {name: count / defined if defined else float("nan") for name, count in total.items()} | {"defined": defined / replications}


def null_counts(_: World, fitted: Moments) -> Counts:
    """False alarms at .05: the default rule, the two that it was chosen over, and two that others use."""
    seed_se = np.sqrt(np.maximum(np.einsum("p,rpq,q->r", DIFFERENCE, fitted.seed_P_P, DIFFERENCE), 0.0))
    item_se = np.sqrt(np.einsum("p,rkpq,q->r", DIFFERENCE, fitted.item_K_P_P, DIFFERENCE))
    mean = fitted.mean_P @ DIFFERENCE
    alone = fitted.n_seeds == 1
    rules: tuple[DegreesOfFreedom, ...] = ("corrected", "satterthwaite", "hillis")
    p_values: dict[str, FloatArray] = {rule: two_sided(mean_and_error(fitted, DIFFERENCE, df=rule)) for rule in rules}
    p_values["t on seed means"] = np.full_like(mean, np.nan) if alone else 2 * t_tail(abs(mean), seed_se, fitted.n_seeds - 1)
    p_values["items only"] = 2 * t_tail(abs(mean), item_se, np.inf)
    return {name: np.where(np.isnan(p), np.nan, p < ALPHA) for name, p in p_values.items()}


def effect_counts(world: World, fitted: Moments) -> Counts:
    """Coverage of the interval, its width, and power."""
    found = mean_and_error(fitted, DIFFERENCE)
    half = t_quantile(1 - ALPHA / 2, found.df) * found.se
    top, bottom = world.truth()
    return {"coverage": abs(found.mean - (top - bottom)) <= half, "width": 2 * half, "power": two_sided(found) < ALPHA}


def ratio_counts(world: World, fitted: Moments) -> Counts:
    """Coverage, where a ratio is defined, of three intervals: inverted tests (the product's), textbook Fieller, log ratio."""
    top, bottom = world.truth()
    truth = top / bottom
    defined = _denominator_above_0(fitted, 1)
    kept = _chosen(fitted, defined)
    there = mean_and_error(kept, (1, -truth), difference_P=DIFFERENCE)
    observed = kept.mean_P[:, 0] / kept.mean_P[:, 1]
    at_estimate = mean_and_error(kept, np.stack([np.ones_like(observed), -observed], axis=1), difference_P=DIFFERENCE)
    # The logarithm needs a treatment that got something right; an interval that does not exist covers nothing.
    logged = _chosen(kept, kept.mean_P[:, 0] > 0)
    return {
        "inverted test": two_sided(there) >= ALPHA,
        "textbook Fieller": abs(there.mean) <= t_quantile(1 - ALPHA / 2, at_estimate.df) * there.se,
        "log ratio": _log_covers(logged, DIFFERENCE, truth),
        "defined": defined,
    }


def retention_counts(world: World, fitted: Moments) -> Counts:
    """Coverage of the ratio of retentions (perturbed / clean, treatment over comparator)."""
    powers = np.array([-1.0, 1.0, 1.0, -1.0])
    defined = np.all([_denominator_above_0(fitted, column) for column in range(4)], axis=0)
    return {"coverage": _log_covers(_chosen(fitted, defined), powers, float(np.prod(world.truth() ** powers))), "defined": defined}


def claim_counts(world: World, fitted: Moments) -> Counts:
    """Verdicts on claims whose threshold is the truth: "met" is false, and so is every verdict that rests on the threshold's exclusion."""
    top, bottom = world.truth()
    defined = _denominator_above_0(fitted, 1)
    none = mean_and_error(fitted, DIFFERENCE)
    absolute = _verdicts(_tails(none, top - bottom), _tails(none, 0.0))
    relative = _verdicts(_tails(mean_and_error(fitted, (1, -top / bottom), difference_P=DIFFERENCE), 0.0), _tails(none, 0.0))
    excluded = ("positive but short", "contradicted")
    return {
        "absolute: met": absolute == "met",
        "absolute: excluded": np.isin(absolute, excluded),
        "relative: met": defined & (relative == "met"),
        "relative: excluded": defined & np.isin(relative, excluded),
        "relative: not testable": ~defined,
    }


def two_sided(found: MeanAndError) -> FloatArray:
    """p of the hypothesis that the mean is 0."""
    return np.minimum(1.0, 2 * t_tail(abs(found.mean), found.se, found.df))


def _tails(found: MeanAndError, null: float) -> tuple[FloatArray, FloatArray]:
    return t_tail(found.mean - null, found.se, found.df), t_tail(null - found.mean, found.se, found.df)


def _verdicts(threshold: tuple[FloatArray, FloatArray], none: tuple[FloatArray, FloatArray]) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    every = (Tails(*map(float, p_values)) for p_values in zip(*threshold, *none, strict=True))
    return np.array([decide(tests, p_threshold=tests.p_threshold, p_none=tests.p_none, alpha=ALPHA) for tests in every])


def _denominator_above_0(fitted: Moments, column: int) -> npt.NDArray[np.bool_]:
    """Where `harness.stats.relative` computes a ratio: the interval of the column's mean does not reach 0."""
    found = mean_and_error(fitted, np.eye(fitted.mean_P.shape[1])[column])
    return np.asarray(found.mean > t_quantile(1 - ALPHA / 2, found.df) * found.se)


def _log_covers(fitted: Moments, powers: FloatArray, truth: float) -> npt.NDArray[np.bool_]:
    found = mean_and_error(fitted, powers / fitted.mean_P)
    error = np.log(fitted.mean_P) @ powers - np.log(truth)
    return np.asarray(abs(error) <= t_quantile(1 - ALPHA / 2, found.df) * found.se)


def _chosen(fitted: Moments, keep: npt.NDArray[np.bool_]) -> Moments:
    names = ("mean_P", "seed_P_P", "item_K_P_P", "residual_K_P_P")
    return replace(fitted, **{name: getattr(fitted, name)[keep] for name in names})
