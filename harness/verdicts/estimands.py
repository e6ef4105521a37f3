"""From a reading and a run to an effect: the estimate, its interval, and the one-sided p values that a verdict needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from harness.core.records import CLEAN
from harness.stats.cost_quality import cost_ratio_tails
from harness.stats.crossed import Components, Moments, contrast, moments, seed_moments
from harness.stats.fold_ratio import against, design_components, fold_ratio, tails
from harness.stats.folds import FoldEffect, complete_folds, fold_effect
from harness.stats.freedom import FloatArray
from harness.stats.intervals import wilson_mean
from harness.stats.relative import RatioEstimate, RatioUndefinedError, power_product, power_product_tails, ratio, ratio_tails
from harness.verdicts.claims import NO_EFFECT, Estimand, Reading
from harness.verdicts.equal_quality import NO_CHECKPOINTS, equal_quality
from harness.verdicts.folds import fold_scores
from harness.verdicts.frames import PERTURBED, Column, Frames, NotTestableError, Scores
from harness.verdicts.membership import membership_auc
from harness.verdicts.tracks import AXES, has_checkpoints

COUNTED = ("cost_usd", "human_s", "labels", "queries")
UNITS = {"cost_usd": "USD", "human_s": "s", "labels": "labels", "queries": "queries"}
LAST_SHARE = 0.25
NO_FOLDS = "leave-one-family-out cross-validation needs a training run for each family left out; this study makes none (`folds`)"
NEEDS_MORE = {
    "transfer": "transfer needs a second student trained on the corpus that the first one's run wrote; a study trains one student",
}


@dataclass(frozen=True)
class Effect:
    """Treatment against one comparator, on the scale of the reading's measure."""

    comparator: str
    estimate: float
    interval: tuple[float, float]
    p_value: float
    """Two-sided, of no effect."""
    p_above_none: float
    """One-sided, of "effect ≤ none"; likewise the next three."""
    p_below_none: float
    p_above_threshold: float
    p_below_threshold: float
    p_above_low: float
    """Likewise of the lower end of the margin of a claim of no difference (1 for others, whose margin has no lower end)."""
    p_below_low: float
    components: Components
    treatment_value: float
    comparator_value: float
    n_seeds: int
    n_items: int
    n_total: int
    model: str
    tasks: tuple[str, ...]
    certain: bool = False
    """Counted, equal in every seed: the value has no sampling error."""
    flat: bool = False
    """Every score pair differed by the same amount: the SE is the floor."""
    bound: str = ""
    """ "≥" or "≤" where the estimate is only bounded, because some runs never reached a level or were there from the start."""
    censoring: str = ""
    """Which runs these are, as a sentence."""


def effect(reading: Reading, treatment: str, comparator: str, results: Frames, scores: Scores, *, level: float) -> Effect:
    """The effect that `reading` speaks of.

    Raises:
        NotTestableError: the run cannot answer it; the message says why.
    """
    kind = reading.estimand.kind
    if kind in NEEDS_MORE:
        raise NotTestableError(NEEDS_MORE[kind])
    for method in (treatment, comparator):
        if method not in scores.methods:
            raise NotTestableError(f"{method} has no finished trial in this run (finished: {', '.join(scores.methods) or 'none'})")
    seeds = scores.seeds([treatment, comparator])
    if not seeds:
        raise NotTestableError(f"{treatment} and {comparator} share no training seed")
    if kind in COUNTED:
        return _counted_effect(reading, treatment, comparator, results, seeds, level)
    if kind == "curve":
        return _curve_effect(reading, treatment, comparator, results, seeds, level)
    if kind == "membership_auc":
        return _seed_values_effect(reading, comparator, membership_auc(treatment, comparator, results, seeds), level)
    if kind == "leave_one_family_out":
        return _left_out_effect(reading, treatment, comparator, results, level)
    if reading.estimand.at_equal_quality:
        return _equal_quality_effect(reading, treatment, comparator, results, scores, seeds, level)
    return _score_effect(reading, treatment, comparator, scores, seeds, level)


def unit(estimand: Estimand) -> str:
    """What absolute values are counted in; "share" for scores."""
    if estimand.at_equal_quality:
        return AXES[_axis(estimand)].unit
    return estimand.curve or UNITS.get(estimand.kind, "share")


def _axis(estimand: Estimand) -> str:
    return "queries" if estimand.kind == "queries_at_equal_quality" else estimand.axis


def shared_tasks(estimand: Estimand, treatment: str, comparator: str, scores: Scores, seeds: Sequence[int]) -> list[str]:
    """The run's tasks that the estimand averages over.

    Raises:
        NotTestableError: none is left.
    """
    where = f"suite {estimand.suite}" if estimand.suite else "any suite"
    if estimand.tasks and not scores.tasks(estimand.suite, estimand.tasks):
        raise NotTestableError(f"the run did not score {' or '.join(estimand.tasks)}" + (f" in {where}" if estimand.suite else ""))
    tasks = [task for task in scores.tasks(estimand.suite, estimand.tasks) if scores.info[task].get("higher_is_better", True)]
    if not tasks:
        raise NotTestableError(f"the run has no task of {where} whose primary metric is better when higher")
    for view in _views(estimand):
        tasks = [task for task in tasks if view == CLEAN or scores.has(task, view)]
        if not tasks:
            raise NotTestableError(f"no task of {where} was scored under perturbation ({view})")
    if estimand.above_chance_only:
        tasks = [task for task in tasks if _above_chance(task, (treatment, comparator), scores, seeds)]
        if not tasks:
            raise NotTestableError(f"on no task of {where} are {treatment} and {comparator} together clearly above chance")
    return tasks


def _views(estimand: Estimand) -> list[str]:
    return [CLEAN, PERTURBED] if estimand.kind in ("drop", "retention") else [estimand.view]


def _above_chance(task: str, methods: Sequence[str], scores: Scores, seeds: Sequence[int]) -> bool:
    """One-sided 5 % test on the mean of both methods' clean scores: symmetric, so that neither method chooses its own tasks."""
    chance = float(scores.info[task].get("chance") or 0.0)
    shared = scores.collect(task, [(method, CLEAN) for method in methods], seeds)
    if shared.scores.values_S_N_P.shape[1] < 2:
        return False
    there = contrast(moments([shared.scores]), (0.5, 0.5), level=0.9)
    values_S_N_P = shared.scores.values_S_N_P
    if values_S_N_P.min() < 0 or values_S_N_P.max() > 1:
        return bool(there.interval[0] > chance)
    low, _ = wilson_mean(there.estimate, there.se, there.n_items, df=there.df, level=0.9)
    return low > chance


def _score_effect(reading: Reading, treatment: str, comparator: str, scores: Scores, seeds: list[int], level: float) -> Effect:
    estimand = reading.estimand
    tasks = shared_tasks(estimand, treatment, comparator, scores, seeds)
    columns: list[Column] = [(method, view) for method in (treatment, comparator) for view in _views(estimand)]
    shared = [scores.collect(task, columns, seeds, rejected=estimand.kind == "reject_share") for task in tasks]
    for part in shared:
        if pd.Series(part.scores.clusters_N).nunique() < 2:
            raise NotTestableError(
                f"fewer than 2 items of {part.task} have a score for both methods in every seed ({part.n_total} were asked)"
            )
    fitted = moments([part.scores for part in shared])
    found = _measured(reading, fitted, level)
    n_total = sum(part.n_total for part in shared)
    return _complete(found, comparator, fitted, n_total, tuple(tasks))


def _left_out_effect(reading: Reading, treatment: str, comparator: str, results: Frames, level: float) -> Effect:
    """Over the families that folds left out of training, as a sample of families; their training sets' overlap is allowed for."""
    if results.folds.empty:
        raise NotTestableError(NO_FOLDS)
    info = results.study["tasks"]
    folds = fold_scores(results.fold_samples, info, treatment, comparator)
    if not folds:
        raise NotTestableError(f"{treatment} and {comparator} have fewer than 2 families left out, or 2 seeds, that both are scored on")
    whole = fold_effect(folds, level=level)
    values = tuple(float(np.mean([scores.values_S_N_P[..., side].mean() for scores in complete_folds(folds).values()])) for side in (0, 1))
    if reading.measure == "absolute":
        told = tuple(tails(whole, null) for null in (0.0, *_bounds(reading)))
        parts = design_components(whole)
        found = _Measured(whole.estimate, whole.interval, whole.p_value, told, parts, (values[0], values[1]), "folds", False, False)
    else:
        shift = 1.0 - NO_EFFECT[reading.measure]
        ratios = _ratio(lambda: fold_ratio(folds, level=level))
        told = tuple(tails(against(folds, rho)) for rho in (1.0, *(bound + shift for bound in _bounds(reading))))
        found = _ratio_measured(ratios, shift, told, (values[0], values[1]), False, False)
    return _complete(found, comparator, whole, whole.n_items + whole.n_dropped, tuple(whole.per_fold))


Tails = tuple[float, float]


@dataclass(frozen=True)
class _Measured:
    estimate: float
    interval: tuple[float, float]
    p_value: float
    tails: tuple[Tails, ...]
    """One-sided p values of "≤" and "≥" no effect, then of each bound of the claim (`_bounds`)."""
    components: Components
    values: tuple[float, float]
    model: str
    certain: bool
    flat: bool

    def settled(self, reading: Reading) -> _Measured:
        """Without sampling error there is nothing to test: reaching a bound, up to rounding, is being beyond it; staying at none is not."""
        if not self.certain:
            return self
        return replace(self, tails=(self.tails[0], *(_settled(self.estimate, bound, reading) for bound in _bounds(reading))))


def _bounds(reading: Reading) -> tuple[float, ...]:
    """What the effect is tested against besides none: the threshold, or both ends of the margin, the upper one first."""
    return reading.region[::-1] if reading.direction == "equal" else (reading.threshold,)


def _settled(estimate: float, bound: float, reading: Reading) -> Tails:
    """(0, 1) where the effect is surely above the bound, (1, 0) where below; at the bound it counts as the claim would have it."""
    none = NO_EFFECT[reading.measure]
    if abs(estimate - bound) > 1e-9:
        return (0.0, 1.0) if estimate > bound else (1.0, 0.0)
    if bound == none:
        return (1.0, 0.0) if reading.direction == "higher" else (0.0, 1.0)
    inward = reading.direction == "equal"
    return (0.0, 1.0) if (bound > none) != inward else (1.0, 0.0)


def _measured(reading: Reading, fitted: Moments, level: float) -> _Measured:
    """Columns are (treatment, comparator), or (treatment clean, treatment perturbed, comparator clean, comparator perturbed)."""
    kind, measure = reading.estimand.kind, reading.measure
    if kind == "retention":
        return _retention(reading, fitted, level)
    top, bottom = (np.array([1.0, -1, 0, 0]), np.array([0.0, 0, 1, -1])) if kind == "drop" else (np.array([1.0, 0]), np.array([0.0, 1]))
    values = (float(top @ fitted.mean_P), float(bottom @ fitted.mean_P))
    there = contrast(fitted, top - bottom, level=level)
    certain = there.model == "seeds only" and there.degenerate
    if measure == "absolute":
        tails = tuple((there.p_greater(null), there.p_less(null)) for null in (0.0, *_bounds(reading)))
        return _Measured(
            there.estimate, there.interval, there.p_value, tails, there.components, values, there.model, certain, there.degenerate
        )  # fmt: skip
    shift = 1.0 - NO_EFFECT[measure]
    found = _ratio(lambda: ratio(fitted, top, bottom, level=level))
    tails = tuple(ratio_tails(fitted, rho, top, bottom) for rho in (1.0, *(bound + shift for bound in _bounds(reading))))
    certain = certain and fitted.n_seeds > 1 and contrast(fitted, bottom).degenerate
    return _ratio_measured(found, shift, tails, values, certain, there.degenerate)


def _retention(reading: Reading, fitted: Moments, level: float) -> _Measured:
    kept = (fitted.mean_P[1] / fitted.mean_P[0], fitted.mean_P[3] / fitted.mean_P[2])
    found = _ratio(lambda: power_product(fitted, (-1, 1, 1, -1), level=level))
    if reading.measure == "absolute":
        raise NotTestableError("retention is compared as a ratio or relative difference only")
    shift = 1.0 - NO_EFFECT[reading.measure]
    tails = tuple(power_product_tails(found, rho) for rho in (1.0, *(bound + shift for bound in _bounds(reading))))
    return _ratio_measured(found, shift, tails, (float(kept[0]), float(kept[1])), False, False)


def _ratio(compute: Callable[[], RatioEstimate]) -> RatioEstimate:
    try:
        return compute()
    except RatioUndefinedError as error:
        raise NotTestableError(f"a relative effect is undefined here: {error}") from error


def _ratio_measured(
    found: RatioEstimate, shift: float, tails: tuple[Tails, ...], values: tuple[float, float], certain: bool, flat: bool
) -> _Measured:
    low, high = found.interval
    return _Measured(
        found.estimate - shift, (low - shift, high - shift), found.p_value, tails, found.components, values, found.model,
        certain, flat,
    )  # fmt: skip


def _counted_effect(reading: Reading, treatment: str, comparator: str, results: Frames, seeds: list[int], level: float) -> Effect:
    kind = reading.estimand.kind
    rows = results.trials[results.trials["status"] == "finished"].set_index(["method", "seed"])
    amounts = rows["demonstrations"] + rows["comparisons"] if kind == "labels" else rows[kind]
    try:
        pairs = [[float(amounts.loc[(method, seed)]) for method in (treatment, comparator)] for seed in seeds]
    except KeyError as error:
        raise NotTestableError(f"no finished trial {error}") from error
    values_S_P = np.array(pairs)
    if not np.isfinite(values_S_P).all():
        raise NotTestableError(f"{kind} was not recorded for every trial of {treatment} and {comparator}")
    if not values_S_P[:, 1].any():
        raise NotTestableError(f"{comparator} spent nothing ({kind} is 0), so nothing can be saved against it")
    fitted = seed_moments(values_S_P)
    return _complete(_measured(reading, fitted, level).settled(reading), comparator, fitted, fitted.n_items, ())


def _curve_effect(reading: Reading, treatment: str, comparator: str, results: Frames, seeds: list[int], level: float) -> Effect:
    curve, share = reading.estimand.curve, reading.estimand.last_share or LAST_SHARE
    rows = results.curves[results.curves["method"].isin([treatment, comparator]) & results.curves["seed"].isin(seeds)]
    there = rows[rows["curve"] == curve].sort_values("step", kind="stable")
    values: dict[tuple[str, int], float] = {}
    for method in (treatment, comparator):
        for seed in seeds:
            run = there.loc[(there["method"] == method) & (there["seed"] == seed), "value"]
            values[method, seed] = float(run.tail(math.ceil(share * len(run))).mean()) if len(run) else math.nan
    for method in (treatment, comparator):
        drawn = ", ".join(sorted(set(rows.loc[rows["method"] == method, "curve"]))) or "none"
        missing = [seed for seed in seeds if not math.isfinite(values[method, seed])]
        if missing:
            raise NotTestableError(f"{method} drew no curve {curve!r} with seed {missing[0]} (its curves: {drawn})")
    return _seed_values_effect(
        reading, comparator, np.array([[values[method, seed] for method in (treatment, comparator)] for seed in seeds]), level
    )


def _seed_values_effect(reading: Reading, comparator: str, values_S_P: FloatArray, level: float) -> Effect:
    """Of values that each training run has one of and that are estimates themselves, so never known for certain as a count is."""
    fitted = seed_moments(values_S_P)
    found = _measured(reading, fitted, level)
    if fitted.n_seeds > 1 and contrast(fitted, (1, -1)).degenerate:
        raise NotTestableError(
            f"the difference is the same in all {fitted.n_seeds} seeds ({found.estimate:.3g}), so its spread cannot be estimated"
        )
    return _complete(found, comparator, fitted, fitted.n_items, ())


def _equal_quality_effect(
    reading: Reading, treatment: str, comparator: str, results: Frames, scores: Scores, seeds: list[int], level: float
) -> Effect:
    """Ratios are compared on the log scale; censored seeds count with their bounds (harness.stats.cost_quality)."""
    if not has_checkpoints(results):
        raise NotTestableError(f"cost at equal quality {NO_CHECKPOINTS}")
    along = set(results.checkpoint_samples["task"])
    tasks = [task for task in shared_tasks(reading.estimand, treatment, comparator, scores, seeds) if task in along]
    if not tasks:
        raise NotTestableError("none of its tasks was scored at the checkpoints (checkpoints.suites of the study)")
    told = equal_quality(treatment, comparator, _axis(reading.estimand), results, scores, seeds, tasks, level=level)
    shift = 1.0 - NO_EFFECT[reading.measure]
    low, high = (bound - shift for bound in told.found.interval)
    none, threshold = (cost_ratio_tails(told.found, ratio) for ratio in (1.0, reading.threshold + shift))
    values = told.values()
    return Effect(
        comparator=comparator,
        estimate=told.estimate - shift,
        interval=(low, high),
        p_value=min(1.0, 2 * min(none)),
        p_above_none=none[0],
        p_below_none=none[1],
        p_above_threshold=threshold[0],
        p_below_threshold=threshold[1],
        p_above_low=1.0,
        p_below_low=1.0,
        components=told.components,
        treatment_value=values[0],
        comparator_value=values[1],
        n_seeds=told.found.n_seeds,
        n_items=1,
        n_total=1,
        model="seeds only",
        tasks=tuple(tasks),
        bound=told.bound,
        censoring=told.censoring(treatment, comparator),
    )


def _complete(found: _Measured, comparator: str, fitted: Moments | FoldEffect, n_total: int, tasks: tuple[str, ...]) -> Effect:
    none, threshold, *low = found.tails
    return Effect(
        comparator=comparator,
        estimate=found.estimate,
        interval=found.interval,
        p_value=found.p_value,
        p_above_none=none[0],
        p_below_none=none[1],
        p_above_threshold=threshold[0],
        p_below_threshold=threshold[1],
        p_above_low=low[0][0] if low else 1.0,
        p_below_low=low[0][1] if low else 1.0,
        components=found.components,
        treatment_value=found.values[0],
        comparator_value=found.values[1],
        n_seeds=fitted.n_seeds,
        n_items=fitted.n_items,
        n_total=n_total,
        model=found.model,
        tasks=tasks,
        certain=found.certain,
        flat=found.flat,
    )
