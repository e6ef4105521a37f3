"""Adjusted p values: Holm for pre-registered claims, Benjamini–Hochberg for exploration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.errors import SpecError


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values (family-wise error), in the order given."""
    p, order = _sorted(p_values)
    adjusted = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    return _restored(adjusted, order)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini–Hochberg adjusted p values (false discovery rate), in the order given."""
    p, order = _sorted(p_values)
    adjusted = np.minimum.accumulate((p[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    return _restored(adjusted, order)


def _sorted(p_values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise SpecError("p values must lie in 0..1", key="p_values", value=list(p_values))
    return p, np.argsort(p, kind="stable")


def _restored(adjusted: np.ndarray, order: np.ndarray) -> list[float]:
    result = np.empty(len(adjusted))
    result[order] = np.minimum(adjusted, 1.0)
    return [float(value) for value in result]
