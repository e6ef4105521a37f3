"""The self-instruct RL system as a method: a policy evolves instructions, the student answers, verified answers train it.

Instructor: the policy (selfteach.policy, selfteach.policies, selfteach.grpo_lm). Who plays executor, reviewer and responder is the cast's
matter (selfteach.cast); by default rules, rules, and the student before training. `evol_instruct` is the same with operations drawn at
random: the control that the published work lacked. `mdp: faithful` is the published system (selfteach.faithful).

The work is in selfteach.training, which is imported when training begins: who reads a study needs no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.core.budget import Ledger
from harness.core.parts import train_in_parts
from harness.core.pool import TaskPool
from selfteach.config import EvolConfig, SelfTeachConfig

if TYPE_CHECKING:
    from harness.models.student import Student


class SelfTeach:
    """Reinforcement learning picks the operations."""

    name = "selfteach"
    summary = "RL picks the operations that evolve instructions; the student answers, verified answers fine-tune it"
    Config = SelfTeachConfig
    grid: ClassVar[dict[str, list[float]]] = {"finetune.learning_rate": [3e-4, 1e-3], "evolve_share": [0.3, 0.5]}

    later: ClassVar[tuple[str, ...]] = ("finetune", "corpus_size")

    @staticmethod
    def first_share(config: EvolConfig) -> float:
        """Share of the budget that evolving and answering is given."""
        return config.evolve_share

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: SelfTeachConfig, out: Path
    ) -> Student:
        """Trains the student in place; writes corpus.jsonl, manifest.json and the policy to `out`."""
        trained: Student = train_in_parts(self, student, pool, ledger, rng=rng, config=config, out=out)
        return trained

    def begin(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: SelfTeachConfig, out: Path
    ) -> None:
        """Evolves and answers: corpus.jsonl, manifest.json, the policy; the student stays as it is."""
        from selfteach.training import evolve_corpus

        evolve_corpus(config, student, pool, ledger, rng=rng, out=out)

    def finish(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: SelfTeachConfig, out: Path
    ) -> Student:
        """Fine-tunes on the corpus in `out`."""
        from selfteach.training import finetune_on_corpus

        return finetune_on_corpus(config, student, pool, ledger, rng=rng, out=out)


class EvolInstruct:
    """The control: operations drawn at random, all else equal."""

    name = "evol_instruct"
    summary = "the same with operations drawn at random: Evol-Instruct, the control for the RL claim"
    Config = EvolConfig
    grid: ClassVar[dict[str, list[float]]] = {"finetune.learning_rate": [3e-4, 1e-3], "evolve_share": [0.3, 0.5]}

    later: ClassVar[tuple[str, ...]] = SelfTeach.later
    first_share = staticmethod(SelfTeach.first_share)

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: EvolConfig, out: Path
    ) -> Student:
        """As `SelfTeach.train`."""
        trained: Student = train_in_parts(self, student, pool, ledger, rng=rng, config=config, out=out)
        return trained

    def begin(self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: EvolConfig, out: Path) -> None:
        """As `SelfTeach.begin`."""
        from selfteach.training import evolve_corpus

        evolve_corpus(SelfTeachConfig(**config.model_dump(), policy="random"), student, pool, ledger, rng=rng, out=out)

    def finish(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: EvolConfig, out: Path
    ) -> Student:
        """As `SelfTeach.finish`."""
        from selfteach.training import finetune_on_corpus

        return finetune_on_corpus(config, student, pool, ledger, rng=rng, out=out)
