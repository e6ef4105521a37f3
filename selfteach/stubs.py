"""Stub executor and reviewers: operations accepted at stated rates, so that what a policy should learn is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.core.records import Constraint, Demonstration, Instruction
from selfteach.operations import OPERATIONS
from selfteach.roles import Outcome, Review

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
    """A child says which operation made it and how many came before; its text does not grow."""

    def apply_batch(self, instructions: Sequence[Instruction], operations: Sequence[str], *, rng: np.random.Generator) -> list[Outcome]:
        """A child for every instruction; never fails."""
        return [
            Outcome(
                replace(
                    parent,
                    text=f"{parent.body} {operation} {parent.step + 1}",
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


def stub_seeds(n: int = 8) -> list[Demonstration]:
    """Seeds with nothing to say."""
    return [
        Demonstration(
            Instruction(f"stub-{index}", "stub", "stub", body=f"Request {index}.", text=f"Request {index}.", constraints=(Constraint("no_commas"),)),
            "Done.",
        )
        for index in range(n)
    ]
