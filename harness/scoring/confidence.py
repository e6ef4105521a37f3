"""How sure a model was of its choice: rows beside a multiple-choice sample's own metrics, from which calibration is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

CONFIDENCE, BRIER = "confidence", "brier"


def choice_confidence(sample: Mapping[str, Any]) -> dict[str, float]:
    """`confidence`: probability of the likeliest choice; `brier`: sum over choices of (probability − [right])², 0 to 2.

    Probabilities are the softmax of the choices' log-likelihoods, so they speak of the choice that "acc" scores. Samples that are no such
    choice (no "acc", one choice, no gold) yield nothing.
    """
    logprobs = [responses[0][0] for responses in sample["resps"]] if "acc" in sample["metrics"] else []
    gold = _gold(sample)
    if len(logprobs) < 2 or gold is None or len(logprobs) != len(sample["arguments"]) or not all(map(math.isfinite, logprobs)):
        return {}
    top = max(logprobs)
    weights = [math.exp(logprob - top) for logprob in logprobs]
    shares = [weight / sum(weights) for weight in weights]
    return {CONFIDENCE: max(shares), BRIER: sum((share - (at == gold)) ** 2 for at, share in enumerate(shares))}


def _gold(sample: Mapping[str, Any]) -> int | None:
    target = sample["target"]
    if isinstance(target, str):
        texts = [arguments[1].strip() for arguments in sample["arguments"]]
        target = texts.index(target.strip()) if texts.count(target.strip()) == 1 else int(target) if target.isdigit() else None
    return target if isinstance(target, int) and 0 <= target < len(sample["arguments"]) else None
