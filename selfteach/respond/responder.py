"""The responder that is a local model: k samples from the student as it was loaded, within a bound on compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Demonstration, Instruction, Message
from harness.errors import BudgetExceeded
from harness.instructions.shots import user_turn
from harness.models.bound import generation_bound
from harness.models.generation import BoundedPrefixCaches
from harness.models.student import Student
from selfteach.respond.config import ResponderConfig
from selfteach.respond.judge import Judge
from selfteach.respond.shots import Examples
from selfteach.roles import Answer, Floats

PREFIX_TOKENS = 8_192
"""Tokens of prefixes whose keys and values are kept between calls (SmolLM2-135M in bf16: 190 MB)."""


@dataclass(frozen=True)
class Batch:
    """Instructions with one length limit, the few-shot turns before each, and their places in the caller's order."""

    max_new_tokens: int
    prefixes: list[list[Message]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)

    @property
    def conversations(self) -> list[list[Message]]:
        """The instructions as conversations, without what stands before them."""
        return [[user_turn(instruction)] for instruction in self.instructions]


def batches(examples: Examples, instructions: Sequence[Instruction], embeddings_N_D: Floats | None) -> list[Batch]:
    """The instructions by length limit, limits in order of appearance."""
    by_limit: dict[int, Batch] = {}
    for place, (instruction, prefix) in enumerate(zip(instructions, examples.turns(instructions, embeddings_N_D), strict=True)):
        limit = examples.config.max_new_tokens(instruction)
        batch = by_limit.setdefault(limit, Batch(limit))
        batch.prefixes.append(prefix)
        batch.places.append(place)
        batch.instructions.append(instruction)
    return list(by_limit.values())


class Responder:
    """Answers instructions with `student` as it is; verifications are counted by the pool, compute by the ledger.

    Args:
        student: the model being taught, or another local one as an expert; its weights must not change between calls.
        seed_embeddings_N_D: of the seeds' texts, unit norm; needed for the context "nearest".
        rng: draws the examples of the context "fixed"; needed for it.
    """

    def __init__(
        self,
        student: Student,
        pool: TaskPool,
        ledger: Ledger,
        seeds: Sequence[Demonstration],
        *,
        config: ResponderConfig,
        seed_embeddings_N_D: Floats | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.student, self.ledger, self.config = student, ledger, config
        self.examples = Examples(seeds, config=config, seed_embeddings_N_D=seed_embeddings_N_D, rng=rng)
        self._judge = Judge(pool, config)
        self._used_share = 1.0
        self._prefix_caches = BoundedPrefixCaches(PREFIX_TOKENS)

    def remember(self, instruction: Instruction, response: str, embedding: Floats) -> None:
        """Adds a verified answer to what later answers may be shown as examples."""
        self.examples.remember(instruction, response, embedding)

    def answer(
        self,
        instructions: Sequence[Instruction],
        *,
        embeddings_N_D: Floats | None = None,
        max_flops: float,
        rng: np.random.Generator,
    ) -> list[Answer | None]:
        """Answers as many instructions as `max_flops` pay for, in one batch per length limit.

        A batch is begun when its expected cost (its upper bound times the share of the bounds that batches so far came to) fits.

        Args:
            embeddings_N_D: of the instructions' texts, unit norm; only the context "nearest" needs them.
        Returns:
            In order, an answer each; None where compute was short.
        """
        answers: list[Answer | None] = [None] * len(instructions)
        for batch in batches(self.examples, instructions, embeddings_N_D):
            seed = int(rng.integers(2**31))
            bound = self._bound_flops(batch)
            if bound * self._used_share > max_flops:
                continue
            before = self._spent()
            try:
                with self.ledger.use_phase("generate"), self.student.as_loaded():
                    replies = self.student.generate(
                        batch.conversations,
                        max_new_tokens=batch.max_new_tokens,
                        temperature=self.config.temperature,
                        n=self.config.samples,
                        seed=seed,
                        prefixes=batch.prefixes,
                        prefix_caches=self._prefix_caches,
                    )
            except BudgetExceeded:
                break
            cost = self._spent() - before
            max_flops -= cost
            if bound > 0:
                self._used_share = (self._used_share + cost / bound) / 2
            with self.ledger.use_phase("review"):
                for place, instruction, prefix, completions in zip(batch.places, batch.instructions, batch.prefixes, replies, strict=True):
                    answers[place] = self._judge.judge(instruction, completions, prefix)
        return answers

    def bound_flops(self, instructions: Sequence[Instruction], embeddings_N_D: Floats | None = None) -> float:
        """The most that answering these instructions in one call can cost now; 0 when the student is not metered.

        Args:
            embeddings_N_D: as for `answer`; not needed for seeds.
        """
        return sum(self._bound_flops(batch) for batch in batches(self.examples, instructions, embeddings_N_D))

    def _bound_flops(self, batch: Batch) -> float:
        return generation_bound(
            self.student,
            batch.conversations,
            prefixes=batch.prefixes,
            prefix_caches=self._prefix_caches,
            n=self.config.samples,
            max_new_tokens=batch.max_new_tokens,
        )

    def _spent(self) -> float:
        return self.ledger.spent(self.ledger.account)
