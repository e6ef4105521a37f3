"""What a constraint kind is: a sentence, a checker, a sampler and an edit that satisfies it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Params = dict[str, Any]
"""JSON values only, so that constraints can be written to corpus.jsonl and read back."""


def _nothing(params: Params) -> str:
    return ""


def _fixed(params: Params) -> Params | None:
    return None


@dataclass(frozen=True)
class Kind:
    """One way a response can be constrained.

    Two kinds that share a group are never stacked. A `prohibits` kind may not be stacked with one whose `required` text it forbids.
    """

    name: str
    family: str
    describe: Callable[[Params], str]
    check: Callable[[str, Params], bool]
    satisfy: Callable[[str, Params], str]
    """Edits a response so that it passes `check`; edits run in the order of `stage`."""
    stage: int
    sample: Callable[[np.random.Generator], Params] | None = None
    """None where only an operation can make the parameters (they depend on the instruction)."""
    groups: frozenset[str] = frozenset()
    held_out: bool = False
    required: Callable[[Params], str] = _nothing
    """Text that every satisfying response contains."""
    prohibits: bool = False
    tighten: Callable[[Params], Params | None] = _fixed
    """The next harder parameters, None where there are none."""
    reserve: Callable[[Params, int], Params] | None = None
    """Parameters that leave room for so many more words (upper limits only)."""
    unwrap: Callable[[str, Params], str] | None = None
    """Recovers the bare answer from a reply that satisfies the constraint; None where an exact answer cannot carry it."""
    textual: bool = False
    """Only meaningful on answers with letters (case)."""
