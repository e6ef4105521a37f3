"""Reviewers: whether an evolved instruction says something that its parent does not, by rule or by language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.core.budget import Ledger
from harness.core.records import Instruction
from harness.instructions.telltale import normalise
from selfteach.language.prompts import EQUAL, NOT_EQUAL, REVIEW_PROMPT, pair
from selfteach.roles import Review, TextModel

ANSWER_TOKENS = 8
"""Enough for either answer under any tokenizer."""


class RuleReviewer:
    """Gain is any difference beyond case and white space."""

    def review(self, pairs: Sequence[tuple[Instruction, Instruction]], *, rng: np.random.Generator) -> list[Review]:
        """A judgement for each (parent, child), in order."""
        gains = [normalise(parent.text) != normalise(child.text) for parent, child in pairs]
        return [Review(gain, NOT_EQUAL if gain else EQUAL) for gain in gains]


class LanguageReviewer:
    """Asks `model` for "Equal" or "Not Equal", greedily, all pairs in one call, charged to phase "review".

    Gain is "Not Equal" give or take case, quotation marks and a full stop; anything else is none. `Review.reply` is word for word, for the
    published system counted only the exact string.

    A small model is no reviewer: SmolLM2-135M-Instruct says "Not Equal" of 40 in 40 children made by rules, and of 19 in 20 pairs of an
    instruction with itself (greedy; four other versions of the prompt did no better on 12 such pairs each).
    """

    def __init__(self, model: TextModel, ledger: Ledger) -> None:
        self.model, self.ledger = model, ledger

    def review(self, pairs: Sequence[tuple[Instruction, Instruction]], *, rng: np.random.Generator) -> list[Review]:
        """A judgement for each (parent, child), in order.

        Raises:
            BudgetExceeded: the batch was not affordable.
        """
        if not pairs:
            return []
        with self.ledger.use_phase("review"):
            replies = self.model.complete(
                [REVIEW_PROMPT.conversation(pair(parent.text, child.text)) for parent, child in pairs],
                max_new_tokens=ANSWER_TOKENS,
                temperature=0.0,
                seed=int(rng.integers(2**31)),
            )
        return [Review(says_gain(reply.text), reply.text) for (reply,) in replies]


def says_gain(reply: str) -> bool:
    """Whether a reply is "Not Equal", whatever its case, with or without quotation marks and full stop."""
    return " ".join(reply.strip(" \t\r\n\"'“”*.!").split()).casefold() == NOT_EQUAL.casefold()
