"""Small stand-ins for what the self-teaching system meets: an encoder that hashes words, a pool that likes some letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from harness.core.budget import Ledger
from harness.core.records import Constraint, Demonstration, Instruction, Verification
from harness.seeds import generator


def make_instruction(text: str, *, name: str = "", family: str = "letters", **changes: object) -> Instruction:
    fields = {"constraints": (Constraint("no_commas"),), **changes}
    return Instruction(name or f"id {text}", "instructions", family, body=text, text=text, **fields)


def make_seeds(n: int = 6) -> list[Demonstration]:
    topics = ["rivers", "lamps", "apples", "trains", "winter", "letters", "bread", "horses", "clocks", "maps"]
    return [
        Demonstration(make_instruction(f"Describe {topics[index]} to a friend.", name=f"seed-{index}"), f"About {index}.")
        for index in range(n)
    ]


@cache
def _word(word: str, size: int) -> np.ndarray:
    return generator("word", word).normal(size=size)


@dataclass
class HashingEncoder:
    """Bag of hashed words, unit norm: equal texts are equal, disjoint texts nearly orthogonal. Charges a fixed price a text."""

    size: int = 64
    flops_per_text: float = 0.0
    ledger: Ledger | None = None
    texts: list[str] = field(default_factory=list)

    def attach(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        if self.ledger is not None:
            with self.ledger.use_phase("embed"):
                self.ledger.charge("encoder", self.flops_per_text * len(texts), len(texts))
        rows = [np.sum([_word(word, self.size) for word in text.split()], axis=0) for text in texts]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


@dataclass
class LetterPool:
    """Accepts responses with a vowel; counts as harness pools do."""

    ledger: Ledger
    demonstrations_made: list[Demonstration] = field(default_factory=make_seeds)
    never: bool = False
    counted: bool = False

    def seeds(self) -> list[Demonstration]:
        self.ledger.count("demonstrations", 0 if self.counted else len(self.demonstrations_made))
        self.counted = True
        return list(self.demonstrations_made)

    def verify(self, instruction: Instruction, response: str) -> Verification:
        self.ledger.count("verifications")
        passed = not self.never and any(letter in response for letter in "aeiou")
        return Verification(passed, float(passed))

    def contaminated(self, text: str) -> bool:
        return "leaked" in text
