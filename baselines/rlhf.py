"""RLHF: SFT warm start, Bradley-Terry reward model on preferences, policy optimisation against it with a KL penalty.

Ouyang et al. 2022 (arXiv 2203.02155). The optimiser is RLOO, PPO or GRPO (baselines/policy_gradient.py). Preferences are the pool's
own where it has any, otherwise the annotators' on pairs sampled from the warm start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import model_validator

from baselines.objectives import OptimiseConfig
from baselines.policy_gradient import optimise
from baselines.preferences import Labeller, PreferenceConfig, check_source, collect_preferences
from baselines.reward_model import RewardConfig, RewardModel, fit, pair_flops, restore_reward_model, save_reward_model
from baselines.stages import about_preferences, clean_accuracy, paid_for, read_first_part, top_up, warm_start, write_first_part, write_json
from harness.core.budget import Ledger
from harness.core.parts import train_in_parts
from harness.core.pool import TaskPool
from harness.errors import SpecError
from harness.models.student import Student

REWARD_MODEL = "reward_model"
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
        fit_reward(student, pool, ledger, rng=rng, config=config, out=out)

    def finish(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: RLHFConfig, out: Path
    ) -> Student:
        """Policy optimisation."""
        return optimise_by_reward(student, pool, ledger, config=config, out=out)


def fit_reward(
    student: Student,
    pool: TaskPool,
    ledger: Ledger,
    *,
    rng: np.random.Generator,
    config: RLHFConfig,
    out: Path,
    label: Labeller | None = None,
) -> None:
    """Warm start, preferences (labelled by `label`, default: the pool's) and reward model.

    Raises:
        SpecError: the budget does not pay for a step of the warm start, or for two pairs.
        TrainingError: the preferences cannot be learnt from, or training diverged.
    """
    budget = ledger.remaining()
    data_rng, sample_rng, reward_rng = rng.spawn(3)
    if label is None:
        check_source(pool, rng=sample_rng)
    bought = warm_start(student, pool, ledger, config=config, budget=budget, rng=data_rng)
    preferences = collect_preferences(
        student,
        pool,
        ledger,
        max_flops=config.preference_share * budget,
        price=lambda pair: pair_flops(student, pair, config.reward),
        config=config,
        rng=sample_rng,
        label=label,
    )
    reward_model = RewardModel(student, config.reward)
    reward_model.attach(ledger)
    with paid_for(f"the reward model on {len(preferences.pairs)} pairs", budget):
        found = fit(reward_model, preferences.pairs, ledger, config=config.reward, rng=reward_rng)
    clean = {"held_out_clean_accuracy": clean_accuracy(found.held_out, found.margins, pool)}
    write_json(out / f"{REWARD_MODEL}.json", {**found.summary(), **clean, **about_preferences(preferences, pool)})
    save_reward_model(reward_model, out / f"{REWARD_MODEL}.safetensors")
    write_first_part(out, bought, data=data_rng, sample=sample_rng)


def optimise_by_reward(student: Student, pool: TaskPool, ledger: Ledger, *, config: RLHFConfig, out: Path) -> Student:
    """Policy optimisation against the reward model in `out`, the rest on the demonstrations of the warm start.

    Raises:
        SpecError: the budget does not pay for a step of policy optimisation.
        TrainingError: training diverged.
    """
    bought, streams = read_first_part(out)
    reward_model = restore_reward_model(student, config.reward, out / f"{REWARD_MODEL}.safetensors")
    reward_model.attach(ledger)
    left = ledger.remaining()
    if optimise(student, reward_model, pool, ledger, config=config, rng=streams["sample"]) == 0:
        pairs = json.loads((out / f"{REWARD_MODEL}.json").read_text(encoding="utf-8"))["pairs"]
        message = f"too small: the {left:.3g} FLOPs left after {pairs} pairs do not pay for a step of {config.algorithm}"
        raise SpecError(message, key="budget.train_flops", value=ledger.train_flops)
    top_up(student, bought, ledger, config=config, rng=streams["data"])
    return student
