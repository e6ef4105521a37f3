"""The untouched student: what every method starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from harness.core.budget import Ledger
from harness.core.pool import TaskPool

if TYPE_CHECKING:
    from harness.models.student import Student


class BaseConfig(BaseModel):
    """No settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Base:
    """Spends nothing; scored once for all seeds."""

    name = "base"
    summary = "the student as it is, untouched"
    seedless = True
    Config = BaseConfig

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: BaseConfig, out: Path
    ) -> Student:
        """Returns the student."""
        return student
