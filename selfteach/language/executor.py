"""Operations carried out by a language model: any `TextModel`, one batched call for all instructions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from harness.core.records import Completion, Instruction
from harness.instructions.render import compose
from harness.instructions.telltale import broken, refuses, repeats
from selfteach.language.prompts import OPERATION_PROMPTS
from selfteach.language.telltale import leak
from selfteach.roles import Outcome, TextModel

_FENCE = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)
_LABEL = re.compile(
    r"^[*_#>\s]*(?:(?:the\s+)?(?:new|revised|rewritten|changed|evolved|updated|finished)\s+)?(?:instruction|request|text|task|question)[*_]*"
    r"\s*:[*_]*\s*",
    re.IGNORECASE,
)
_OPENING = re.compile(r"^(?:sure|certainly|of course|okay|ok|here(?:'s| is| are))\b[^\n:]{0,120}:\s*\n?", re.IGNORECASE)
CHARACTERS_PER_TOKEN = 20
"""More than any reply within its limit has; an endpoint may not have kept to the limit."""
_QUOTES = (('"""', '"""'), ('"', '"'), ("'", "'"), ("“", "”"), ("«", "»"), ("**", "**"))


class LanguageExecutor:
    """Has `model` rewrite instructions, each operation under its own prompt.

    A child has no verifier, even where its parent has one: a constraint that the model dropped, changed or contradicted would make the rule
    judge something the text does not ask, and only text comes back. It is answered by self-consistency; elimination must let it through
    (`Limits.must_verify`). Compute and queries are charged by the model, to the phase the caller is in.

    Args:
        temperature: of the sampling.
        max_new_tokens: longest reply; a longer one is cut off and rejected.
    """

    def __init__(self, model: TextModel, *, temperature: float = 0.7, max_new_tokens: int = 128) -> None:
        self.model, self.temperature, self.max_new_tokens = model, temperature, max_new_tokens

    def apply_batch(self, instructions: Sequence[Instruction], operations: Sequence[str], *, rng: np.random.Generator) -> list[Outcome]:
        """Applies an operation to each instruction, in order.

        Raises:
            BudgetExceeded: the batch was not affordable; nothing was made.
        """
        if not instructions:
            return []
        pairs = list(zip(instructions, operations, strict=True))
        replies = self.model.complete(
            [OPERATION_PROMPTS[operation].conversation(instruction.text) for instruction, operation in pairs],
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=int(rng.integers(2**31)),
        )
        return [
            _outcome(parent, operation, reply, self.max_new_tokens) for (parent, operation), (reply,) in zip(pairs, replies, strict=True)
        ]


def parse(reply: str) -> str:
    """The instruction in a reply: without a polite opening, a label, a code fence, or quotation marks around all of it."""
    text = _OPENING.sub("", reply.strip()).strip()
    text = _LABEL.sub("", _FENCE.sub(r"\1", text)).strip()
    for left, right in _QUOTES:
        inner = text[len(left) : -len(right)]
        first = re.search(re.escape(right), inner)
        # A quotation mark inside that closes belongs to the one in front: then they quote words of the instruction, not all of it.
        nested = first is None or first.start() == 0 or inner[first.start() - 1] in " (\n"
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right) and nested:
            text = inner.strip()
    return text.removesuffix('"""').rstrip() if text.count('"""') == 1 else text


def _outcome(parent: Instruction, operation: str, reply: Completion, max_new_tokens: int) -> Outcome:
    if len(reply.text) > CHARACTERS_PER_TOKEN * max_new_tokens:
        return Outcome(None, "longer than was asked for", reply.text)
    text = parse(reply.text)
    reason = _rejection(text, reply, parent.text)
    if reason is not None:
        return Outcome(None, reason, reply.text)
    child = compose(pool=parent.pool, family=parent.family, body=text, parent=parent, operation=operation)
    return Outcome(child, None, reply.text)


def _rejection(text: str, reply: Completion, parent: str) -> str | None:
    """Why a reply is no instruction; None when it may be one."""
    if not text:
        return "empty reply" if reply.finished or reply.tokens else "no reply"
    if broken(text):
        return "broken characters"
    if repeats(text):
        return "endless repetition"
    if not reply.finished:
        return "cut off by the limit"
    if refuses(reply.text, parent):
        return "refusal"
    leaked = leak(text, parent)
    return None if leaked is None else f"prompt leak: {leaked}"
