"""What any method may learn from. Built per trial around that trial's ledger, so each access is charged to its counter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from harness.core.records import Demonstration, Instruction, Preference, Verification


class TaskPool(Protocol):
    """The only door between a method and data. Evaluation items and evaluation families cannot be reached through it."""

    def seeds(self) -> list[Demonstration]:
        """The few human-written instructions with responses that every method starts from (counted as demonstrations once)."""
        ...

    def demonstrations(self, n: int, *, rng: np.random.Generator) -> list[Demonstration]:
        """`n` fresh human-labelled examples of the training split; each counted and priced."""
        ...

    def prompts(self, n: int, *, rng: np.random.Generator) -> list[Instruction]:
        """`n` unlabelled training instructions (verifiable by `verify`; gold answers are not to be read from the payload)."""
        ...

    def preferences(self, pairs: Sequence[tuple[Instruction, str, str]], *, rng: np.random.Generator) -> list[Preference]:
        """Labels pairs of responses by the annotator pool; each counted as one comparison."""
        ...

    def verify(self, instruction: Instruction, response: str) -> Verification:
        """Checks a response by rule; counted as one verification."""
        ...

    def contaminated(self, text: str) -> bool:
        """Whether `text` shares an 8-gram of words with any evaluation item."""
        ...
