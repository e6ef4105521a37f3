"""Supervised fine-tuning on human demonstrations, each new one counted and priced, until the budget is spent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Message
from harness.errors import CapReached
from harness.models.finetune_config import FinetuneConfig

if TYPE_CHECKING:
    from harness.models.student import Student

Example = tuple[list[Message], str]


class SFTConfig(BaseModel):
    """Settings of supervised fine-tuning on demonstrations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    demonstrations: int | None = Field(default=None, ge=1)
    """Fixed number of demonstrations, repeated in epochs; None buys new ones as long as the budget lasts (one epoch)."""
    finetune: FinetuneConfig = FinetuneConfig()


class SFT:
    """What most people would do with demonstrations and the same compute."""

    name = "sft"
    summary = "supervised fine-tuning on human demonstrations, each counted and priced"
    Config = SFTConfig
    grid: ClassVar[dict[str, list[float]]] = {"finetune.learning_rate": [1e-4, 3e-4, 1e-3, 3e-3]}

    def train(self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: SFTConfig, out: Path) -> Student:
        """Trains in place on the seeds and on bought demonstrations until the budget is spent."""
        from harness.models.finetune import finetune

        finetune(student, demonstrations(pool, rng, config.demonstrations), ledger, config=config.finetune, rng=rng, must_step=True)
        return student


def demonstrations(pool: TaskPool, rng: np.random.Generator, limit: int | None) -> list[Example] | Iterator[Example]:
    """The seeds and then bought demonstrations: a list of `limit` bought ones, or an endless iterator that buys one as it is drawn.

    Where a cap refuses a label, the iterator goes round what it has.
    """
    seeds: list[Example] = [([{"role": "user", "content": d.instruction.text}], d.response) for d in pool.seeds()]
    if limit is None:
        return _endless(seeds, pool, rng)
    bought = pool.demonstrations(limit, rng=rng)
    return seeds + [([{"role": "user", "content": d.instruction.text}], d.response) for d in bought]


def _endless(seeds: list[Example], pool: TaskPool, rng: np.random.Generator) -> Iterator[Example]:
    yield from seeds
    had = list(seeds)
    while True:
        try:
            (demonstration,) = pool.demonstrations(1, rng=rng)
        except CapReached:
            break
        had.append(([{"role": "user", "content": demonstration.instruction.text}], demonstration.response))
        yield had[-1]
    while had:  # a cap on labels is no cap on compute: what there is comes round again
        for index in rng.permutation(len(had)):
            yield had[index]
