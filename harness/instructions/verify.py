"""One judgement of a response by rule, whatever the instruction asks."""

from __future__ import annotations

from harness.core.records import Instruction, Verification
from harness.instructions import reasoning
from harness.instructions.constraints import KINDS, check, unwrap, variants


def verify_constraints(instruction: Instruction, response: str, *, loose: bool = False) -> Verification:
    """Checks every constraint; `share` is the share of constraints met.

    Args:
        loose: as IFEval's loose accuracy (see `constraints.check`).
    """
    assert instruction.constraints, instruction.id
    failed = [item.kind for item in instruction.constraints if not check(item, response, loose=loose)]
    return Verification(not failed, 1 - len(failed) / len(instruction.constraints), _detail(failed))


def verify(instruction: Instruction, response: str, *, loose: bool = False) -> Verification:
    """Checks a response: constraints, and the answer to a generator's question; `share` is the share of these parts passed.

    Args:
        loose: also accept the response without its first line, last line or asterisks.
    """
    assert instruction.verifiable, instruction.id
    failed = [item.kind for item in instruction.constraints if not check(item, response, loose=loose)]
    parts = len(instruction.constraints)
    if "generator" in instruction.payload:
        parts += 1
        any_case = any(KINDS[item.kind].textual for item in instruction.constraints)
        texts = variants(response) if loose else [response]
        if not any(reasoning.solves(instruction, unwrap(text, instruction.constraints), any_case=any_case) for text in texts):
            failed.append("answer")
    assert parts, f"{instruction.id} has neither constraints nor a generator"
    return Verification(not failed, 1 - len(failed) / parts, _detail(failed))


def _detail(failed: list[str]) -> str:
    return f"failed: {', '.join(failed)}" if failed else ""
