"""Scores as numbers: what counts as one, and which metrics are better when lower."""

from __future__ import annotations

import math
import re
from typing import Any

from harness.compare.cells import shown
from harness.errors import SpecError

LOWER_IS_BETTER = frozenset(
    {
        "perplexity",
        "ppl",
        "bpb",
        "loss",
        "nll",
        "ter",
        "wer",
        "cer",
        "brier",
        "mae",
        "mse",
        "rmse",
        "ece",
        "error",
        "errors",
        "cost",
        "latency",
    }
)
"""Words in names of metrics that are better when lower: lm-eval's own (perplexities, ter, brier_score) and usual errors."""
_WORDS = {"c": 1.0, "i": 0.0, "p": 0.5, "n": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}


def lower_is_better(metric: str) -> bool:
    """Whether the metric's name says that less is better: "word_perplexity", "bits_per_byte", "ter,none"."""
    name = metric.lower()
    return "bits_per_byte" in name or not LOWER_IS_BETTER.isdisjoint(re.split(r"[^a-z0-9]+", name))


def number(value: Any, where: object, key: str) -> float:
    """A score as a float; null is NaN (no score), true and false are 1 and 0.

    Raises:
        SpecError: it is text, a container, NaN or infinite.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool | int | float):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if math.isfinite(found):
            return found
    raise SpecError("expected a finite number, true, false or null (no score)", file=where, key=key, value=shown(value))


def word_or_number(value: Any, where: object, key: str) -> float:
    """As `number`, and Inspect's words: C and I (right, wrong), P (partial, 0.5), N (no answer, 0), yes/no, true/false, digits.

    Differs from Inspect in that a word of no known value is refused, not taken for 0.
    """
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
        try:
            value = float(word)
        except ValueError:
            raise SpecError("expected a number or C, I, P, N, yes, no, true, false", file=where, key=key, value=shown(value)) from None
    return number(value, where, key)
