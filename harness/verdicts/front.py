"""Cost and quality together, for leaderboard.json: who is on the front on each axis of cost, and scores along the runs with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.core.records import CLEAN
from harness.seeds import generator
from harness.stats.crossed import contrast, moments, seed_moments
from harness.stats.pareto import pareto
from harness.verdicts.frames import Frames, NotTestableError, Scores, is_trained
from harness.verdicts.judge import MATCH_TOLERANCE
from harness.verdicts.tracks import AXES, has_checkpoints, spend, tracks

FRONT_AXES = ("flops", "seconds", "usd", "labels")
LEVEL = 0.95


def cost_quality_front(results: Frames, scores: Scores, tasks: Sequence[str]) -> dict[str, Any]:
    """Each method's mean cost and score with their joint region, and in what share of joint draws it is on the front.

    Seeds and items are those that all methods share: the score can differ a little from the leaderboard's, which takes each method's own.

    Returns:
        "axes": {axis: {"unit", "words", "rows": [{"method", "cost", "quality", "cost_se", "quality_se", "correlation", "radius",
        "on_front", "share_on_front"}], "why"}}; "n_seeds", "n_items", "level", "tolerance", "tasks"; "why" where nothing can be said.
    """
    found: dict[str, Any] = {"axes": {}, "level": LEVEL, "tolerance": MATCH_TOLERANCE, "tasks": list(tasks), "why": ""}
    methods, seeds = scores.methods, scores.seeds(scores.methods) if scores.methods else []
    if len(methods) < 2 or not seeds or not tasks:
        return found | {"why": "fewer than two methods were scored with a common seed"}
    try:
        shared = [scores.collect(task, [(method, CLEAN) for method in methods], seeds) for task in tasks]
    except NotTestableError as error:
        return found | {"why": str(error)}
    thin = [part.task for part in shared if len(set(part.scores.clusters_N if part.scores.clusters_N is not None else ())) < 2]
    if thin:
        return found | {"why": f"fewer than 2 items of {thin[0]} were answered by every method with every seed"}
    fitted = moments([part.scores for part in shared])
    quality_S_M = np.mean([part.scores.values_S_N_P.mean(axis=1) for part in shared], axis=0)
    finished = results.trials[(results.trials["status"] == "finished") & results.trials["seed"].isin(seeds)]
    for axis in FRONT_AXES:
        about = {"unit": AXES[axis].unit, "words": AXES[axis].words, "rows": [], "why": ""}
        costs = finished.assign(spent=spend(finished, axis)).pivot_table(index="seed", columns="method", values="spent", dropna=False)
        cost_S_M = costs.reindex(index=seeds, columns=methods).to_numpy(dtype=float)
        if not np.isfinite(cost_S_M).all():
            found["axes"][axis] = about | {"why": f"{AXES[axis].words} of some training were not recorded"}
            continue
        places = pareto(cost_S_M, quality_S_M, fitted, rng=generator("front", axis), tolerance=MATCH_TOLERANCE, level=LEVEL)
        rows = [{"method": method, **vars(place)} for method, place in zip(methods, places, strict=True)]
        found["axes"][axis] = about | {"rows": rows}
    return found | {"n_seeds": len(seeds), "n_items": fitted.n_items}


def score_tracks(results: Frames, scores: Scores, tasks: Sequence[str]) -> dict[str, Any]:
    """Mean score of each trained method at its start, at its checkpoints and at its end, with an interval over seeds and no items.

    Returns:
        "rows": [{"method", "points": [{"train_flops", "value", "interval" (None for one seed)}]}], "n_seeds", "n_items", "tasks", "why".
    """
    found: dict[str, Any] = {"rows": [], "n_seeds": 0, "n_items": 0, "tasks": [], "why": ""}
    if not has_checkpoints(results):
        return found | {"why": "students were kept and scored at the end only"}
    methods = [method for method in scores.methods if is_trained(results.trials, method)]
    kept, seeds = set(results.checkpoint_samples["task"]), scores.seeds(methods) if methods else []
    tasks = [task for task in tasks if task in kept]
    if not tasks or not seeds:
        return found | {"why": "no task of the leaderboard was scored along the runs with a seed that all methods share"}
    try:
        along = tracks(results, scores, methods, seeds, tasks)
    except NotTestableError as error:
        return found | {"why": str(error)}
    for method in methods:
        own = [along[method, seed] for seed in seeds]
        points = min(len(track.quality_T) for track in own)
        if any(len(track.quality_T) != points for track in own):
            continue
        fitted = seed_moments(np.array([track.quality_T for track in own]))
        flops_T = np.mean([track.cost_T["flops"] for track in own], axis=0)
        found["rows"].append({"method": method, "points": [_point(fitted, at, flops_T, len(seeds)) for at in range(points)]})
    return found | {"n_seeds": len(seeds), "n_items": along[methods[0], seeds[0]].n_items, "tasks": list(tasks)}


def _point(fitted: Any, at: int, flops_T: Any, n_seeds: int) -> dict[str, Any]:
    weights = np.zeros(len(fitted.mean_P))
    weights[at] = 1
    told = contrast(fitted, weights)
    known = n_seeds > 1 and told.se > 0
    return {"train_flops": float(flops_T[at]), "value": told.estimate, "interval": list(told.interval) if known else None}
