"""Preference pairs: sampled from the student and labelled, or given by the pool, and checked before anything is trained on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from baselines.config import PreferenceConfig
from baselines.policy_gradient import conversation, sample
from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Instruction, Preference
from harness.errors import BudgetExceeded, CapReached, SpecError, TrainingError
from harness.models.examples import TokenizedExample, tokenize
from harness.models.student import Student

Pair = tuple[TokenizedExample, TokenizedExample]
"""Chosen and rejected, each with its prompt."""

PAIRS_A_ROUND = 8


class Labeller(Protocol):
    """Who compares: the pool's annotators, or the model itself."""

    def __call__(self, pairs: Sequence[tuple[Instruction, str, str]], *, rng: np.random.Generator) -> list[Preference]:
        """One preference for each pair of responses."""
        ...


@dataclass
class Preferences:
    """Labelled pairs, and how many others could not be used."""

    source: str
    pairs: list[Preference] = field(default_factory=list)
    equal: int = 0
    too_long: int = 0
    repeated: int = 0

    def dropped(self) -> dict[str, int]:
        """Counts by reason."""
        return {"equal": self.equal, "too_long": self.too_long, "repeated": self.repeated}

    def in_words(self) -> str:
        """The counts as a clause."""
        drawn = len(self.pairs) + sum(self.dropped().values())
        return (
            f"of {drawn} pairs ({self.source}) {self.equal} have equal responses, {self.too_long} are too long, {self.repeated} are repeats"
        )


def tokenized(student: Student, preference: Preference) -> Pair:
    """Both responses as the student reads them."""
    turns = conversation(preference.instruction)
    return tokenize(student, turns, preference.chosen), tokenize(student, turns, preference.rejected)


def check_source(pool: TaskPool, *, rng: np.random.Generator) -> None:
    """Asks a pool with preferences of its own for none of them, so that one without a table refuses before anything is spent.

    Raises:
        SpecError: the pool cannot compare anything.
    """
    source: Any = getattr(pool, "given_preferences", None)
    if source:
        source(0, rng=rng)


def collect_preferences(
    student: Student,
    pool: TaskPool,
    ledger: Ledger,
    *,
    max_flops: float,
    price: Callable[[Pair], float],
    config: PreferenceConfig,
    rng: np.random.Generator,
    label: Labeller | None = None,
) -> Preferences:
    """Pairs until getting them and `price` for each have used up `max_flops`.

    A pool that has preferences of its own (`given_preferences(n, rng=...)`) is asked for them. Otherwise two responses are sampled to fresh
    prompts and those that differ are compared, by `label` (which makes a pool's own preferences unused) or by the pool's annotators.

    Args:
        price: FLOPs that a pair will still cost after it has been labelled.
    Raises:
        SpecError: `max_flops` do not pay for two pairs.
        TrainingError: the pairs cannot be learnt from: fewer than two that differ, or one side empty throughout.
    """
    source: Any = getattr(pool, "given_preferences", None) if label is None else None
    found = Preferences("given" if source else "self" if label else "annotators")
    started_at, known = ledger.spent(ledger.account), set[tuple[str, str, str]]()
    prices: list[float] = []
    exhausted = False
    while True:
        used = ledger.spent(ledger.account) - started_at + sum(prices)
        if (found.pairs and used * (1 + PAIRS_A_ROUND / len(found.pairs)) > max_flops) or used > max_flops:
            break
        try:
            drawn = source(PAIRS_A_ROUND, rng=rng) if source else _sampled(student, pool, ledger, found, config, rng, label)
        except BudgetExceeded as refused:
            if len(found.pairs) < 2 and isinstance(refused, CapReached):
                raise
            ledger.note(f"preferences: ended after {len(found.pairs)} pairs, because {refused}")
            break
        before = found.repeated
        for preference in drawn:
            prices += _accept(student, preference, found, known, config.finetune.max_tokens, price)
        if source and found.repeated - before == len(drawn):
            exhausted = True
            break
    while sum(prices) > ledger.remaining():
        prices.pop()
        found.pairs.pop()
    _check(found, max_flops, exhausted)
    if any(found.dropped().values()):
        ledger.note(f"preferences: {found.in_words()} and were left out")
    return found


def _accept(
    student: Student,
    preference: Preference,
    found: Preferences,
    known: set[tuple[str, str, str]],
    max_tokens: int,
    price: Callable[[Pair], float],
) -> list[float]:
    """Files one labelled pair; returns its price, nothing if it cannot be used."""
    key = preference.instruction.text, preference.chosen, preference.rejected
    if key in known:
        found.repeated += 1
        return []
    known.add(key)
    if preference.chosen.strip() == preference.rejected.strip():
        found.equal += 1
        return []
    pair = tokenized(student, preference)
    if max(len(example.ids) for example in pair) > max_tokens:
        found.too_long += 1
        return []
    found.pairs.append(preference)
    return [price(pair)]


def _sampled(
    student: Student,
    pool: TaskPool,
    ledger: Ledger,
    found: Preferences,
    config: PreferenceConfig,
    rng: np.random.Generator,
    label: Labeller | None,
) -> list[Preference]:
    prompts = pool.prompts(PAIRS_A_ROUND, rng=rng)
    with ledger.use_phase("generate"):
        replies = sample(student, prompts, max_new_tokens=config.max_new_tokens, temperature=config.temperature, rng=rng, n=2)
    pairs = [(prompt, first.text, second.text) for prompt, (first, second) in zip(prompts, replies, strict=True)]
    differing = [(prompt, first, second) for prompt, first, second in pairs if first.strip() != second.strip()]
    found.equal += len(pairs) - len(differing)  # not worth a label
    return (label or pool.preferences)(differing, rng=rng) if differing else []


def _check(found: Preferences, max_flops: float, exhausted: bool) -> None:
    if len(found.pairs) < 2:
        if exhausted or any(found.dropped().values()):
            raise TrainingError(f"nothing to prefer: {found.in_words()}, {len(found.pairs)} are left")
        message = f"too small: preference_share of it, {max_flops:.3g} FLOPs, does not pay for two preference pairs"
        raise SpecError(message, key="budget.train_flops")
    for side in ("chosen", "rejected"):
        empty = sum(not getattr(pair, side).strip() for pair in found.pairs)
        if empty == len(found.pairs):
            raise TrainingError(f"one-sided preferences: the {side} response of all {empty} pairs ({found.source}) is empty")
