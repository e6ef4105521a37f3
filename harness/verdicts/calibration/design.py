"""The cells of the calibration: which worlds, and what is counted in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from harness.verdicts.calibration.worlds import World

Kind = Literal["null", "effect", "ratio", "retention", "claim"]
SEEDS = (1, 3, 5, 10)
ITEMS = (50, 200, 1000)
PATTERNS = ((0.0, 0.5), (0.15, 0.3), (0.5, 0.5))
"""(seed SD, item SD): seeds alike; a little; seeds and items alike. On the logit scale."""
ITEMS_DOMINATE = (0.3, 2.0)
EFFECT = 0.5
"""Of the worlds with an effect, in logits: about 10 points at 50 %."""
CEILING, CHANCE, RARE = 3.5, -1.3, -3.0
"""Intercepts: about 95 %, 25 % and 7 % right."""


@dataclass(frozen=True)
class Cell:
    """One row of a table: a world and what is counted in it."""

    family: str
    kind: Kind
    world: World


def cells() -> Iterator[Cell]:
    """All cells, family by family."""
    kinds: tuple[tuple[Kind, float], ...] = (("null", 0.0), ("effect", EFFECT))
    for kind, effect in kinds:
        yield from (Cell("difference", kind, replace(world, effect=effect)) for world in _grid())
        yield from (Cell("tasks", kind, replace(world, effect=effect)) for world in _macro())
        yield from (Cell("edges", kind, replace(world, effect=effect)) for world in _edges())
    for world in _relative():
        yield Cell("ratio", "ratio", world)
        yield Cell("claims", "claim", world)
    for n_seeds in SEEDS[1:]:
        for n_items in ITEMS[:2]:
            yield Cell("retention", "retention", World(n_seeds, n_items, 3, 0.15, 0.15, 0.3, effect=EFFECT, perturbed=True))


def _grid() -> Iterator[World]:
    """S × N × binary or graded × clustered or not × variance patterns."""
    kinds: tuple[Literal["binary", "graded"], ...] = ("binary", "graded")
    for scores in kinds:
        for clustered in (False, True):
            for seed_sd, item_sd in PATTERNS:
                for n_seeds in SEEDS:
                    for n_items in ITEMS:
                        yield World(n_seeds, n_items, 1, seed_sd, 0.0, item_sd, scores=scores, clustered=clustered)


def _macro() -> Iterator[World]:
    """Means over 3 and 8 tasks of 100 items: no luck, luck shared by tasks, luck shared and own."""
    for n_tasks in (3, 8):
        for seed_sd, seed_task_sd in ((0.0, 0.0), (0.3, 0.0), (0.3, 0.3)):
            for n_seeds in SEEDS[1:]:
                yield World(n_seeds, 100, n_tasks, seed_sd, seed_task_sd, 0.5)


def _edges() -> Iterator[World]:
    """Success near the ceiling, at a four-way guess and rare; and items that matter far more than seeds."""
    for intercept in (CEILING, CHANCE, RARE):
        for n_seeds in SEEDS[1:]:
            for n_items in ITEMS[:2]:
                yield World(n_seeds, n_items, 1, 0.15, 0.0, 0.3, intercept=intercept)
    for n_seeds in SEEDS[1:]:
        for n_items in ITEMS[:2]:
            yield World(n_seeds, n_items, 1, ITEMS_DOMINATE[0], 0.0, ITEMS_DOMINATE[1])


def _relative() -> Iterator[World]:
    """Worlds with an effect, from frequent to rare success, for ratios and for claims whose threshold is the truth."""
    for intercept in (0.0, CHANCE, RARE):
        for seed_sd, item_sd in (PATTERNS[0], PATTERNS[2]):
            for n_seeds in SEEDS[1:]:
                for n_items in ITEMS[:2]:
                    yield World(n_seeds, n_items, 1, seed_sd, 0.0, item_sd, effect=EFFECT, intercept=intercept)
