"""The paired difference of two models on one task, and on the mean of several, with the estimator that their checkpoints allow.

One checkpoint each: the cluster-robust paired t over items (harness.stats.clustered), and beside it a test without a distribution assumed
(exact McNemar for right/wrong scores, sign flips for others). Several checkpoints: the crossed model of checkpoints × items
(harness.stats.crossed). In both an item counts only if each side has a score for it in every checkpoint.
"""
# Array axes: _S checkpoints, _N items.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.compare.align import Aligned
from harness.compare.cells import FloatArray
from harness.errors import SpecError
from harness.seeds import generator
from harness.stats.clustered import ClusterEstimate, mean_t
from harness.stats.crossed import Estimate, TaskScores, contrast, moments
from harness.stats.groups import GroupEstimate, group_mean
from harness.stats.paired import mcnemar_exact, sign_flip

DRAWS = 9999
MOST_FLIPPED = 20_000
"""Items (or clusters) up to which sign flips are drawn; above, the t test's normal approximation is as good."""


class TooFewItemsError(SpecError):
    """Fewer than two items (or clusters of items) have a score on both sides."""


@dataclass(frozen=True)
class Pair:
    """Scores of two models on the items that both have, row by row the same checkpoint number. `n_dropped` items lack a score."""

    task: Aligned
    first_S_N: FloatArray
    second_S_N: FloatArray
    cluster_N: np.ndarray | None
    n_dropped: int
    score_range: float

    @property
    def n_clusters(self) -> int:
        """Clusters of items; without clusters the items."""
        return self.first_S_N.shape[1] if self.cluster_N is None else len(np.unique(self.cluster_N))


@dataclass(frozen=True)
class Distribution:
    """The test beside the t test: its name, p value, and the items on which the two models differ."""

    name: str
    p_value: float
    n_discordant: int


def pair_up(task: Aligned, first: str, second: str, *, intersect: bool) -> Pair:
    """The two models' checkpoints side by side, on the items that both have.

    Equal labels are paired; a single checkpoint (an untrained model) stands against every checkpoint of the other; as many of both with
    other labels are paired in order, which changes nothing in expectation.

    Raises:
        SpecError: the numbers of checkpoints differ and `intersect` does not allow the common ones.
        TooFewItemsError: fewer than two items or clusters are left.
    """
    first_S_N, second_S_N = _checkpoints(task, first, second, intersect)
    complete = np.isfinite(first_S_N).all(axis=0) & np.isfinite(second_S_N).all(axis=0)
    clusters = None if task.cluster_N is None else task.cluster_N[complete]
    n_left = int(complete.sum()) if clusters is None else len(np.unique(clusters))
    if n_left < 2:
        unit = "item" if clusters is None else "cluster of items"
        raise TooFewItemsError(
            f"{n_left} {unit}{'' if n_left == 1 else 's'} with a score on both sides; a comparison needs 2", key=task.name
        )
    pair = (first_S_N[:, complete], second_S_N[:, complete])
    return Pair(task, *pair, clusters, int((~complete).sum()), _range(pair))


def _checkpoints(task: Aligned, first: str, second: str, intersect: bool) -> tuple[FloatArray, FloatArray]:
    seeds = {model: task.seeds[model] for model in (first, second)}
    counts = [len(found) for found in seeds.values()]
    common = [seed for seed in seeds[first] if seed in seeds[second]]
    if counts[0] == counts[1]:
        order = [seeds[second].index(seed) for seed in seeds[first]] if len(common) == counts[0] else list(range(counts[0]))
        return task.scores[first], task.scores[second][order]
    if 1 in counts:
        n_seeds = max(counts)
        return np.broadcast_to(task.scores[first], (n_seeds, len(task.items))), np.broadcast_to(
            task.scores[second], (n_seeds, len(task.items))
        )
    if intersect and common:
        return tuple(task.scores[model][[seeds[model].index(seed) for seed in common]] for model in (first, second))  # type: ignore[return-value]
    remedy = f"--intersect compares the {len(common)} that both have" if common else "give as many of both"
    raise SpecError(f"{first!r} has {counts[0]} checkpoints, {second!r} {counts[1]}; {remedy}", key=task.name)


def _range(pair: Sequence[FloatArray]) -> float:
    """The largest possible distance of two scores: 1 for scores in 0..1 and for scores that are all one, else the distance seen."""
    low, high = min(float(values.min()) for values in pair), max(float(values.max()) for values in pair)
    return 1.0 if (low >= 0 and high <= 1) or low == high else high - low


def difference(pair: Pair, *, level: float) -> ClusterEstimate | Estimate:
    """First − second on one task."""
    if len(pair.first_S_N) == 1:
        return mean_t(pair.first_S_N[0] - pair.second_S_N[0], clusters_N=pair.cluster_N, level=level, score_range=pair.score_range)
    return contrast(moments([_task_scores(pair)]), (1, -1), level=level, score_range=pair.score_range)


def mean_difference(pairs: Sequence[Pair], *, level: float) -> GroupEstimate | Estimate | None:
    """First − second on the mean of several tasks, each counted alike; None where tasks have different numbers of checkpoints."""
    score_range = max(pair.score_range for pair in pairs)
    if len({len(pair.first_S_N) for pair in pairs}) > 1:
        return None
    if len(pairs[0].first_S_N) > 1:
        return contrast(moments([_task_scores(pair) for pair in pairs]), (1, -1), level=level, score_range=score_range)
    values = [pair.first_S_N[0] - pair.second_S_N[0] for pair in pairs]
    groups = np.repeat(np.arange(len(pairs)), [len(part) for part in values])
    offset, clusters = 0, []
    for pair, part in zip(pairs, values, strict=True):
        codes = np.arange(len(part)) if pair.cluster_N is None else np.unique(pair.cluster_N, return_inverse=True)[1]
        clusters.append(codes + offset)
        offset += int(codes.max()) + 1
    return group_mean(np.concatenate(values), groups, clusters_N=np.concatenate(clusters), level=level, score_range=score_range)


def distribution_free(pair: Pair) -> Distribution | None:
    """The exact or permutation test of one checkpoint each; None for several checkpoints or very many graded scores."""
    if len(pair.first_S_N) > 1:
        return None
    first, second = pair.first_S_N[0], pair.second_S_N[0]
    if all(np.isin(values, (0.0, 1.0)).all() for values in (first, second)):
        try:
            found = mcnemar_exact(first, second, clusters_N=pair.cluster_N)
            return Distribution("exact McNemar", found.p_value, found.n_discordant)
        except SpecError as error:
            # Many large clusters make the exact distribution too slow; sign flips draw from it.
            if error.key != "clusters_N":
                raise
    if pair.n_clusters > MOST_FLIPPED:
        return None
    rng = generator("compare", pair.task.task, pair.task.metric, len(first))
    found = sign_flip(first, second, rng=rng, clusters_N=pair.cluster_N, draws=DRAWS)
    return Distribution("sign flips", found.p_value, found.n_discordant)


def _task_scores(pair: Pair) -> TaskScores:
    return TaskScores(np.stack([pair.first_S_N, pair.second_S_N], axis=2), pair.cluster_N)
