"""RLAIF: as RLHF, but the preferences are the model's own.

Bai et al. 2022 (arXiv 2212.08073), Lee et al. 2023 (arXiv 2309.00267): a language model is shown a request with two responses and asked
which is better; its label is the sign of log P("A") - log P("B"), both orders averaged against the bias for a position. The judge is the
starting checkpoint, so nothing but the student takes part, and no comparison of a human is counted. Differs from Lee et al.: hard labels in
place of probabilities, so that one reward model serves both methods, and no chain of thought.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from baselines.rlhf import LATER, RLHF, RLHFConfig
from harness.core.budget import Ledger
from harness.core.parts import train_in_parts
from harness.core.pool import TaskPool

if TYPE_CHECKING:
    from harness.models.student import Student


class RLAIF:
    """What preferences are worth when nobody is asked."""

    name = "rlaif"
    summary = "as rlhf, with preferences that the starting checkpoint labels itself"
    Config = RLHFConfig
    grid: ClassVar[dict[str, list[float]]] = {"finetune.learning_rate": [3e-4, 1e-3], "learning_rate": [1e-4, 3e-4]}

    later: ClassVar[tuple[str, ...]] = LATER
    first_share = staticmethod(RLHF.first_share)

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: RLHFConfig, out: Path
    ) -> Student:
        """Trains in place; writes reward_model.json, which also tells how often the labels are those of annotators without noise."""
        trained: Student = train_in_parts(self, student, pool, ledger, rng=rng, config=config, out=out)
        return trained

    def begin(self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: RLHFConfig, out: Path) -> None:
        """Warm start, the judge's preferences and reward model."""
        from baselines.rlhf_parts import fit_reward
        from baselines.self_judge import SelfJudge

        judge = SelfJudge(student, ledger)
        fit_reward(student, pool, ledger, rng=rng, config=config, out=out, label=judge.label)

    def finish(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: RLHFConfig, out: Path
    ) -> Student:
        """Policy optimisation."""
        from baselines.rlhf_parts import optimise_by_reward

        return optimise_by_reward(student, pool, ledger, config=config, out=out)
