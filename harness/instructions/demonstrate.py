"""What a human would answer: the label that a demonstration costs."""

from __future__ import annotations

from harness.core.records import Instruction
from harness.instructions.constraints import satisfy
from harness.instructions.verify import verify


def demonstration(instruction: Instruction) -> str | None:
    """A response that passes `verify`, from the human answer in the payload; None where there is none or it cannot be made to pass.

    Generators carry the gold answer; a seed carries its author's reference response, which is edited until every constraint holds.
    """
    answer = instruction.payload.get("gold", instruction.payload.get("reference"))
    if answer is None:
        return None
    response = satisfy(str(answer), instruction.constraints)
    return response if response is not None and verify(instruction, response).passed else None
