"""Simulated human annotators of response pairs.

After AlpacaFarm (Dubois et al., arXiv 2305.14387): a pool of annotators who value different things, a randomly chosen one judges each
pair, and labels are noisy: with a flip probability of 0.25 two annotators of one mind agree in 62.5 % of cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core.records import Instruction, Preference
from harness.instructions.texts import pick, words
from harness.instructions.verify import verify

Criterion = Literal["correctness", "brevity", "cleanliness", "relevance"]
_GLYPHS = re.compile(r"[#*_~`|]{3,}|<\|?[a-z_]+\|?>|(.)\1{5,}|\ufffd")
EVEN = 1e-9
"""Responses whose worth differs by no more are equally good."""
_LONG_WORDS = 80
"""A response of this many words or more has no brevity left."""


class AnnotatorProfile(BaseModel):
    """One annotator: how much each criterion weighs in a judgement."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    weights: dict[Criterion, float]

    @field_validator("weights")
    @classmethod
    def _some_weight(cls, weights: dict[Criterion, float]) -> dict[Criterion, float]:
        if min(weights.values(), default=0) < 0 or sum(weights.values()) <= 0:
            raise ValueError("weights must not be negative and one must be above 0")
        return weights


_PROFILES = (
    AnnotatorProfile(name="examiner", weights={"correctness": 1.0, "cleanliness": 0.1}),
    AnnotatorProfile(name="hurried", weights={"correctness": 0.6, "brevity": 0.4}),
    AnnotatorProfile(name="editor", weights={"correctness": 0.5, "cleanliness": 0.3, "relevance": 0.2}),
    AnnotatorProfile(name="reader", weights={"correctness": 0.4, "relevance": 0.5, "brevity": 0.1}),
)


class AnnotatorsConfig(BaseModel):
    """Who annotates, and how noisily. What a comparison costs stands in the study's `prices`, where all prices stand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profiles: tuple[AnnotatorProfile, ...] = Field(default=_PROFILES, min_length=1)
    flip_probability: float = Field(default=0.25, ge=0, le=0.5)

    @model_validator(mode="before")
    @classmethod
    def _prices_stand_elsewhere(cls, settings: Any) -> Any:
        for key, price in (("usd_per_comparison", "comparison_usd"), ("seconds_per_comparison", "comparison_s")):
            if isinstance(settings, dict) and key in settings:
                raise ValueError(f"{key}: what a comparison costs and takes is set once, as prices.{price} of the study")
        return settings

    @field_validator("profiles")
    @classmethod
    def _names_differ(cls, profiles: tuple[AnnotatorProfile, ...]) -> tuple[AnnotatorProfile, ...]:
        if len({profile.name for profile in profiles}) < len(profiles):
            raise ValueError("each annotator needs a name of its own")
        return profiles


def correctness(instruction: Instruction, response: str) -> float:
    """Share of checkable parts met, in [0, 1]."""
    return verify(instruction, response).share


def brevity(instruction: Instruction, response: str) -> float:
    """1 for an empty response, falling to 0 at 80 words."""
    return max(0.0, 1 - len(words(response)) / _LONG_WORDS)


def cleanliness(instruction: Instruction, response: str) -> float:
    """1 less half each for stray marks or markup and for a line said twice; 0 for an empty response."""
    if not response.strip():
        return 0.0
    said = [line.strip() for line in response.splitlines() if line.strip()]
    return 1 - 0.5 * bool(_GLYPHS.search(response)) - 0.5 * (len(set(said)) < len(said))


def relevance(instruction: Instruction, response: str) -> float:
    """Share of the request's longer words that the response takes up, up to a third of them: more is parroting."""
    asked = {word.casefold() for word in words(instruction.body) if len(word) > 3}
    said = {word.casefold() for word in words(response)}
    return min(1.0, 3 * len(asked & said) / len(asked)) if asked else 0.0


_CRITERIA: dict[Criterion, Callable[[Instruction, str], float]] = {
    "correctness": correctness,
    "brevity": brevity,
    "cleanliness": cleanliness,
    "relevance": relevance,
}
assert set(_CRITERIA) == set(get_args(Criterion))


def value(profile: AnnotatorProfile, instruction: Instruction, response: str) -> float:
    """What a response is worth to an annotator: the weighted mean of the criteria, in [0, 1]."""
    total = sum(weight * _CRITERIA[name](instruction, response) for name, weight in profile.weights.items())
    return total / sum(profile.weights.values())


class Annotators:
    """The pool: each comparison goes to one annotator, whose verdict is flipped with the noise's probability."""

    def __init__(self, config: AnnotatorsConfig) -> None:
        self.config = config

    def prefers_first(
        self, profile: AnnotatorProfile, instruction: Instruction, first: str, second: str, *, rng: np.random.Generator
    ) -> bool:
        """One noisy judgement; equal worth is decided by a coin."""
        gain = value(profile, instruction, first) - value(profile, instruction, second)
        verdict = gain > 0 if abs(gain) > EVEN else bool(rng.random() < 0.5)
        flipped = bool(rng.random() < self.config.flip_probability)
        return verdict != flipped

    def label(self, instruction: Instruction, first: str, second: str, *, rng: np.random.Generator) -> Preference:
        """Labels a pair by a random annotator."""
        profile = pick(rng, self.config.profiles)
        wins = self.prefers_first(profile, instruction, first, second, rng=rng)
        chosen, rejected = (first, second) if wins else (second, first)
        return Preference(instruction, chosen, rejected, profile.name)

    def votes(
        self, pairs: Sequence[tuple[Instruction, str, str]], *, rng: np.random.Generator
    ) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """Every annotator's judgement of every pair: votes (A, N), True where the first response wins."""
        return np.array([[self.prefers_first(profile, *pair, rng=rng) for pair in pairs] for profile in self.config.profiles])

    def gains(self, pairs: Sequence[tuple[Instruction, str, str]]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """What the first response is worth more than the second, to every annotator and without noise: gains (A, N) in [-1, 1]."""
        worth = [
            [value(profile, one, first) - value(profile, one, second) for one, first, second in pairs] for profile in self.config.profiles
        ]
        return np.array(worth).reshape(len(self.config.profiles), len(pairs))
