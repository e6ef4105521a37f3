"""The responder that is an external expert: any `TextModel`, an endpoint as well as a local model, which counts its own calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Demonstration, Instruction
from harness.errors import BudgetExceeded
from selfteach.respond.config import ResponderConfig
from selfteach.respond.judge import Judge
from selfteach.respond.responder import Batch, batches
from selfteach.respond.shots import Examples
from selfteach.roles import Answer, Floats, TextModel


class ExpertResponder:
    """Answers instructions with an expert; examples stand before an instruction as chat turns.

    Args:
        seed_embeddings_N_D: of the seeds' texts, unit norm; needed for the context "nearest".
        rng: draws the examples of the context "fixed"; needed for it.
    """

    def __init__(
        self,
        model: TextModel,
        pool: TaskPool,
        ledger: Ledger,
        seeds: Sequence[Demonstration],
        *,
        config: ResponderConfig,
        seed_embeddings_N_D: Floats | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.model, self.ledger, self.config = model, ledger, config
        self.examples = Examples(seeds, config=config, seed_embeddings_N_D=seed_embeddings_N_D, rng=rng)
        self._judge = Judge(pool, config)
        self._prices: dict[int, float] = {}

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
        """Answers as many instructions as `max_flops` are expected to pay for.

        What an instruction costs is learnt from the ledger, per length limit: the first of a limit is asked alone, and may cost more than
        `max_flops`; the ledger's own budget is never exceeded. An expert that charges nothing (an endpoint) is asked for all the rest at
        once.

        Args:
            embeddings_N_D: of the instructions' texts, unit norm; only the context "nearest" needs them.
        Returns:
            In order, an answer each; None where compute was short.
        """
        answers: list[Answer | None] = [None] * len(instructions)
        for batch in batches(self.examples, instructions, embeddings_N_D):
            seed = int(rng.integers(2**31))
            done = 0
            while done < len(batch.places) and (size := self._affordable(batch, done, max_flops)):
                before = self._spent()
                try:
                    found = self._asked(batch, done, size, seed + done)
                except BudgetExceeded:
                    return answers
                cost = self._spent() - before
                max_flops -= cost
                known = self._prices.get(batch.max_new_tokens)
                self._prices[batch.max_new_tokens] = cost / size if known is None else (known + cost / size) / 2
                for place, answer in zip(batch.places[done : done + size], found, strict=True):
                    answers[place] = answer
                done += size
        return answers

    def _affordable(self, batch: Batch, done: int, max_flops: float) -> int:
        """How many of the batch's remaining instructions to ask next."""
        if max_flops <= 0:
            return 0
        price, left = self._prices.get(batch.max_new_tokens), len(batch.places) - done
        if price is None:
            return 1
        return left if price == 0 else min(left, int(max_flops / price))

    def _asked(self, batch: Batch, done: int, size: int, seed: int) -> list[Answer]:
        part = slice(done, done + size)
        asked = [[*prefix, *turns] for prefix, turns in zip(batch.prefixes[part], batch.conversations[part], strict=True)]
        with self.ledger.use_phase("generate"):
            replies = self.model.complete(
                asked, max_new_tokens=batch.max_new_tokens, temperature=self.config.temperature, seed=seed, n=self.config.samples
            )
        assert len(replies) == size, (len(replies), size)
        with self.ledger.use_phase("review"):
            rows = zip(batch.instructions[part], replies, batch.prefixes[part], strict=True)
            return [self._judge.judge(instruction, completions, prefix) for instruction, completions, prefix in rows]

    def _spent(self) -> float:
        return self.ledger.spent(self.ledger.account)
