"""Replay: fine-tuning on the seeds, again and again until the budget is spent. More of the same, the control for everything self-made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Demonstration, Message
from harness.models.finetune_config import FinetuneConfig

if TYPE_CHECKING:
    from harness.models.student import Student


class ReplayConfig(BaseModel):
    """Settings of replay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    finetune: FinetuneConfig = FinetuneConfig()


class Replay:
    """What self-made data must beat: the same compute spent on the seeds alone."""

    name = "replay"
    summary = "supervised fine-tuning on the seeds alone, repeated until the budget is spent"
    Config = ReplayConfig
    grid: ClassVar[dict[str, list[float]]] = {"finetune.learning_rate": [1e-4, 3e-4, 1e-3, 3e-3]}

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: ReplayConfig, out: Path
    ) -> Student:
        """Trains in place; buys no label beyond the seeds.

        Raises:
            SpecError: the budget does not pay for one step.
        """
        from harness.models.finetune import finetune

        finetune(student, seed_examples(pool.seeds()), ledger, config=config.finetune, rng=rng, must_step=True)
        return student


def seed_examples(seeds: list[Demonstration]) -> list[tuple[list[Message], str]]:
    """The seeds as examples to fine-tune on."""
    return [([{"role": "user", "content": seed.instruction.text}], seed.response) for seed in seeds]
