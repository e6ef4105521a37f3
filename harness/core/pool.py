"""What any method may learn from. Built per trial around that trial's ledger, so each access is charged to its counter.

A pool class may have more than TaskPool asks for:
    given_preferences(n, *, rng) -> list[Preference]     preferences that lie ready, instead of annotators who label pairs: none twice,
                                                         each counted as a comparison; fewer, at last none, when they run out
    reports() -> dict[str, JSON]                         what the pool leaves in a stage's folder, by file name, when training has ended
    held_out(n, *, rng) -> list[Demonstration]           demonstrations not handed out, not counted: for measurements, not for methods
    without_noise(pairs) -> list[bool | None]            whether noise-free annotators prefer the first response (None: even), not counted:
                                                         for measurements, not for methods
    state() -> JSON; restore(state)                      what it has given out so far, and a pool of the same configuration and seed brought
                                                         to that point: needed for variants to share a first part (harness.core.parts)
    families(config) -> list[str]; without(config, family) -> Config; family_task: (suite, task)
                                                         (static) for leave-one-family-out training: what can be left out, the pool without
                                                         it, and the validation task whose items say which family they are of
and its Config:
    anchored(config, folder) -> dict                     (class method) the settings, paths relative to a study file found
    fingerprint() -> dict                                JSON that stands for the contents of files and sets in a stage's id
"""

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
