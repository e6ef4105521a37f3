"""Checks the statistics against worlds whose truth is known, through the functions that studies use.

    python -m harness.stats.calibrate [--replications 1000]

A world draws binary scores as a study does (two methods, S training seeds, K tasks of N items): the logit of success is
intercept + item difficulty + method×item + checkpoint + checkpoint×task + effect. Every table shows the replications it rests on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from harness.seeds import generator
from harness.stats.crossed import Moments, TaskScores, contrast, moments
from harness.stats.freedom import FloatArray
from harness.stats.relative import ratio_tails


@dataclass(frozen=True)
class World:
    """A truth to simulate from; standard deviations are on the logit scale."""

    n_seeds: int
    n_items: int
    n_tasks: int = 1
    seed_sd: float = 0.3
    """Between checkpoints of one method, shared by all tasks of a checkpoint."""
    seed_task_sd: float = 0.0
    item_sd: float = 0.5
    """Of the methods' difference between items; item difficulty itself has SD 1."""
    effect: float = 0.0
    intercept: float = 0.0

    def draw(self, rng: np.random.Generator) -> list[TaskScores]:
        """One study: per task an array (S, N, 2) of treatment and comparator, 0 or 1."""
        checkpoint_S_P = rng.normal(0, self.seed_sd / np.sqrt(2), (self.n_seeds, 2))
        return [self._task(checkpoint_S_P, rng) for _ in range(self.n_tasks)]

    def _task(self, checkpoint_S_P: FloatArray, rng: np.random.Generator) -> TaskScores:
        own_S_P = checkpoint_S_P + rng.normal(0, self.seed_task_sd / np.sqrt(2), checkpoint_S_P.shape)
        difficulty_N = rng.normal(0, 1, self.n_items)
        taste_N_P = rng.normal(0, self.item_sd / np.sqrt(2), (self.n_items, 2))
        effect_P = np.array([self.effect, 0.0])
        logit = self.intercept + difficulty_N[:, None] + taste_N_P + own_S_P[:, None, :] + effect_P
        return TaskScores((rng.random(logit.shape) < special.expit(logit)).astype(np.float64))

    def truth(self) -> FloatArray:
        """Expected scores of treatment and comparator (Gauss–Hermite over the normal logit)."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        spread = np.sqrt(1 + (self.item_sd**2 + self.seed_sd**2 + self.seed_task_sd**2) / 2)
        share = [special.expit(self.intercept + effect + spread * nodes) @ weights / weights.sum() for effect in (self.effect, 0.0)]
        return np.asarray(share)


Rule = Callable[[Moments, list[TaskScores]], float]


def items_only(fitted: Moments, _: list[TaskScores]) -> float:
    """p of the paired t over items that treats the seeds' average as one checkpoint: what evaluation harnesses report."""
    item = np.einsum("p,kpq,q->k", (1, -1), fitted.item_K_P_P, (1, -1))
    se = np.sqrt(item.sum())
    return float(2 * stats.norm.sf(abs(fitted.mean_P @ (1, -1)) / se)) if se else 1.0


def seed_means(_: Moments, tasks: list[TaskScores]) -> float:
    """p of the t test on one macro difference a seed."""
    diff_S = np.mean([(task.values_S_N_P @ (1, -1)).mean(axis=1) for task in tasks], axis=0)
    if len(diff_S) < 2:
        return float("nan")
    if np.ptp(diff_S) < 1e-12:
        return 1.0
    return float(stats.ttest_1samp(diff_S, 0).pvalue)


def satterthwaite(fitted: Moments, _: list[TaskScores]) -> float:
    """p of the crossed model with Satterthwaite's degrees of freedom."""
    return contrast(fitted, (1, -1)).p_value


def hillis(fitted: Moments, _: list[TaskScores]) -> float:
    """p of the crossed model with Hillis' degrees of freedom."""
    return contrast(fitted, (1, -1), df="hillis").p_value


RULES: dict[str, Rule] = {
    "items only": items_only,
    "t on seed means": seed_means,
    "crossed, Satterthwaite": satterthwaite,
    "crossed, Hillis": hillis,
}


def false_alarms(world: World, *, replications: int, rng: np.random.Generator) -> dict[str, float]:
    """Share of replications of a null world in which each rule has p < .05; NaN for a rule that needs more seeds."""
    assert world.effect == 0, world
    hits = dict.fromkeys(RULES, 0.0)
    for _ in range(replications):
        tasks = world.draw(rng)
        fitted = moments(tasks)
        for name, rule in RULES.items():
            p_value = rule(fitted, tasks)
            hits[name] += p_value if np.isnan(p_value) else p_value < 0.05
    return {name: count / replications for name, count in hits.items()}


def coverage(world: World, *, replications: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Shares of 95 % intervals that hold the truth, of the difference and of the ratio, and the share of ratios that were defined."""
    top, bottom = world.truth()
    held = held_ratio = defined = 0
    for _ in range(replications):
        fitted = moments(world.draw(rng))
        low, high = contrast(fitted, (1, -1)).interval
        held += low <= top - bottom <= high
        if contrast(fitted, (0, 1)).interval[0] <= 0:
            continue
        defined += 1
        held_ratio += 2 * min(ratio_tails(fitted, top / bottom)) >= 0.05
    return held / replications, held_ratio / max(defined, 1), defined / replications


def tables(*, replications: int) -> Iterator[str]:
    """Markdown lines of the calibration tables."""
    yield f"False alarms (p < .05) without a difference, {replications} replications a cell; nominal .05 ± {_error(replications)} (one SE)."
    yield ""
    yield "| seeds × items × tasks | seed SD, seed×task SD, item SD | " + " | ".join(RULES) + " |"
    yield "|---|---|" + "---|" * len(RULES)
    for world in null_worlds():
        rates = false_alarms(world, replications=replications, rng=generator("calibrate", "null", world))
        cells = " | ".join(_rate(rate) for rate in rates.values())
        yield f"| {_size(world)} | {world.seed_sd}, {world.seed_task_sd}, {world.item_sd} | {cells} |"
    yield ""
    yield f"Coverage of 95 % intervals under an effect of 0.5 logits, {replications} replications a cell."
    yield ""
    yield "| seeds × items × tasks | seed SD, seed×task SD, item SD | chance of success | difference | ratio (Fieller) | ratio defined |"
    yield "|---|---|---|---|---|---|"
    for world in effect_worlds():
        cells = " | ".join(_rate(rate) for rate in coverage(world, replications=replications, rng=generator("calibrate", "effect", world)))
        yield f"| {_size(world)} | {world.seed_sd}, {world.seed_task_sd}, {world.item_sd} | {_rate(world.truth()[1])} | {cells} |"


def null_worlds() -> Iterator[World]:
    """The null worlds of the committed table."""
    for n_seeds, n_items in ((1, 200), (3, 50), (3, 200), (5, 200), (10, 200), (10, 1000)):
        for seed_sd, item_sd in ((0.0, 0.5), (0.15, 0.3), (0.5, 0.5)):
            yield World(n_seeds, n_items, 1, seed_sd, 0.0, item_sd)
    for n_seeds in (1, 3, 5, 10):
        for seed_sd, seed_task_sd in ((0.0, 0.0), (0.3, 0.0), (0.3, 0.3)):
            yield World(n_seeds, 100, 4, seed_sd, seed_task_sd, 0.5)


def effect_worlds() -> Iterator[World]:
    """The worlds with an effect of the committed table."""
    for n_seeds in (3, 5, 10):
        for intercept in (0.0, -2.5):
            yield World(n_seeds, 100, 4, 0.3, 0.3, 0.5, effect=0.5, intercept=intercept)


def _size(world: World) -> str:
    return f"{world.n_seeds} × {world.n_items} × {world.n_tasks}"


def _rate(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}".removeprefix("0")


def _error(replications: int) -> str:
    return _rate(float(np.sqrt(0.05 * 0.95 / replications)))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=1000)
    for line in tables(replications=parser.parse_args().replications):
        print(line, flush=True)


if __name__ == "__main__":
    main()
