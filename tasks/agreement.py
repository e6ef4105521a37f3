"""How far simulated annotators agree: among themselves, and with what each would say without noise.

Chance-corrected by Cohen's kappa for two annotators (Cohen 1960) and Fleiss' kappa for all (Fleiss 1971). Which response of a pair comes
first is arbitrary, so both categories are about even and kappa is near 2 x agreement - 1. Intervals: cluster bootstrap over instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.core.records import Instruction, Preference
from tasks.annotators import EVEN, Annotators, correctness

Pair = tuple[Instruction, str, str]
Votes = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
RESAMPLES = 2000


def panel(votes_A_N: Votes, *, names: Sequence[str], clusters_N: Sequence[object], rng: np.random.Generator) -> dict[str, Any]:
    """Agreement of annotators who all judged the same comparisons: mean share, Fleiss' kappa, Cohen's kappa of each two.

    Each is {"estimate", "interval"}; both are None where all votes of those concerned are equal, so that no kappa exists.

    Args:
        votes_A_N: True where the first response wins.
        clusters_N: comparisons of one instruction are dependent.
    """
    annotators, n = votes_A_N.shape
    assert min(annotators - 1, n) > 0, votes_A_N.shape
    pairs = list(combinations(range(annotators), 2))
    agree_N_P = np.array([votes_A_N[one] == votes_A_N[other] for one, other in pairs]).T
    data_N_M = np.hstack([agree_N_P, votes_A_N.T]).astype(float)

    def statistic(mean_M: Floats) -> Floats:
        agree, share = mean_M[..., : len(pairs)], mean_M[..., len(pairs) :]
        overall, centre = agree.mean(-1), share.mean(-1)
        ones, others = share[..., [one for one, _ in pairs]], share[..., [other for _, other in pairs]]
        by_chance = ones * others + (1 - ones) * (1 - others)
        fleiss = _kappa(overall, centre**2 + (1 - centre) ** 2)
        return np.concatenate([overall[..., None], fleiss[..., None], _kappa(agree, by_chance)], axis=-1)

    labels = ["agreement", "fleiss_kappa", *(f"{names[one]} and {names[other]}" for one, other in pairs)]
    found: dict[str, Any] = {}
    if len(set(clusters_N)) > 1:
        from harness.stats.bootstrap import bootstrap  # not above: planning a study imports this module, and scipy takes a while

        codes = np.unique([str(cluster) for cluster in clusters_N], return_inverse=True)[1]
        result = bootstrap(data_N_M, statistic, rng=rng, clusters_N=codes, resamples=RESAMPLES, method="percentile")
        rows = zip(labels, result.estimate_D, result.low_D, result.high_D, strict=True)
        found = {label: {"estimate": float(estimate), "interval": [float(low), float(high)]} for label, estimate, low, high in rows}
    else:
        found = {label: {"estimate": float(one), "interval": None} for label, one in zip(labels, statistic(data_N_M.mean(0)), strict=True)}
    for label, members in zip(labels[1:], [range(annotators), *pairs], strict=True):
        if len(np.unique(votes_A_N[list(members)])) == 1:
            found[label] = {"estimate": None, "interval": None}
    cohen = {label: found.pop(label) for label in labels[2:]}
    return {**found, "cohen_kappa": cohen}


def _kappa(observed: Floats, by_chance: Floats) -> Floats:
    """(observed - chance) / (1 - chance), and 0 in a resample in which nobody disagrees with anybody."""
    room = 1 - by_chance
    return np.where(room > EVEN, (observed - by_chance) / np.where(room > EVEN, room, 1.0), 0.0)


def agreement_report(
    annotators: Annotators, pairs: Sequence[Pair], labels: Sequence[Preference], *, rng: np.random.Generator
) -> dict[str, Any]:
    """What is written to a run as annotators.json about the comparisons that a method has bought.

    "labels" says how the bought labels agree with a noise-free criterion: the annotator's own, the pool's (mean worth over its annotators),
    and correctness alone; comparisons in which that criterion sees both responses as equally good are left out and counted. "panel" is the
    agreement of the annotators among themselves, each judging every bought pair once more: an estimate of the pool's quality that no method
    sees and nobody pays for; "panel_without_noise" the same with flip probability 0.

    Args:
        pairs, labels: what was compared, and how, in order.
    """
    assert len(pairs) == len(labels) > 0, (len(pairs), len(labels))
    config = annotators.config
    names = [profile.name for profile in config.profiles]
    gains_A_N = annotators.gains(pairs)
    first_wins_N = np.array([label.chosen == first for label, (_, first, _) in zip(labels, pairs, strict=True)])
    judge_N = np.array([names.index(label.annotator) for label in labels])
    right_N = np.array([correctness(one, first) - correctness(one, second) for one, first, second in pairs])
    report: dict[str, Any] = {
        "comparisons": len(pairs),
        "instructions": len({instruction.id for instruction, _, _ in pairs}),
        "flip_probability": config.flip_probability,
        "annotators": {
            profile.name: {"weights": dict(profile.weights), "comparisons": count}
            for profile, count in zip(config.profiles, np.bincount(judge_N, minlength=len(names)).tolist(), strict=True)
        },
        "labels": {
            "own_criterion": _criterion(first_wins_N, gains_A_N[judge_N, np.arange(len(pairs))]),
            "pool_criterion": _criterion(first_wins_N, gains_A_N.mean(0)),
            "correctness": _criterion(first_wins_N, right_N),
        },
    }
    if len(names) > 1:
        clusters = [instruction.id for instruction, _, _ in pairs]
        quiet = Annotators(config.model_copy(update={"flip_probability": 0.0}))
        for key, judges in (("panel", annotators), ("panel_without_noise", quiet)):
            report[key] = panel(judges.votes(pairs, rng=rng), names=names, clusters_N=clusters, rng=rng)
    return report


def _criterion(first_wins_N: Votes, gain_N: Floats) -> dict[str, Any]:
    decided = np.abs(gain_N) > EVEN
    n = int(decided.sum())
    right = int((first_wins_N == (gain_N > 0))[decided].sum())
    from harness.stats.intervals import wilson

    return {"agreement": right / n if n else None, "interval": list(wilson(right, n)) if n else None, "n": n, "even": len(gain_N) - n}
