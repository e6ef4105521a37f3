"""What of our own prompts, or of a chat template, stands in a text that should be an instruction.

Pure functions of text, linear in its length, shared by the elimination rules and the language-model executor.
"""

from __future__ import annotations

from harness.instructions.telltale import chat_marks, visible, words
from selfteach.language.prompts import prompt_texts

LEAKED_PHRASES = (
    "given prompt",
    "rewritten prompt",
    "new prompt",
    "created prompt",
    "#given",
    "#rewritten",
    "#created",
    "prompt rewriter",
    "prompt creator",
    "given instruction",
    "rewritten instruction",
    "new instruction",
    "original instruction",
    "new request:",
    "do not answer this",
    "something that a person asked for",
)
"""Telltales of the published prompts, of what models call their task, and of ours."""
RUN_WORDS = 6
"""So many words in a row that stand in our prompts and not in the parent were copied from our prompts."""


def _runs(tokens: list[str]) -> set[tuple[str, ...]]:
    return {tuple(tokens[start : start + RUN_WORDS]) for start in range(len(tokens) - RUN_WORDS + 1)}


_PROMPT_RUNS = frozenset(run for text in prompt_texts() for run in _runs(words(text)))


def leak(text: str, parent: str) -> str | None:
    """What of a prompt or a chat template stands in the text: a phrase, six words in a row, a template's marker, a role label.

    Markers are never allowed; the others are where the parent has them too.
    """
    mark = chat_marks(text, parent)
    if mark is not None:
        return mark
    small, before = visible(text).lower(), visible(parent).lower()
    for phrase in LEAKED_PHRASES:
        if phrase in small and phrase not in before:
            return phrase
    copied = _runs(words(text)) & _PROMPT_RUNS
    if copied:
        copied -= _runs(words(parent))
    return " ".join(min(copied)) if copied else None
