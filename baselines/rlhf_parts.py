"""The two parts of RLHF and of RLAIF: up to the reward model, and policy optimisation against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from baselines.policy_gradient import optimise
from baselines.preferences import Labeller, check_source, collect_preferences
from baselines.reward_model import RewardModel, fit, pair_flops, restore_reward_model, save_reward_model
from baselines.stages import about_preferences, clean_accuracy, paid_for, read_first_part, top_up, warm_start, write_first_part, write_json
from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.errors import SpecError
from harness.models.student import Student

if TYPE_CHECKING:
    from baselines.rlhf import RLHFConfig

REWARD_MODEL = "reward_model"


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
