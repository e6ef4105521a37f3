"""Stub executor and reviewers: operations accepted at stated rates, so that what a policy should learn is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from harness.core.records import Demonstration, Instruction
from harness.seeds import generator
from selfteach.operations import OPERATIONS
from selfteach.roles import Answer, Floats, Outcome, Review

LOW, HIGH = 0.60, 0.95


def _spread(best: int) -> dict[str, float]:
    """Evenly spread rates, `best` (the first or the last operation) the highest."""
    rates = np.linspace(HIGH, LOW, len(OPERATIONS))
    return dict(zip(OPERATIONS, rates if best == 0 else rates[::-1], strict=True))


PROFILES: Mapping[str, Mapping[str, float]] = {
    "breadth best": _spread(0),
    "flat": dict.fromkeys(OPERATIONS, (LOW + HIGH) / 2),
    "breadth worst": _spread(len(OPERATIONS) - 1),
}
"""Acceptance rates by operation: evenly spread from .95 to .60 in the order of OPERATIONS, all equal, and evenly spread upwards."""

ONE_BEST: Mapping[str, Mapping[str, float]] = {
    "breadth best": {name: HIGH if name == OPERATIONS[0] else LOW for name in OPERATIONS},
    "flat": PROFILES["flat"],
    "breadth worst": {name: HIGH if name == OPERATIONS[-1] else LOW for name in OPERATIONS},
}
"""The same with one operation at .95 and the others at .60."""


class StubExecutor:
    """A child says which operation made it, after a random number; it never fails, and no elimination rule has anything against it."""

    def apply_batch(self, instructions: Sequence[Instruction], operations: Sequence[str], *, rng: np.random.Generator) -> list[Outcome]:
        """A child for every instruction."""
        return [
            Outcome(
                replace(
                    parent,
                    text=f"{parent.body} Number {rng.integers(10**12)}, by {operation}.",
                    parent_id=parent.id,
                    operation=operation,
                    step=parent.step + 1,
                )
            )
            for parent, operation in zip(instructions, operations, strict=True)
        ]


@dataclass(frozen=True)
class StubReviewer:
    """Answers "Not Equal" to a child with the probability of its operation in `acceptance`."""

    acceptance: Mapping[str, float]

    def review(self, pairs: Sequence[tuple[Instruction, Instruction]], *, rng: np.random.Generator) -> list[Review]:
        """A judgement for each pair, whatever the texts say."""
        accepted = rng.random(len(pairs)) < [self.acceptance[child.operation] for _, child in pairs]
        return [Review(bool(gain), "Not Equal" if gain else "Equal") for gain in accepted]


class StubEncoder:
    """Embeds a text as the bag of its words, each a fixed random direction; unit norm."""

    size = 64

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embeddings (N, 64)."""
        rows = [np.sum([_direction(word) for word in text.split()], axis=0) for text in texts]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


@lru_cache(maxsize=10_000)
def _direction(word: str) -> npt.NDArray[np.float64]:
    return generator("selfteach", "stub-word", word).normal(size=StubEncoder.size)


def stub_seeds(n: int = 8) -> list[Demonstration]:
    """Seeds with nothing to say; that a generator backs them spares their children the comparison of wordings."""
    return [
        Demonstration(
            Instruction(f"stub-{index}", "stub", "stub", body=f"Request {index}.", text=f"Request {index}.", payload={"generator": "stub"}),
            "Done.",
        )
        for index in range(n)
    ]


class StubAnswerer:
    """Solves everything half of the time."""

    def answer(
        self, instructions: Sequence[Instruction], *, embeddings_N_D: Floats, max_flops: float, rng: np.random.Generator
    ) -> list[Answer | None]:
        """Two of four samples pass, for nothing."""
        return [Answer(4, 2, "Done.") for _ in instructions]

    def remember(self, instruction: Instruction, response: str, embedding: Floats) -> None:
        """Needs no examples."""
