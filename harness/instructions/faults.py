"""Faults for which a reply is refused whatever a verifier would say of it: it must not become training data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.core.records import Completion, Instruction, Message
from harness.instructions.telltale import broken, chat_marks, normalise, refuses, repeats

CHARACTERS_PER_TOKEN = 20
"""What a token may have on average: an endpoint need not keep to the limit it was given."""
_COPIED_MIN_WORDS = 8
"""A turn of fewer words (an answer such as "Yes") may recur in a reply by right."""


def fault(
    instruction: Instruction,
    completion: Completion,
    context: Sequence[Message],
    *,
    max_new_tokens: int,
    leak: Callable[[str, str], str | None] = chat_marks,
) -> str | None:
    """The first fault of a reply, or None.

    "empty"; "no reply" (the model could not be had); "cut off" by the token limit (it would teach the student not to end); "over length"
    all the same; "broken characters"; "refusal" ("sorry" in under 80 words); "prompt leak" (marks of a chat template, whatever else
    `leak` finds, a whole turn of the prompt, be it an example's answer); "repetition" without end.

    Args:
        context: the turns that stood before the instruction.
        leak: what of a prompt stands in the reply (first argument) and not in the instruction (second), or None.
    """
    text, asked = completion.text, instruction.text
    if not text.strip():
        return "empty" if completion.finished or completion.tokens else "no reply"
    if not completion.finished:
        return "cut off"
    if len(text) > CHARACTERS_PER_TOKEN * max_new_tokens:
        return "over length"
    if broken(text):
        return "broken characters"
    if refuses(text, asked):
        return "refusal"
    if leak(text, asked) is not None or _copies(text, [asked, *(turn["content"] for turn in context)]):
        return "prompt leak"
    return "repetition" if repeats(text) else None


def _copies(text: str, turns: Sequence[str]) -> bool:
    reply = normalise(text)
    return any(copied in reply for copied in map(normalise, turns) if len(copied.split()) >= _COPIED_MIN_WORDS)
