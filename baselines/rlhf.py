"""RLHF: SFT warm start, Bradley-Terry reward model on preferences, policy optimisation against it with a KL penalty.

Ouyang et al. 2022 (arXiv 2203.02155). The optimiser is RLOO, PPO or GRPO (baselines/policy_gradient.py). Preferences are the pool's
own where it has any, otherwise the annotators' on pairs sampled from the warm start.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import model_validator

from baselines.config import OptimiseConfig, PreferenceConfig, RewardConfig
from harness.core.budget import Ledger
from harness.core.parts import train_in_parts
from harness.core.pool import TaskPool

if TYPE_CHECKING:
    from harness.models.student import Student

LATER = ("algorithm", "prompts_per_step", "samples_per_prompt", "kl_coefficient", "learning_rate", "max_grad_norm", "ppo", "grpo")
"""Settings of policy optimisation that nothing before it reads."""


class RLHFConfig(OptimiseConfig, PreferenceConfig):
    """Settings of RLHF. Shares are of the whole budget; policy optimisation gets what the other parts leave."""

    reward: RewardConfig = RewardConfig()

    @model_validator(mode="after")
    def _something_left_to_optimise(self) -> RLHFConfig:
        if self.warm_share + self.preference_share >= 1:
            raise ValueError("warm_share and preference_share must leave a share of the budget for policy optimisation")
        return self


class RLHF:
    """The method that self-teaching claims to make unnecessary."""

    name = "rlhf"
    summary = "SFT warm start, reward model on annotators' preferences, PPO, RLOO or GRPO against it with a KL penalty"
    Config = RLHFConfig
    grid: ClassVar[dict[str, list[float]]] = {"finetune.learning_rate": [3e-4, 1e-3], "learning_rate": [1e-4, 3e-4]}

    later: ClassVar[tuple[str, ...]] = LATER

    @staticmethod
    def first_share(config: RLHFConfig) -> float:
        """Share of the budget up to policy optimisation."""
        return config.warm_share + config.preference_share

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: RLHFConfig, out: Path
    ) -> Student:
        """Trains in place; writes reward_model.json (pairs, held-out accuracy, agreement of the labels) to `out`."""
        trained: Student = train_in_parts(self, student, pool, ledger, rng=rng, config=config, out=out)
        return trained

    def begin(self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: RLHFConfig, out: Path) -> None:
        """Warm start, preferences and reward model."""
        from baselines.rlhf_parts import fit_reward

        fit_reward(student, pool, ledger, rng=rng, config=config, out=out)

    def finish(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: RLHFConfig, out: Path
    ) -> Student:
        """Policy optimisation."""
        from baselines.rlhf_parts import optimise_by_reward

        return optimise_by_reward(student, pool, ledger, config=config, out=out)
