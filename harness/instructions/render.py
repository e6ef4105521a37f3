"""The one place where an instruction's text and id come from its parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.core.records import Constraint, Instruction
from harness.instructions.constraints import describe

ANSWER_KEYS = frozenset({"gold", "reference"})
"""Payload keys that hold a human's answer: they do not identify an instruction, and pools take them off what they hand out as prompts."""


def compose(
    *,
    pool: str,
    family: str,
    body: str,
    constraints: Sequence[Constraint] = (),
    payload: dict[str, Any] | None = None,
    seed_id: str = "",
    parent: Instruction | None = None,
    operation: str = "",
) -> Instruction:
    """Builds an instruction: its text is the body followed by one sentence per constraint, its id a hash of all that determines it.

    Args:
        seed_id: where the lineage starts; a parent's takes precedence, and an instruction with neither is its own seed.
        parent: the instruction that `operation` was applied to.
    """
    payload = payload or {}
    parent_id = parent.id if parent else ""
    identity = [pool, family, body, [[item.kind, item.params] for item in constraints], _without_answers(payload), parent_id, operation]
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return Instruction(
        id=name,
        pool=pool,
        family=family,
        body=body,
        text=render(body, constraints),
        constraints=tuple(constraints),
        payload=payload,
        seed_id=(parent.seed_id or parent.id) if parent else seed_id or name,
        parent_id=parent_id,
        operation=operation,
        step=parent.step + 1 if parent else 0,
    )


def render(body: str, constraints: Sequence[Constraint]) -> str:
    """What the student reads."""
    gap = "\n" if "\n" in body else " "
    return gap.join([body, " ".join(describe(constraint) for constraint in constraints)]) if constraints else body


def without_answers(instruction: Instruction) -> Instruction:
    """The instruction as a method may see it: no gold answer, no reference response."""
    return replace(instruction, payload=_without_answers(instruction.payload))


def _without_answers(payload: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in payload.items() if key not in ANSWER_KEYS}
