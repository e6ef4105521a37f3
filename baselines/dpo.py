"""DPO: SFT warm start, then direct preference optimisation on the same kind of preferences as RLHF, without a reward model.

Rafailov et al. 2023 (arXiv 2305.18290). The warm start is the reference: its log-probabilities are computed once a pair, before training.
The loop is ours because TRL's DPOTrainer cannot stop inside a budget and evaluates the output head at every position without Triton; the
loss is tested against TRL's on the same batch.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, model_validator

from baselines.config import PreferenceConfig
from harness.core.budget import Ledger
from harness.core.parts import train_in_parts
from harness.core.pool import TaskPool
from harness.errors import SpecError

if TYPE_CHECKING:
    from harness.models.student import Student

PAIRS = "pairs.jsonl"
"""Tokenised pairs with the reference's log-probabilities."""


class DPOConfig(PreferenceConfig):
    """Settings of DPO. Shares are of the whole budget; optimisation gets what the other parts leave, in as many epochs as that pays for."""

    beta: float = Field(default=0.1, gt=0)
    learning_rate: float = Field(default=1e-4, gt=0)
    batch_size: int = Field(default=8, ge=1)
    """Pairs a batch."""
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _something_left_to_optimise(self) -> DPOConfig:
        if self.warm_share + self.preference_share >= 1:
            raise ValueError("warm_share and preference_share must leave a share of the budget for optimisation")
        return self


class DPO:
    """What preferences are worth without a reward model and without sampling during training."""

    name = "dpo"
    summary = "SFT warm start, then direct preference optimisation on annotators' preferences"
    Config = DPOConfig
    grid: ClassVar[dict[str, list[float]]] = {"finetune.learning_rate": [3e-4, 1e-3], "learning_rate": [3e-5, 1e-4]}

    later: ClassVar[tuple[str, ...]] = ("beta", "learning_rate", "batch_size", "warmup_share", "max_grad_norm")

    @staticmethod
    def first_share(config: DPOConfig) -> float:
        """Share of the budget up to direct optimisation."""
        return config.warm_share + config.preference_share

    def train(self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: DPOConfig, out: Path) -> Student:
        """Trains in place; writes preferences.json (pairs, agreement of the labels) to `out`.

        Raises:
            SpecError: the budget does not pay for a step of the warm start, for two pairs, or for a step on one of them.
            TrainingError: the preferences cannot be learnt from, or training diverged.
        """
        trained: Student = train_in_parts(self, student, pool, ledger, rng=rng, config=config, out=out)
        return trained

    def begin(self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: DPOConfig, out: Path) -> None:
        """Warm start, preferences and the reference's log-probabilities of them."""
        from baselines.direct import reference_flops, referred
        from baselines.preferences import check_source, collect_preferences, tokenized
        from baselines.stages import about_preferences, paid_for, warm_start, write_first_part, write_json

        budget = ledger.remaining()
        data_rng, sample_rng, _ = rng.spawn(3)
        check_source(pool, rng=sample_rng)
        bought = warm_start(student, pool, ledger, config=config, budget=budget, rng=data_rng)
        found = collect_preferences(
            student,
            pool,
            ledger,
            max_flops=config.preference_share * budget,
            price=lambda pair: reference_flops(student, pair),
            config=config,
            rng=sample_rng,
        )
        write_json(out / "preferences.json", about_preferences(found, pool))
        with paid_for(f"the reference's log-probabilities of {len(found.pairs)} pairs", budget):
            pairs = referred(student, [tokenized(student, preference) for preference in found.pairs], ledger)
        (out / PAIRS).write_text("".join(json.dumps(asdict(pair)) + "\n" for pair in pairs), encoding="utf-8")
        write_first_part(out, bought, data=data_rng)

    def finish(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: DPOConfig, out: Path
    ) -> Student:
        """Optimisation on the pairs in `out`."""
        from baselines.direct import ReferredPair, optimise_directly
        from baselines.stages import read_first_part, top_up

        _, _, order_rng = rng.spawn(3)
        bought, streams = read_first_part(out)
        pairs = [ReferredPair.from_row(json.loads(line)) for line in (out / PAIRS).read_text(encoding="utf-8").splitlines()]
        if optimise_directly(student, pairs, ledger, config=config, rng=order_rng) == 0:
            message = f"too small: what is left after {len(pairs)} pairs does not pay for a step on one of them"
            raise SpecError(message, key="budget.train_flops", value=ledger.train_flops)
        top_up(student, bought, ledger, config=config, rng=streams["data"])
        return student
