"""How much somebody would have to correct: replies that the verifier rejects, and the edits to the nearest reply that it accepts.

A proxy for human intervention: no human was asked. The accepted replies compared are the human answer (a generator's gold answer) and the
reply itself after the rule edits that make its constraints hold; the nearer one counts. A real editor may do with fewer edits, so TER is an
upper bound.
"""

from __future__ import annotations

import functools
from typing import Any

from sacrebleu.metrics import TER

from harness.core.records import Instruction
from harness.instructions.constraints import satisfy
from harness.instructions.demonstrate import demonstration
from harness.instructions.verify import verify
from tasks.lm_eval.generated import instruction_of

LINE_BREAK = "⏎"
"""Stands for a line break, which TER's words would not show."""


def judge(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """`rejected`: the verifier rejects the reply; `ter`: edits (insert, delete, replace, shift a run of words) per word of the nearest
    accepted reply, 0 where it was accepted, NaN where no accepted reply is known."""
    instruction, reply = instruction_of(doc), results[0]
    if verify(instruction, reply).passed:
        return {"rejected": 0.0, "ter": 0.0}
    rates = [edit_rate(reply, accepted) for accepted in accepted_replies(instruction, reply)]
    return {"rejected": 1.0, "ter": min(rates, default=float("nan"))}


def accepted_replies(instruction: Instruction, reply: str) -> list[str]:
    """Replies that the verifier accepts: a human's, and `reply` edited by rule."""
    edited = satisfy(reply, instruction.constraints) if instruction.constraints else None
    known = [text for text in (demonstration(instruction), edited) if text is not None]
    return [text for text in known if verify(instruction, text).passed]


def edit_rate(reply: str, accepted: str) -> float:
    """Translation edit rate (Snover et al. 2006) of `reply` against `accepted`, by sacrebleu, case-sensitive; 1.0 is one edit a word."""
    reply, accepted = (text.strip().replace("\n", f" {LINE_BREAK} ") for text in (reply, accepted))
    return float(_ter().sentence_score(reply, [accepted]).score) / 100


@functools.cache
def _ter() -> TER:
    return TER(case_sensitive=True)
