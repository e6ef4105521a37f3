"""Worlds of known truth: two methods, S training seeds, K tasks of N items, scored once or twice (clean, perturbed).

The logit of an item's success is  intercept + difficulty + taste (item × method) + luck (checkpoint) + luck on this task + effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.stats.crossed import TaskScores
from harness.stats.freedom import FloatArray

CLUSTER_SIZES = (1, 2, 3, 4)
"""Sizes of the passages of a clustered task, in turn: 2.5 items on average, 20 clusters in 50 items."""
CLUSTER_SEED_SD = 0.3
PERTURBED_LOGIT = -0.5
PERTURBED_ITEM_SD = 0.5


@dataclass(frozen=True)
class World:
    """A truth to simulate from; standard deviations are on the logit scale, those with "seed" and "item" in their name of a difference."""

    n_seeds: int
    n_items: int
    n_tasks: int = 1
    seed_sd: float = 0.3
    """Between checkpoints, shared by all tasks of a checkpoint."""
    seed_task_sd: float = 0.0
    item_sd: float = 0.5
    """Of the methods' difference between items; item difficulty itself has SD 1."""
    effect: float = 0.0
    intercept: float = 0.0
    scores: Literal["binary", "graded"] = "binary"
    """Graded: expit(logit + a normal error of SD 1), a score between 0 and 1."""
    clustered: bool = False
    """Half of the variance of difficulty and taste belongs to passages, and checkpoints differ by passage (SD 0.3)."""
    perturbed: bool = False
    """A second view of every item, half a logit harder on average, more so for some items (SD 0.5) under each method."""

    def draw(self, n_studies: int, rng: np.random.Generator) -> list[TaskScores]:
        """Per task the scores (R studies, S, N, P); columns are (treatment, comparator), each clean then perturbed."""
        luck_R_S_M = rng.normal(0, self.seed_sd / np.sqrt(2), (n_studies, self.n_seeds, 2))
        labels = self.labels()
        return [TaskScores(self._task(luck_R_S_M, labels, rng), labels) for _ in range(self.n_tasks)]

    def labels(self) -> npt.NDArray[np.int64] | None:
        """The passage of each item."""
        if not self.clustered:
            return None
        sizes = list(islice(cycle(CLUSTER_SIZES), self.n_items))
        return np.repeat(np.arange(len(sizes)), sizes)[: self.n_items]

    @cache  # noqa: B019  (worlds are few and frozen)
    def truth(self) -> FloatArray:
        """Expected score of each column (Gauss–Hermite over the normal logit)."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        variance = 1 + (self.item_sd**2 + self.seed_sd**2 + self.seed_task_sd**2) / 2
        variance += (CLUSTER_SEED_SD**2 / 2 if self.clustered else 0) + (1 if self.scores == "graded" else 0)

        def expected(logit: float, extra: float = 0.0) -> float:
            return float(special.expit(logit + np.sqrt(variance + extra) * nodes) @ weights / weights.sum())

        columns = []
        for logit in (self.intercept + self.effect, self.intercept):
            columns.append(expected(logit))
            if self.perturbed:
                columns.append(expected(logit + PERTURBED_LOGIT, PERTURBED_ITEM_SD**2))
        return np.array(columns)

    def _task(self, luck_R_S_M: FloatArray, labels: npt.NDArray[np.int64] | None, rng: np.random.Generator) -> FloatArray:
        n_studies, n = len(luck_R_S_M), self.n_items
        own_R_S_M = luck_R_S_M + rng.normal(0, self.seed_task_sd / np.sqrt(2), luck_R_S_M.shape)
        difficulty = _by_item(rng, (n_studies, 1), 1.0, labels, n, columns=1)
        taste = _by_item(rng, (n_studies, 1), self.item_sd / np.sqrt(2), labels, n, columns=2)
        logit = self.intercept + difficulty + taste + own_R_S_M[:, :, None, :] + np.array([self.effect, 0.0])
        if labels is not None:
            logit = logit + rng.normal(0, CLUSTER_SEED_SD / np.sqrt(2), (n_studies, self.n_seeds, labels[-1] + 1, 2))[:, :, labels]
        if self.perturbed:
            harder = logit + PERTURBED_LOGIT + rng.normal(0, PERTURBED_ITEM_SD, (n_studies, 1, n, 2))
            logit = np.stack([logit, harder], axis=-1).reshape(*logit.shape[:3], 4)
        if self.scores == "graded":
            return np.asarray(special.expit(logit + rng.standard_normal(logit.shape)))
        return np.asarray(rng.random(logit.shape) < special.expit(logit), dtype=np.float64)


def _by_item(
    rng: np.random.Generator,
    lead: tuple[int, int],
    sd: float,
    labels: npt.NDArray[np.int64] | None,
    n_items: int,
    *,
    columns: int,
) -> FloatArray:
    """Normal effects of items, half of their variance shared within passages."""
    if labels is None:
        return rng.normal(0, sd, (*lead, n_items, columns))
    shared = rng.normal(0, sd / np.sqrt(2), (*lead, labels[-1] + 1, columns))[..., labels, :]
    return np.asarray(shared + rng.normal(0, sd / np.sqrt(2), (*lead, n_items, columns)))
