"""The response step: k samples from the frozen responder, prompted few-shot from the seeds, verified by rule.

One verified response per instruction is kept. Few-shot turns are seeds of the same puzzle family or with the same kinds of constraint:
zero-shot a small student hardly ever answers in a checkable form. Measured on a 135M student: two shots of the own family served about as
well as four, and better than one of every family; with one constraint, .19 pass zero-shot, .24 after any two shots, .38 after a matching
one (.65 where the seeds have one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Completion, Demonstration, Instruction, Message
from harness.errors import BudgetExceeded
from harness.models.generation import PrefixCaches
from harness.models.student import Student
from selfteach.roles import Answer, Floats


class ResponderConfig(BaseModel):
    """How instructions are answered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int = Field(default=4, ge=1)
    """k: responses sampled per instruction; the pass rate has this resolution."""
    temperature: float = Field(default=0.7, gt=0)
    shots: int = Field(default=2, ge=0)
    """Seed demonstrations shown before the instruction."""
    reasoning_tokens: int = Field(default=24, ge=1)
    """Longest response to a generator-backed instruction."""
    instruction_tokens: int = Field(default=64, ge=1)
    """Longest response to any other instruction."""


class Responder:
    """Answers instructions with `student` as it is; verifications are counted by the pool, compute by the ledger."""

    def __init__(
        self, student: Student, pool: TaskPool, ledger: Ledger, seeds: Sequence[Demonstration], *, config: ResponderConfig
    ) -> None:
        self.student, self.pool, self.ledger, self.config = student, pool, ledger, config
        self._seeds = sorted(seeds, key=lambda seed: (len(seed.instruction.text) + len(seed.response), seed.instruction.id))
        self._used_share = 1.0
        self._prefix_caches: PrefixCaches = {}

    def shots(self, instruction: Instruction) -> list[Demonstration]:
        """The few-shot examples: seeds that together have the instruction's puzzle family and kinds of constraint.

        Greedy: each next one shows most of what none before it showed, with the least besides; equals by length, shortest first. Then seeds
        that show all of it. Where no seed shows anything, the shortest of the pool.
        """
        wanted = traits(instruction)
        useful = [seed for seed in self._seeds if traits(seed.instruction) & wanted]
        chosen: list[Demonstration] = []
        missing = wanted
        while useful and len(chosen) < self.config.shots:
            best = min(useful, key=lambda seed: (-len(traits(seed.instruction) & missing), len(traits(seed.instruction) - wanted)))
            if not traits(best.instruction) & missing and not wanted <= traits(best.instruction):
                break
            chosen.append(best)
            useful.remove(best)
            missing = missing - traits(best.instruction)
        return chosen or [seed for seed in self._seeds if seed.instruction.pool == instruction.pool][: self.config.shots]

    def remember(self, instruction: Instruction, response: str, embedding: Floats) -> None:
        """Examples are the seeds alone."""

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

        Returns:
            In order, an answer each; None where compute was short.
        """
        answers: list[Answer | None] = [None] * len(instructions)
        for batch in self._batches(instructions):
            seed = int(rng.integers(2**31))
            bound = self._bound_flops(batch)
            if bound * self._used_share > max_flops:
                continue
            before = self._spent()
            try:
                with self.ledger.use_phase("generate"), self.student.as_loaded():
                    replies = self.student.generate(
                        [[_user(instruction)] for instruction in batch.instructions],
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
                for index, instruction, completions in zip(batch.indices, batch.instructions, replies, strict=True):
                    answers[index] = self._judge(instruction, completions)
        return answers

    def bound_flops(self, instructions: Sequence[Instruction]) -> float:
        """The most that answering these instructions in one call can cost; 0 when the student is not metered."""
        return sum(self._bound_flops(batch) for batch in self._batches(instructions))

    def _judge(self, instruction: Instruction, completions: Sequence[Completion]) -> Answer:
        # A reply cut off by the limit would teach the student not to end: it counts as failed.
        texts = [completion.text.strip() for completion in completions if completion.finished]
        passed = [text for text in texts if text and self.pool.verify(instruction, text).passed]
        return Answer(len(completions), len(passed), min(passed, key=lambda text: (len(text), text), default=None))

    def _batches(self, instructions: Sequence[Instruction]) -> list[_Batch]:
        batches: dict[int, _Batch] = {}
        for index, instruction in enumerate(instructions):
            limit = self.config.reasoning_tokens if "generator" in instruction.payload else self.config.instruction_tokens
            batch = batches.setdefault(limit, _Batch(limit, [], [], []))
            batch.prefixes.append([turn for shot in self.shots(instruction) for turn in demonstration_turns(shot)])
            batch.indices.append(index)
            batch.instructions.append(instruction)
        return list(batches.values())

    def _bound_flops(self, batch: _Batch) -> float:
        meter = self.student.meter
        if meter is None:
            return 0.0
        n_prompts, rows = len(batch.instructions), len(batch.instructions) * self.config.samples
        shared = {
            tuple(self.student.encode(self.student.render(prefix, add_generation_prompt=False))) for prefix in batch.prefixes if prefix
        }
        longest = max((len(prefix) for prefix in shared), default=0)
        width = max(len(self.student.encode(self.student.render([_user(instruction)]))) for instruction in batch.instructions)
        cost = sum(meter.body_flops(1, len(prefix)) + meter.head_flops(1) for prefix in shared if prefix not in self._prefix_caches)
        # A prompt is computed once for its samples, but for its last token.
        cost += meter.body_flops(n_prompts, width, past_tokens=longest) + meter.head_flops(n_prompts)
        last = longest + width + batch.max_new_tokens
        return cost + batch.max_new_tokens * (meter.body_flops(rows, 1, past_tokens=last) + meter.head_flops(rows))

    def _spent(self) -> float:
        return self.ledger.spent(self.ledger.account)


@dataclass(frozen=True)
class _Batch:
    """Instructions with one length limit, the few-shot turns before each, and their places in the caller's order."""

    max_new_tokens: int
    prefixes: list[list[Message]]
    indices: list[int]
    instructions: list[Instruction]


def _user(instruction: Instruction) -> Message:
    return {"role": "user", "content": instruction.text}


def traits(instruction: Instruction) -> frozenset[str]:
    """What an example has to show: the puzzle family of a generator-backed instruction, and every kind of constraint."""
    kinds = {f"constraint {constraint.kind}" for constraint in instruction.constraints}
    return frozenset(kinds | {f"family {instruction.family}"} if "generator" in instruction.payload else kinds)


def demonstration_turns(demonstration: Demonstration) -> list[Message]:
    """A demonstration as two chat turns."""
    return [_user(demonstration.instruction), {"role": "assistant", "content": demonstration.response}]
