"""Which methods are on the front of cost and quality, how surely, and the joint region of each method's two means.

Costs and scores of one training belong together, so both are drawn together: a draw moves the means of all methods by one multivariate t
variable in the directions in which the seeds differed (S − 1 degrees of freedom, seeds paired over methods), and the scores besides by a
normal one with the items' share of the crossed model's covariance. A draw's front holds the methods that no other dominates. The share of
draws in which a method is on it is a confidence in the fiducial sense, not adjusted for looking at several methods.

A cost within `tolerance` of another counts as equal to it, as it does where compute is called matched: otherwise a front over a matched
budget would be decided by a thousandth of it.
"""
# Array axes: _S seeds, _M methods, _D draws.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.stats.clustered import FloatArray
from harness.stats.crossed import Moments

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Place:
    """One method's two means. The region is an ellipse that holds `level` of the draws; `radius` is in standard errors."""

    cost: float
    quality: float
    cost_se: float
    quality_se: float
    correlation: float
    radius: float
    on_front: bool
    """Of the two means as measured."""
    share_on_front: float
    """Share of the joint draws in which the method is on the front."""


def front(cost_M: FloatArray, quality_M: FloatArray, *, tolerance: float = 0.0) -> BoolArray:
    """Which methods no other dominates; leading axes are kept.

    One dominates another if it is better at a cost no more than `tolerance` above, or cheaper by more than that and no worse.
    """
    cost, quality = np.asarray(cost_M, dtype=np.float64), np.asarray(quality_M, dtype=np.float64)
    mine, theirs = cost[..., :, None], cost[..., None, :]
    better, equal = quality[..., None, :] > quality[..., :, None], quality[..., None, :] == quality[..., :, None]
    # On a margin of the dearer of the two, so that "equal" holds in both directions.
    margin = tolerance * np.maximum(mine, theirs)
    dominated = (better & (theirs <= mine + margin)) | (equal & (theirs < mine - margin))
    return np.asarray(~dominated.any(axis=-1))


def pareto(
    cost_S_M: FloatArray,
    quality_S_M: FloatArray,
    fitted: Moments,
    *,
    rng: np.random.Generator,
    tolerance: float = 0.02,
    level: float = 0.95,
    draws: int = 10_000,
) -> list[Place]:
    """Places of M methods with their joint uncertainty.

    Args:
        cost_S_M: cost of each training, in any unit, at least 0.
        quality_S_M: score of each training, paired with the costs.
        fitted: moments of the same scores by seed and item (`harness.stats.crossed.moments`), its columns the methods.
    Raises:
        SpecError: shapes differ, or a value is no finite number.
    """
    cost, quality = np.asarray(cost_S_M, dtype=np.float64), np.asarray(quality_S_M, dtype=np.float64)
    if cost.shape != quality.shape or cost.ndim != 2 or cost.shape[1] != len(fitted.mean_P):
        raise SpecError("expected costs and scores of one shape, seeds × methods", key="cost_S_M", value=(cost.shape, quality.shape))
    if not (np.isfinite(cost).all() and np.isfinite(quality).all()):
        raise SpecError("costs and scores must be finite", key="cost_S_M")
    cost_D_M, quality_D_M = _draws(cost, quality, fitted, draws, rng)
    cost_M, quality_M = cost.mean(axis=0), quality.mean(axis=0)
    here_M = front(cost_M, quality_M, tolerance=tolerance)
    share_M = front(cost_D_M, quality_D_M, tolerance=tolerance).mean(axis=0)
    found = []
    for method in range(cost.shape[1]):
        joint_2_D = np.stack([cost_D_M[:, method] - cost_M[method], quality_D_M[:, method] - quality_M[method]])
        se, correlation, radius = _region(joint_2_D, _seed_covariance(cost, quality, method) + _item_part(fitted, method), level)
        found.append(
            Place(float(cost_M[method]), float(quality_M[method]), *se, correlation, radius, bool(here_M[method]), float(share_M[method]))
        )
    return found


def _draws(
    cost_S_M: FloatArray, quality_S_M: FloatArray, fitted: Moments, draws: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    n_seeds, n_methods = cost_S_M.shape
    both = np.hstack([cost_S_M, quality_S_M])
    moved = np.zeros((draws, 2 * n_methods))
    if n_seeds > 1:
        scale = np.sqrt((n_seeds - 1) / rng.chisquare(n_seeds - 1, size=(draws, 1)))
        moved = scale * rng.standard_normal((draws, n_seeds)) @ (both - both.mean(axis=0)) / np.sqrt(n_seeds * (n_seeds - 1))
    moved[:, n_methods:] += rng.standard_normal((draws, n_methods)) @ _root(_items(fitted)).T
    drawn = both.mean(axis=0) + moved
    return np.maximum(drawn[:, :n_methods], 0.0), drawn[:, n_methods:]


def _items(fitted: Moments) -> FloatArray:
    """What items add to the seeds' covariance: the crossed model's item part without the residual, which the seeds' part holds already."""
    whole = fitted.item_K_P_P.sum(axis=0)
    return np.asarray(whole - fitted.residual_K_P_P.sum(axis=0) if fitted.n_seeds > 1 else whole)


def _root(covariance: FloatArray) -> FloatArray:
    """A matrix root; directions of negative variance, which the difference of two estimates can have, are dropped."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _item_part(fitted: Moments, method: int) -> FloatArray:
    root = _root(_items(fitted))
    return np.array([[0.0, 0.0], [0.0, float((root @ root.T)[method, method])]])


def _seed_covariance(cost_S_M: FloatArray, quality_S_M: FloatArray, method: int) -> FloatArray:
    if len(cost_S_M) < 2:
        return np.zeros((2, 2))
    return np.asarray(np.cov(np.stack([cost_S_M[:, method], quality_S_M[:, method]])) / len(cost_S_M))


def _region(joint_2_D: FloatArray, covariance: FloatArray, level: float) -> tuple[tuple[float, float], float, float]:
    """Standard errors, their correlation, and how many of them away `level` of the draws lie (Mahalanobis)."""
    # What is left of a difference that is nothing but rounding.
    tiny = 1e-12 * max(float(np.abs(joint_2_D).max()), 1e-300)
    se = np.sqrt(np.diag(covariance))
    known = se > tiny
    unit = joint_2_D[known] / se[known, None]
    if not known.all():
        distance_D = np.abs(unit).sum(axis=0) if known.any() else np.zeros(joint_2_D.shape[1])
        correlation = 0.0
    else:
        correlation = float(np.clip(covariance[0, 1] / (se[0] * se[1]), -0.999, 0.999))
        squared = unit[0] ** 2 - 2 * correlation * unit[0] * unit[1] + unit[1] ** 2
        distance_D = np.sqrt(np.maximum(squared, 0.0) / (1 - correlation**2))
    return (float(se[0]), float(se[1])), correlation, float(np.quantile(distance_D, level))
