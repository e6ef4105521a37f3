"""Quality along each run: what had been spent and how good the student was, at its start, at each kept checkpoint and at its end."""
# Array axes: _T points of one run.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.core.blocks import student_of
from harness.core.records import CLEAN, Status
from harness.verdicts.frames import Frames, NotTestableError, Scores, is_trained

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """One kind of spend: the columns of the trials' and checkpoints' frames that add up to it, and its unit."""

    columns: tuple[str, ...]
    unit: str
    words: str


AXES: Mapping[str, Axis] = {
    "flops": Axis(("train_flops",), "FLOP", "training FLOPs"),
    "tokens": Axis(("tokens",), "tokens", "tokens computed in training"),
    "seconds": Axis(("wall_s",), "s", "device seconds"),
    "usd": Axis(("cost_usd",), "USD", "dollars: device and labels at the study's prices"),
    "labels": Axis(("demonstrations", "comparisons"), "labels", "human labels: demonstrations and comparisons"),
    "queries": Axis(("queries",), "queries", "calls of models other than the student"),
}
START, END = 0.0, 1.0
"""Shares of the budget at which a run starts and ends."""


@dataclass(frozen=True)
class Track:
    """One run: cost on every axis and mean score, from its start to its end. `n_items` scored at all points count."""

    cost_T: Mapping[str, FloatArray]
    quality_T: FloatArray
    n_items: int


def spend(frame: pd.DataFrame, axis: str) -> pd.Series[float]:
    """What each row of a trials' or checkpoints' frame had spent on an axis; NaN where it was not recorded."""
    columns = [column for column in AXES[axis].columns if column in frame]
    if len(columns) < len(AXES[axis].columns):
        return pd.Series(np.nan, index=frame.index)
    total: pd.Series[float] = frame[columns].apply(pd.to_numeric).sum(axis=1, skipna=False).astype(float)
    return total


def has_checkpoints(results: Frames) -> bool:
    """Whether students were kept and scored along any run."""
    kept = getattr(results, "checkpoints", None)
    return kept is not None and len(kept) > 0


def tracks(
    results: Frames, scores: Scores, methods: Sequence[str], seeds: Sequence[int], tasks: Sequence[str]
) -> dict[tuple[str, int], Track]:
    """The runs of `methods`, all of one student, with each of `seeds`.

    Quality is the mean over `tasks`, of equal weight, on unperturbed items. Only items count that have a score at every point of every one
    of `methods` in that seed. A run starts at no cost with the score of an untrained method of that student; without one it starts at its
    first checkpoint.

    Raises:
        NotTestableError: there is no task, a run has no scored checkpoints, or no item of a task is scored at all of them.
    """
    if not tasks:
        raise NotTestableError("the study scores no evaluation suite, only validation")
    model = student_of(results.study, methods[0]).get("model") if methods else None
    untrained = [
        method
        for method in scores.methods
        if not is_trained(results.trials, method) and student_of(results.study, method).get("model") == model
    ]
    found: dict[tuple[str, int], Track] = {}
    for seed in seeds:
        points = pd.concat(_points(results, scores, methods, untrained[:1], seed, tasks))
        wide = points.pivot(index=["task", "sample_id"], columns=["method", "share"], values="value").dropna()
        missing = [task for task in tasks if task not in wide.index.get_level_values("task")]
        if missing:
            raise NotTestableError(f"no item of {missing[0]} has a score at every checkpoint of {' and '.join(methods)} with seed {seed}")
        quality = wide.groupby(level="task").mean().mean()
        for method in methods:
            found[method, seed] = _track(results.checkpoints, quality, method, seed, untrained[:1], len(wide))
    return found


def _points(
    results: Frames, scores: Scores, methods: Sequence[str], start: Sequence[str], seed: int, tasks: Sequence[str]
) -> list[pd.DataFrame]:
    metrics = {task: scores.info[task]["metric"] for task in tasks}
    final = results.samples[(results.samples["seed"] == seed) & (results.samples["perturbation"] == CLEAN)]
    kept = results.checkpoint_samples[results.checkpoint_samples["seed"] == seed]
    parts = [final[final["method"].isin(start)].assign(share=START), final[final["method"].isin(methods)].assign(share=END)]
    for method in methods:
        mine = kept[kept["method"] == method]
        if mine.empty:
            raise NotTestableError(f"{method} has no scored checkpoints with seed {seed}")
        parts.append(mine)
    columns = ["task", "sample_id", "method", "share", "value"]
    return [
        part.loc[(part["metric"] == part["task"].map(metrics)) & (part["status"] == Status.SCORED), columns].astype({"value": float})
        for part in parts
    ]


def _track(checkpoints: pd.DataFrame, quality: pd.Series[float], method: str, seed: int, start: Sequence[str], n_items: int) -> Track:
    rows = checkpoints[(checkpoints["method"] == method) & (checkpoints["seed"] == seed)].sort_values("share")
    at = [(method, share) for share in rows["share"]]
    if not at or at[-1][1] != END or any(point not in quality.index for point in at):
        raise NotTestableError(f"{method} has no scored checkpoints with seed {seed}")
    begin = [(name, START) for name in start]
    cost = {axis: np.concatenate([np.zeros(len(begin)), spend(rows, axis).to_numpy()]) for axis in AXES}
    return Track(cost, np.asarray(quality.loc[begin + at], dtype=np.float64), n_items)


def quality_at(track: Track, axis: str, amount: float) -> float:
    """Mean score when `amount` had been spent: linear between points, the latest where several cost the same; NaN before the first."""
    cost_T, quality_T = track.cost_T[axis], track.quality_T
    reached = np.flatnonzero(cost_T <= amount)
    if not len(reached):
        return float("nan")
    last = int(reached[-1])
    if last == len(cost_T) - 1:
        return float(quality_T[last])
    share = (amount - cost_T[last]) / (cost_T[last + 1] - cost_T[last])
    return float(quality_T[last] + share * (quality_T[last + 1] - quality_T[last]))
