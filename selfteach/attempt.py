"""One applied operation, from the executor's outcome to the row it leaves in the corpus."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.records import Instruction
from selfteach.corpus import Entry, LineageStep, Reward
from selfteach.roles import Answer, Floats


@dataclass
class Attempt:
    """`instruction` is None when the executor made none; `reason` says why it was rejected, None as long as it is not.

    `lineage` is the place of its lineage in the environment; `path` leads from the seed to what was made.
    """

    id: str
    lineage: int
    seed_id: str
    parent: Instruction
    operation: str
    instruction: Instruction | None
    reason: str | None
    path: tuple[LineageStep, ...]
    reply: str = ""
    embedding: Floats | None = None
    novelty: float = 0.0

    @property
    def made(self) -> Instruction:
        """The instruction, where there is one."""
        assert self.instruction is not None, self
        return self.instruction


def entry(attempt: Attempt, answer: Answer | None, step: int) -> Entry:
    """The corpus row of an attempt; `answer` is None where nobody answered."""
    shown = attempt.instruction or attempt.parent
    reason = attempt.reason
    if reason is None and answer is None:
        reason = "budget: not answered"
    elif reason is None and answer is not None and answer.response is None:
        reason = f"no verified response: 0 of {answer.samples}"
    valid = attempt.reason is None
    return Entry(
        id=attempt.id,
        seed_id=attempt.seed_id,
        parent_id=attempt.parent.id,
        lineage=attempt.path,
        operation=attempt.operation,
        family=shown.family,
        instruction=shown.text if attempt.instruction else "",
        constraints=shown.constraints if attempt.instruction else (),
        response=answer.response if answer else None,
        verified=None if answer is None else answer.response is not None,
        verified_by=answer.verified_by if answer else None,
        kept=reason is None,
        reject_reason=reason,
        reward=Reward(float(valid), attempt.novelty, answer.learnability if answer else 0.0),
        samples=answer.samples if answer else 0,
        pass_rate=answer.pass_rate if answer else None,
        step=step,
        rejected_samples=dict(answer.rejected) if answer else {},
    )
