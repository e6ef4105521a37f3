"""The roles of the self-teaching system and what passes between them (docs/method-card.md: instructor, executor, reviewer, responder).

The instructor is a policy (selfteach.policy). Who plays the others is a matter of the study: rules, the student's frozen starting
checkpoint, or an external expert, whose every call is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from harness.core.records import Completion, Instruction, Message

Floats = npt.NDArray[np.float32]
VerifiedBy = Literal["rule", "consistency"]


@dataclass(frozen=True)
class Outcome:
    """What an executor made of an operation: an instruction, or the reason why there is none.

    `reply` is what a language model wrote, word for word, and "" where rules did the work: refusals and leaks are looked for in it.
    """

    instruction: Instruction | None
    reason: str | None = None
    reply: str = ""


@dataclass(frozen=True)
class Answer:
    """What became of one instruction: `passed` of `samples` responses were accepted; one of them, or None.

    Accepted means verified by rule (then the shortest is given), or (`verified_by` "consistency") agreeing with the largest group of equal
    answers (then its medoid). `rejected` counts the others by reason.
    """

    samples: int
    passed: int
    response: str | None
    verified_by: VerifiedBy = "rule"
    rejected: dict[str, int] = field(default_factory=dict)

    @property
    def pass_rate(self) -> float:
        """Share of the samples that were accepted."""
        return self.passed / self.samples

    @property
    def learnability(self) -> float:
        """4p(1−p): 1 where the student succeeds half the time, 0 where it always or never does."""
        return 4 * self.pass_rate * (1 - self.pass_rate)


@dataclass(frozen=True)
class Review:
    """A reviewer's judgement of a child against its parent: whether it says something else, and the reviewer's own words."""

    gain: bool
    reply: str = ""


class Executor(Protocol):
    """Carries out textual operations."""

    def apply_batch(self, instructions: Sequence[Instruction], operations: Sequence[str], *, rng: np.random.Generator) -> list[Outcome]:
        """Applies an operation to each instruction, in order.

        Raises:
            BudgetExceeded: the batch was not affordable; nothing was made.
        """
        ...


class Reviewer(Protocol):
    """Judges whether an evolved instruction says something that its parent does not."""

    def review(self, pairs: Sequence[tuple[Instruction, Instruction]], *, rng: np.random.Generator) -> list[Review]:
        """A judgement for each (parent, child), in order.

        Raises:
            BudgetExceeded: the batch was not affordable.
        """
        ...


class Answerer(Protocol):
    """The responder, and the verification of what it writes."""

    def answer(
        self, instructions: Sequence[Instruction], *, embeddings_N_D: Floats, max_flops: float, rng: np.random.Generator
    ) -> list[Answer | None]:
        """Answers in order; None where compute was short.

        Args:
            embeddings_N_D: of the instructions' texts, unit norm.
        """
        ...

    def remember(self, instruction: Instruction, response: str, embedding: Floats) -> None:
        """Adds a verified answer to what later answers may be shown as examples."""
        ...


class TextEncoder(Protocol):
    """harness.models.embed.Embedder."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embeddings (N, D) of norm 1."""
        ...


class TextModel(Protocol):
    """A chat model in some role: the frozen student, another local model, or an endpoint."""

    name: str

    def complete(
        self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[Completion]]:
        """`n` replies to each conversation, in order.

        A reply that could not be had (an endpoint that failed for good) is an empty, unfinished completion: a failed sample is data.

        Raises:
            BudgetExceeded: the ledger refused.
        """
        ...
