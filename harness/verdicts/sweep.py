"""What a sweep found: the effect of each variant or level, paired by seed and item, and how scores grow with the budget.

Every test of a table is a contrast of the crossed model (harness.stats.crossed) over the runs it names: a variant against the centre of its
own block; a level against the centre's level, averaged over the other axes; a difference of differences; a difference of slopes. They form
one family: Holm's adjustment keeps the chance of any false finding in the table at `alpha`. Slopes themselves have an interval and no test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from harness.core.blocks import blocks, label, varied
from harness.core.records import CLEAN
from harness.core.sweep_spec import BUDGET, SweepSpec
from harness.stats.crossed import Estimate, Moments, TaskScores, contrast, moments
from harness.stats.multiplicity import holm
from harness.stats.power import mde
from harness.verdicts.frames import VALIDATION_SUITE, Frames, NotTestableError, Scores, TaskInfo, compute_spread, is_trained
from harness.verdicts.judge import FEW_SEEDS, MATCH_TOLERANCE

ALPHA, POWER = 0.05, 0.8
ONE_SEED = "one training seed: a single run of each cannot tell a setting from the luck of the run"
Row = dict[str, Any]
_BLANK: Row = dict.fromkeys(("effect", "interval", "p_value", "n_seeds", "n_items", "n_dropped"))


@dataclass(frozen=True)
class Arm:
    """A method of the study at its place in the sweep. `curve` is its label without the budget."""

    label: str
    curve: str
    levels: Mapping[str, str]
    block: str
    train_flops: float


@dataclass
class Family:
    """The tests of one table, to be adjusted together."""

    tests: list[tuple[Row, Estimate]] = field(default_factory=list)

    def add(self, row: Row, found: Estimate | None) -> Row:
        """Takes in a row with its estimate, if there is one that can be tested."""
        if found is not None:
            self.tests.append((row, found))
        return row

    def adjust(self, alpha: float, power: float) -> None:
        """Adds p_holm, and the smallest effect that the strictest step of Holm's rule would find with `power`."""
        adjusted = holm([found.p_value for _, found in self.tests]) if self.tests else []
        for (row, found), p_holm in zip(self.tests, adjusted, strict=True):
            row["p_holm"] = p_holm
            row["mde"] = mde(
                found.components, n_seeds=found.n_seeds, n_items=found.n_items, alpha=alpha / len(self.tests), power=power
            )  # fmt: skip


def sweep_tables(
    results: Frames, tasks: Sequence[str], *, task_info: TaskInfo | None = None, alpha: float = ALPHA, power: float = POWER
) -> Row:
    """Analyses a study's sweep; the content of leaderboard.json's "sweep".

    Args:
        tasks: those of the leaderboard's score, of equal weight; the pool's validation tasks have a table (and family) of their own.
        task_info: see `Scores`; by default the study's own description of its tasks.
    Returns:
        design, method, axes, blocks, alpha, power, notes, and "tables": per measure {measure, metric_text, tasks, family (number of tests),
        ablation, main_effects, interactions, scaling, slope_differences}. Effects are differences of mean scores; an effect that cannot be
        tested has its reason in "why".
    """
    scores = Scores(results, task_info)
    validation = [task for task in scores.tasks(VALIDATION_SUITE) if scores.info[task].get("higher_is_better", True)]
    analysis = _Analysis(results, scores, alpha, power)
    measures = [("score", list(tasks)), (VALIDATION_SUITE, validation)]
    return {
        "design": analysis.sweep.design,
        "method": analysis.sweep.method,
        "axes": analysis.axes(),
        "blocks": [vars(block) | {"methods": list(block.methods)} for block in blocks(results.study)],
        "alpha": alpha,
        "power": power,
        "tables": [analysis.table(measure, names) for measure, names in measures if names],
        "notes": analysis.notes(),
    }


class _Analysis:
    def __init__(self, results: Frames, scores: Scores, alpha: float, power: float) -> None:
        self.results, self.scores, self.alpha, self.power = results, scores, alpha, power
        self.sweep = SweepSpec.model_validate(results.study["sweep"])
        self.study_axes = varied(results.study)
        self.arms = _arms(results.study, self.study_axes, self.sweep)
        self.tasks: list[str] = []
        self.centre = next((arm for arm in self.arms if arm.label == self.sweep.method), None)
        self.swept = [arm for arm in self.arms if self.sweep.of_method and set(self.sweep.of_method) <= set(arm.levels)]

    def axes(self) -> list[Row]:
        """Name, key, levels and the centre's level of every axis; training seeds are replicates and no axis here."""
        shown = [name for name in self.sweep.axes if name in {*self.sweep.of_method, *self.study_axes}]
        found = []
        for name in shown:
            levels = list(dict.fromkeys(arm.levels[name] for arm in self.arms if name in arm.levels))
            found.append(
                {
                    "name": name,
                    "key": self.sweep.axes[name].key,
                    "levels": levels,
                    "centre": levels[0],  # the study's own methods come first
                    "of_study": name in self.study_axes,
                }
            )
        return found

    def notes(self) -> list[str]:
        found = []
        n_seeds = min((len(self.scores.seeds([arm.label])) for arm in self.arms if arm.label in self.scores.methods), default=0)
        if 0 < n_seeds < FEW_SEEDS:
            found.append(f"Only {n_seeds} training seed{'s' if n_seeds > 1 else ''}: below {FEW_SEEDS} the spread of runs is poorly known.")
        missing = [arm.label for arm in self.arms if arm.label not in self.scores.methods]
        if missing:
            found.append(f"Without scores: {'; '.join(missing)}.")
        if len(blocks(self.results.study)) > 1:
            found.append("Runs are compared at one budget and on one student only; slopes compare each method with itself.")
        return found

    def table(self, measure: str, tasks: list[str]) -> Row:
        self.tasks, family = tasks, Family()
        grid = self.sweep.design == "grid"
        row = {
            "measure": measure,
            "metric_text": f"mean over {len(tasks)} task{'s' if len(tasks) > 1 else ''} ({', '.join(tasks)}), equal weight per task",
            "tasks": tasks,
            "ablation": [] if grid else self._ablation(family),
            "main_effects": self._main_effects(family) if grid else [],
            "interactions": self._interactions(family) if grid else [],
        }
        row |= self._scaling(family)
        family.adjust(self.alpha, self.power)
        return row | {"family": len(family.tests)}

    def _ablation(self, family: Family) -> list[Row]:
        rows = []
        for arm in self.swept:
            centre = self._centre_of(arm)
            if centre is None or arm is centre:
                continue
            moved = {name: arm.levels[name] for name in self.sweep.of_method if arm.levels[name] != centre.levels[name]}
            row = {
                "variant": arm.label, "centre": centre.label, "block": arm.block, "levels": moved,
                "centre_levels": {name: centre.levels[name] for name in moved},
            }  # fmt: skip
            rows.append(self._tested(row, {arm.label: 1.0, centre.label: -1.0}, family))
        return rows

    def _centre_of(self, arm: Arm) -> Arm | None:
        """The centre in the arm's own block."""
        if self.centre is None:
            return None
        wanted = {name: self.centre.levels[name] for name in self.sweep.of_method}
        return next((other for other in self.swept if other.block == arm.block and wanted.items() <= other.levels.items()), None)

    def _main_effects(self, family: Family) -> list[Row]:
        """Per axis and level: the mean difference from the centre's level over every combination of the other axes, and its range."""
        rows: list[Row] = []
        for axis in self.sweep.of_method if self.centre else ():
            assert self.centre is not None
            base = self.centre.levels[axis]
            for level in dict.fromkeys(arm.levels[axis] for arm in self.swept):
                if level == base:
                    continue
                pairs = self._pairs(axis, level, base)
                row = {"axis": axis, "level": level, "centre": base, "n_pairs": len(pairs), "range": None}
                weights = {label: sign / len(pairs) for pair in pairs for label, sign in zip(pair, (1.0, -1.0), strict=True)}
                rows.append(self._tested(row, weights, family, pairs))
        return rows

    def _pairs(self, axis: str, level: str, base: str) -> list[tuple[str, str]]:
        """Runs that differ in one axis only, both scored."""
        at = {(arm.block, *(arm.levels[name] for name in self.sweep.of_method)): arm.label for arm in self.swept}
        place = self.sweep.of_method.index(axis) + 1
        found = []
        for key, label_ in at.items():
            other = at.get((*key[:place], base, *key[place + 1 :]))
            if key[place] == level and other is not None and {label_, other} <= set(self.scores.methods):
                found.append((label_, other))
        return found

    def _interactions(self, family: Family) -> list[Row]:
        """Of two axes: how much the effect of a level of the first changes with a level of the second."""
        if len(self.sweep.of_method) != 2 or self.centre is None:
            return []
        first, second = self.sweep.of_method
        base = {name: self.centre.levels[name] for name in (first, second)}
        levels = {name: [one for one in dict.fromkeys(arm.levels[name] for arm in self.swept) if one != base[name]] for name in base}
        rows = []
        for one in levels[first]:
            for two in levels[second]:
                weights = self._square({one: 1.0, base[first]: -1.0}, {two: 1.0, base[second]: -1.0})
                row = {"first": first, "first_level": one, "second": second, "second_level": two}
                rows.append(self._tested(row, weights, family))
        return rows

    def _square(self, first_signs: Mapping[str, float], second_signs: Mapping[str, float]) -> dict[str, float]:
        """Weights of a difference of differences, averaged over blocks; none where a corner is missing."""
        first, second = self.sweep.of_method
        inside = [arm for arm in self.swept if arm.levels[first] in first_signs and arm.levels[second] in second_signs]
        n_blocks = len({arm.block for arm in inside})
        if len(inside) != 4 * n_blocks:
            return {}
        return {arm.label: first_signs[arm.levels[first]] * second_signs[arm.levels[second]] / n_blocks for arm in inside}

    def _scaling(self, family: Family) -> Row:
        """Curves of methods that were to run at two budgets or more, on one student each, and which of two rises faster.

        A curve's points are all of its runs, with the reason in "why" where one has no score; its slope is over "budgets", those scored.
        Two slopes are compared over the budgets at which both methods have scores: where curves flatten, others have another slope.
        """
        if not any(self.sweep.axes[name].key == BUDGET for name in self.study_axes):
            return {"scaling": [], "slope_differences": []}
        by_curve: dict[str, list[Arm]] = {}
        for arm in sorted(self.arms, key=lambda arm: arm.train_flops):
            if is_trained(self.results.trials, arm.label):
                by_curve.setdefault(arm.curve, []).append(arm)
        curves = {arm.curve: by_curve[arm.curve] for arm in self.arms if len(by_curve.get(arm.curve, ())) > 1}
        slopes = []
        for curve, arms in curves.items():
            scored = self._scored(arms)
            told: Row = {"method": curve, "budgets": [arm.train_flops for arm in scored], "points": [self._point(arm) for arm in arms]}
            row, _ = self._sloped(told, {arm.label: weight for arm, weight in _slope_weights(scored)})
            del row["p_value"]
            slopes.append({"slope": row.pop("effect"), **row})
        differences = []
        for one, two in combinations(curves, 2):
            if self._student(curves[one][0]) == self._student(curves[two][0]):
                row, found = self._slope_difference(one, curves[one], two, curves[two])
                differences.append(family.add(row | {"p_holm": None, "mde": None}, found))
        return {"scaling": slopes, "slope_differences": differences}

    def _slope_difference(self, one: str, first: Sequence[Arm], two: str, second: Sequence[Arm]) -> tuple[Row, Estimate | None]:
        """Slope of the first less slope of the second, both over the budgets at which both have scores."""
        budgets = {arm.train_flops for arm in self._scored(first)} & {arm.train_flops for arm in self._scored(second)}
        fitted = [[arm for arm in arms if arm.train_flops in budgets] for arms in (first, second)]
        signed = zip((1.0, -1.0), fitted, strict=True)
        weights = {arm.label: sign * weight for sign, arms in signed for arm, weight in _slope_weights(arms)}
        return self._sloped({"first": one, "second": two, "budgets": sorted(budgets)}, weights)

    def _sloped(self, row: Row, weights: Mapping[str, float]) -> tuple[Row, Estimate | None]:
        if not weights:
            whose = "both have" if "second" in row else "it has"
            return row | _BLANK | {"why": f"{whose} scores at {len(row['budgets'])} of the budgets; a slope needs two"}, None
        return self._estimated(row, weights)

    def _scored(self, arms: Sequence[Arm]) -> list[Arm]:
        return [arm for arm in arms if arm.label in self.scores.methods]

    def _student(self, arm: Arm) -> tuple[str | None, ...]:
        return tuple(arm.levels.get(name) for name in self.study_axes if self.sweep.axes[name].key != BUDGET)

    def _point(self, arm: Arm) -> Row:
        """A method's mean score at one budget, over its own seeds."""
        row, found = self._estimated({"label": arm.label, "train_flops": arm.train_flops}, {arm.label: 1.0})
        row["value"] = row.pop("effect")
        del row["p_value"]  # that a score is not 0 is no finding
        if found is not None and row["interval"] is not None and 0 <= found.estimate <= 1:
            row["interval"] = [max(0.0, row["interval"][0]), min(1.0, row["interval"][1])]
        return row

    def _tested(self, row: Row, weights: Mapping[str, float], family: Family, pairs: Sequence[tuple[str, str]] = ()) -> Row:
        row, found = self._estimated(row, weights, pairs)
        return family.add(row | {"p_holm": None, "mde": None}, found)

    def _estimated(self, row: Row, weights: Mapping[str, float], pairs: Sequence[tuple[str, str]] = ()) -> tuple[Row, Estimate | None]:
        """The row with its contrast; no estimate where one seed, or nothing shared, forbids a test."""
        try:
            fitted, n_dropped = self._fitted(list(weights))
        except NotTestableError as error:
            return row | _BLANK | {"why": str(error)}, None
        found = contrast(fitted, list(weights.values()), level=1 - self.alpha)
        told = {"effect": found.estimate, "n_seeds": found.n_seeds, "n_items": found.n_items, "n_dropped": n_dropped, "why": ""}
        if pairs:
            means = dict(zip(weights, fitted.mean_P, strict=True))
            simple = [float(means[one] - means[other]) for one, other in pairs]
            told["range"] = [min(simple), max(simple)]
        if found.n_seeds < 2:
            return row | _BLANK | told | {"why": ONE_SEED}, None
        return row | _BLANK | told | {"interval": list(found.interval), "p_value": found.p_value}, found

    def _fitted(self, labels: list[str]) -> tuple[Moments, int]:
        """Moments of runs on the seeds and items that all of them share, and the number of items that some run lacks.

        Raises:
            NotTestableError: a run has no scores or missed its budget, or they share too little.
        """
        if not labels:
            raise NotTestableError("the runs that this would compare are not all there")
        without = [name for name in labels if name not in self.scores.methods]
        if without:
            raise NotTestableError(f"{without[0]} has no scores")
        spread, owner = compute_spread(self.results.trials, labels)
        if not spread <= MATCH_TOLERANCE:
            told = f"compute was not matched: {owner} missed its budget by {spread:.1%} (up to {MATCH_TOLERANCE:.0%} is allowed)"
            raise NotTestableError(told)
        seeds = self.scores.seeds(labels)
        if not seeds:
            raise NotTestableError("these runs share no training seed")
        shared = [self.scores.collect(task, [(name, CLEAN) for name in labels], seeds) for task in self.tasks]
        for part in shared:
            if _n_clusters(part.scores) < 2:
                raise NotTestableError(f"fewer than 2 items of {part.task} have a score in all of these runs")
        n_items = sum(part.scores.values_S_N_P.shape[1] for part in shared)
        return moments([part.scores for part in shared]), sum(part.n_total for part in shared) - n_items


def _arms(study: Mapping[str, Any], study_axes: Sequence[str], sweep: SweepSpec) -> list[Arm]:
    places = {name: block for block in blocks(study) for name in block.methods}
    budget_axes = [name for name in study_axes if sweep.axes[name].key == BUDGET]
    found = []
    for method in study["methods"]:
        name = label(method)
        variant = [part for part in (method.get("variant") or "").split(",") if part and part.partition("=")[0] not in budget_axes]
        curve = f"{method['name']}:{','.join(variant)}" if variant else str(method["name"])
        found.append(Arm(name, curve, method.get("levels") or {}, places[name].name, places[name].train_flops))
    return found


def _slope_weights(arms: Sequence[Arm]) -> list[tuple[Arm, float]]:
    """Least squares on log2 of the budget: the score gained per doubling of training FLOPs is Σ weight·score; none of fewer than two."""
    if len(arms) < 2:
        return []
    doublings = np.log2([arm.train_flops for arm in arms])
    centred = doublings - doublings.mean()
    return list(zip(arms, (centred / (centred @ centred)).tolist(), strict=True))


def _n_clusters(scores: TaskScores) -> int:
    n_items = scores.values_S_N_P.shape[1]
    return n_items if scores.clusters_N is None else len(set(scores.clusters_N.tolist()))
