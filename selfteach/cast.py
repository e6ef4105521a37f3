"""Who plays which role in a study: executor, reviewer and responder by rules, by the student's frozen start, or by an external expert.

In the self-taught setting (the default) no model but the student is asked. Every call to another one is counted: as queries where it is
an expert, and its compute where it runs on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

import numpy as np

from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Demonstration
from harness.models.student import Student
from selfteach.config import RULES, STUDENT, CastConfig, Player
from selfteach.language.endpoint import Endpoint
from selfteach.language.executor import LanguageExecutor
from selfteach.language.models import LocalModel, open_model
from selfteach.language.reviewer import LanguageReviewer, RuleReviewer
from selfteach.operations import RuleExecutor
from selfteach.respond.expert import ExpertResponder
from selfteach.respond.responder import Responder
from selfteach.roles import Executor, Floats, Reviewer, TextModel

PROMPT_TOKENS = 512
"""What an operation's prompt with its examples is reckoned at, until an episode has shown what operations cost."""


class Cast:
    """Opens the players once, however many roles each has.

    Raises:
        SourceError: a local model cannot be had.
        SpecError: an endpoint's settings are wrong.
    """

    def __init__(self, config: CastConfig, student: Student, pool: TaskPool, ledger: Ledger, seeds: Sequence[Demonstration]) -> None:
        self.config, self._student, self._pool, self._ledger, self._seeds = config, student, pool, ledger, seeds
        self._models: dict[str, TextModel] = {}

    def executor(self) -> Executor:
        """Carries out operations."""
        if self.config.executor == RULES:
            return RuleExecutor([seed.instruction for seed in self._seeds])
        return LanguageExecutor(self._model(self.config.executor), max_new_tokens=self.config.executor_tokens)

    def reviewer(self) -> Reviewer:
        """Judges children against their parents."""
        return RuleReviewer() if self.config.reviewer == RULES else LanguageReviewer(self._model(self.config.reviewer), self._ledger)

    def responder(self, seed_embeddings_N_D: Floats, *, rng: np.random.Generator) -> Responder | ExpertResponder:
        """Answers instructions."""
        model, config = self.config.responder_model, self.config.responder
        if model == STUDENT:
            return Responder(
                self._student, self._pool, self._ledger, self._seeds, config=config, seed_embeddings_N_D=seed_embeddings_N_D, rng=rng
            )
        return ExpertResponder(
            self._model(model), self._pool, self._ledger, self._seeds, config=config, seed_embeddings_N_D=seed_embeddings_N_D, rng=rng
        )

    def report(self) -> dict[str, str]:
        """Role by role, who plays it."""
        players: dict[Literal["executor", "reviewer", "responder"], Player] = {
            "executor": self.config.executor,
            "reviewer": self.config.reviewer,
            "responder": self.config.responder_model,
        }
        return {role: player if isinstance(player, str) else f"{player.model} at {player.base_url}" for role, player in players.items()}

    def endpoints(self) -> dict[str, dict[str, int]]:
        """What each endpoint has been asked and has answered so far: calls, retries, failures, replies, tokens."""
        found = [model for model in self._models.values() if isinstance(model, Endpoint)]
        return {f"{model.name} at {model.config.base_url}": asdict(model.statistics) for model in found}

    def executor_flops(self) -> float:
        """An upper guess of what one operation costs: 0 by rules, and at an endpoint, whose compute is not known."""
        if self.config.executor == STUDENT:
            meter = self._student.meter
        else:
            model = None if self.config.executor == RULES else self._model(self.config.executor)
            meter = model.meter if isinstance(model, LocalModel) else None
        if meter is None:
            return 0.0
        tokens = self.config.executor_tokens
        return meter.body_flops(1, PROMPT_TOKENS + tokens) + tokens * meter.head_flops(1)

    def _model(self, player: Player) -> TextModel:
        key = player if isinstance(player, str) else player.model_dump_json()
        if key not in self._models:
            self._models[key] = open_model(player, self._student, self._ledger)
        return self._models[key]
