"""Confidence and Brier score of a choice."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.scoring.confidence import choice_confidence


def sample(logprobs: list[float], target: object, metrics: tuple[str, ...] = ("acc",)) -> dict[str, Any]:
    return {
        "resps": [[(value, False)] for value in logprobs],
        "arguments": [("Q", f" {letter}") for letter in "ABCDEF"[: len(logprobs)]],
        "target": target,
        "metrics": list(metrics),
    }


def test_probabilities_are_the_softmax_of_log_likelihoods() -> None:
    logprobs = [math.log(0.1) - 300, math.log(0.6) - 300, math.log(0.3) - 300]
    found = choice_confidence(sample(logprobs, 1))
    assert found["confidence"] == pytest.approx(0.6)
    assert found["brier"] == pytest.approx(0.1**2 + 0.4**2 + 0.3**2)


def test_sure_and_right_is_best_and_sure_and_wrong_is_worst() -> None:
    assert choice_confidence(sample([0.0, -900.0], 0))["brier"] == pytest.approx(0)
    assert choice_confidence(sample([0.0, -900.0], 1))["brier"] == pytest.approx(2)


@pytest.mark.parametrize("target", ["B", "1", 1])
def test_the_gold_choice_may_be_a_letter_or_a_number(target: object) -> None:
    assert choice_confidence(sample([-1.0, -2.0], target)) == choice_confidence(sample([-1.0, -2.0], 1))


@pytest.mark.parametrize(
    "odd", [sample([-1.0], 0), sample([-1.0, -2.0], 5), sample([-1.0, -2.0], "Z"), sample([-1.0, -math.inf], 0),
            sample([-1.0, -2.0], 0, ("pct_stereotype",))]
)  # fmt: skip
def test_what_is_no_choice_has_no_confidence(odd: dict[str, Any]) -> None:
    assert choice_confidence(odd) == {}
