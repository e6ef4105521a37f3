"""Student's t, central and not, from scipy.special: importing scipy.stats takes three times as long, which `compare` would feel."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]
_INFINITE_DF = 1e9
"""From here on t is taken as normal, which scipy's functions do not do by themselves."""
_NORMAL_DF = 1e6
"""From here on scipy's noncentral t is slow and the normal distribution as good."""


def t_tail(distance: npt.ArrayLike, se: npt.ArrayLike, df: npt.ArrayLike) -> FloatArray:
    """Chance that a t variable of scale `se` exceeds `distance`; 0 or 1 where nothing varies."""
    distance, se = np.asarray(distance, dtype=np.float64), np.asarray(se, dtype=np.float64)
    below = special.stdtr(_capped(df), -distance / np.where(se > 0, se, 1.0))
    return np.asarray(np.where(se > 0, below, distance <= 0))


def t_quantile(probability: float, df: npt.ArrayLike) -> FloatArray:
    """Quantile of Student's t; of the normal distribution for infinite `df`."""
    capped = _capped(df)
    return np.asarray(np.where(np.isinf(capped), special.ndtri(probability), special.stdtrit(capped, probability)))


def t_power(noncentrality: float, df: float, *, alpha: float) -> float:
    """Chance that a two-sided level-`alpha` t test finds a mean `noncentrality` SEs away from its null, in its own direction."""
    if df > _NORMAL_DF:
        return float(special.ndtr(noncentrality - special.ndtri(1 - alpha / 2)))
    return float(1 - special.nctdtr(df, noncentrality, t_quantile(1 - alpha / 2, df)))


def t_noncentrality(power: float, df: float, *, alpha: float) -> float:
    """SEs that a mean must lie above its null for the t test of `t_power` to find it with chance `power` (above alpha / 2)."""
    if df > _NORMAL_DF:
        return float(special.ndtri(1 - alpha / 2) + special.ndtri(power))
    found = float(special.nctdtrinc(df, 1 - power, t_quantile(1 - alpha / 2, df)))
    assert math.isfinite(found), (power, df, alpha)
    return found


def _capped(df: npt.ArrayLike) -> FloatArray:
    df = np.asarray(df, dtype=np.float64)
    return np.where(df >= _INFINITE_DF, np.inf, df)
