"""Few-shot answers of the student's starting checkpoint, and which of them may be trained on.

What the self-teaching system does with its instructions, so that methods differ in where instructions come from and in nothing else: seeds
of the same form stand before an instruction, k samples, faulty ones refused, the rest judged by rule where there is one and by their
agreement where there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from baselines.config import AnswersConfig
from harness.core.budget import Ledger
from harness.core.corpus import Row
from harness.core.pool import TaskPool
from harness.core.records import Completion, Demonstration, Instruction, Message
from harness.errors import BudgetExceeded
from harness.instructions.consistency import largest_group
from harness.instructions.faults import fault
from harness.instructions.shots import demonstration_turns, matching, user_turn
from harness.models.bound import generation_bound
from harness.models.generation import BoundedPrefixCaches
from harness.models.student import Student

PREFIX_TOKENS = 8_192
MIN_AGREEING = 2
"""One sample agrees with itself: that is no evidence."""
Shots = Callable[[Instruction], Sequence[Demonstration]]


@dataclass(frozen=True)
class Origin:
    """Where an instruction comes from: what corpus.jsonl says of it beside its answer."""

    seed: Instruction
    operation: str
    step: int


@dataclass(frozen=True)
class Answered:
    """An instruction's samples, judged.

    `response` is the shortest verified one, else the medoid of those that agree; None if none passed.
    """

    instruction: Instruction
    samples: int
    accepted: int
    response: str | None
    verified_by: Literal["rule", "consistency"] | None
    rejected: dict[str, int] = field(default_factory=dict)

    def row(self, origin: Origin) -> Row:
        """As a row of corpus.jsonl; no reward is recorded, since none is computed."""
        return corpus_row(self.instruction, origin) | {
            "response": self.response,
            "verified": self.response is not None and self.verified_by is not None,
            "verified_by": self.verified_by,
            "kept": self.response is not None,
            "reject_reason": None if self.response is not None else f"no accepted response: 0 of {self.samples}",
            "samples": self.samples,
            "pass_rate": self.accepted / self.samples,
            "rejected_samples": self.rejected,
        }


def corpus_row(instruction: Instruction, origin: Origin) -> Row:
    """What every row of corpus.jsonl has, answered or not."""
    return {
        "id": instruction.id,
        "seed_id": origin.seed.id,
        "parent_id": origin.seed.id,
        "lineage": [{"operation": "seed", "text": origin.seed.text}, {"operation": origin.operation, "text": instruction.text}],
        "operation": origin.operation,
        "family": instruction.family,
        "instruction": instruction.text,
        "constraints": [{"kind": one.kind, "params": one.params} for one in instruction.constraints],
        "response": None,
        "verified": None,
        "verified_by": None,
        "kept": False,
        "reject_reason": None,
        "reward": {},
        "samples": 0,
        "pass_rate": None,
        "step": origin.step,
        "rejected_samples": {},
    }


@dataclass(frozen=True)
class _Batch:
    """Instructions with one length limit, the turns before each, and the most that answering them can cost."""

    instructions: list[Instruction]
    conversations: list[list[Message]]
    prefixes: list[list[Message]]
    max_new_tokens: int
    bound_flops: float


class Answerer:
    """Answers with the student as it was loaded; compute is charged to "generate", verifications are counted by the pool.

    Args:
        shots: the seeds that stand before an instruction; by default those of its family and kinds of constraint.
        accept_any: where no rule can judge, the first sample without a fault is accepted, and nothing need agree.
    """

    def __init__(
        self,
        student: Student,
        pool: TaskPool,
        ledger: Ledger,
        seeds: Sequence[Demonstration],
        *,
        config: AnswersConfig,
        shots: Shots | None = None,
        accept_any: bool = False,
    ) -> None:
        self.student, self.pool, self.ledger, self.config, self.accept_any = student, pool, ledger, config, accept_any
        by_length = sorted(seeds, key=lambda seed: (len(seed.instruction.text) + len(seed.response), seed.instruction.id))
        self._shots: Shots = shots or (lambda instruction: matching(instruction, by_length, config.shots))
        self._used_share, self._frozen = 1.0, True
        self._prefix_caches = BoundedPrefixCaches(PREFIX_TOKENS)

    def use_trained(self) -> None:
        """Answers with the student as trained so far, from now on; to be called again whenever it was trained further."""
        self._frozen = False
        self._prefix_caches = BoundedPrefixCaches(PREFIX_TOKENS)

    def answer(self, instructions: Sequence[Instruction], *, max_flops: float, rng: np.random.Generator) -> list[Answered | None]:
        """In order, an answer each; None where compute was short.

        Instructions of one length limit are asked at once, or as many as fit: a batch's expected cost is its upper bound times the share of
        their bounds that batches so far came to.
        """
        answers: list[Answered | None] = [None] * len(instructions)
        places_of: dict[int, list[int]] = {}
        for place, instruction in enumerate(instructions):
            places_of.setdefault(self.config.max_new_tokens(instruction), []).append(place)
        stop_at = self.ledger.spent(self.ledger.account) + max_flops
        for limit, places in places_of.items():
            while places and (batch := self._batch([instructions[place] for place in places], limit, stop_at)) is not None:
                answered = self._answered(batch, seed=int(rng.integers(2**31)))
                if not answered:
                    return answers
                for place, answer in zip(places, answered, strict=False):
                    answers[place] = answer
                places = places[len(answered) :]
        return answers

    def _batch(self, waiting: list[Instruction], limit: int, stop_at: float) -> _Batch | None:
        """The first of those who wait, as many as are expected to fit; None if not even one."""
        left = stop_at - self.ledger.spent(self.ledger.account)
        size = len(waiting)
        while size:
            asked = waiting[:size]
            prefixes = [[turn for shot in self._shots(one) for turn in demonstration_turns(shot)] for one in asked]
            conversations = [[user_turn(instruction)] for instruction in asked]
            bound = generation_bound(
                self.student,
                conversations,
                prefixes=prefixes,
                prefix_caches=self._prefix_caches,
                n=self.config.samples,
                max_new_tokens=limit,
            )
            if bound * self._used_share <= left:
                return _Batch(asked, conversations, prefixes, limit, bound)
            size //= 2
        return None

    def _answered(self, batch: _Batch, *, seed: int) -> list[Answered]:
        before = self.ledger.spent(self.ledger.account)
        try:
            with self.ledger.use_phase("generate"), self.student.as_loaded() if self._frozen else nullcontext():
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
            return []
        if batch.bound_flops > 0:
            self._used_share = (self._used_share + (self.ledger.spent(self.ledger.account) - before) / batch.bound_flops) / 2
        with self.ledger.use_phase("review"):
            rows = zip(batch.instructions, replies, batch.prefixes, strict=True)
            return [self._judged(*row, limit=batch.max_new_tokens) for row in rows]

    def _judged(self, instruction: Instruction, completions: Sequence[Completion], context: Sequence[Message], *, limit: int) -> Answered:
        rejected: Counter[str] = Counter()
        texts = []
        for completion in completions:
            reason = fault(instruction, completion, context, max_new_tokens=limit)
            if reason is None and self.pool.contaminated(completion.text):
                reason = "contaminated"
            if reason is None:
                texts.append(completion.text.strip())
            else:
                rejected[reason] += 1
        by: Literal["rule", "consistency"] | None
        if instruction.verifiable:
            by, accepted, reason = "rule", [text for text in texts if self.pool.verify(instruction, text).passed], "not verified"
            accepted.sort(key=lambda text: (len(text), text))
        elif self.accept_any:
            by, accepted, reason = None, texts[:1], "not the first"
        else:
            by, accepted, reason = "consistency", largest_group(texts), "disagrees"
            if len(accepted) < max(MIN_AGREEING, self.config.agreement * len(completions)):
                accepted, reason = [], "no agreement"
        rejected[reason] += len(texts) - len(accepted)
        return Answered(instruction, len(completions), len(accepted), next(iter(accepted), None), by, dict(sorted((+rejected).items())))
