"""Who plays which role in a study: executor, reviewer and responder by rules, by the student's frozen start, or by an external expert.

In the self-taught setting (the default) no model but the student is asked. Every call to another one is counted: as queries where it is
an expert, and its compute where it runs on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Demonstration
from harness.errors import SpecError
from harness.models.registry import KNOWN
from harness.models.student import Student
from selfteach.language.endpoint import Endpoint, EndpointConfig
from selfteach.language.executor import LanguageExecutor
from selfteach.language.models import STUDENT, LocalModel, open_model
from selfteach.language.reviewer import LanguageReviewer, RuleReviewer
from selfteach.operations import RuleExecutor
from selfteach.respond import ExpertResponder, Responder, ResponderConfig
from selfteach.roles import Executor, Floats, Reviewer, TextModel

RULES = "rules"
PROMPT_TOKENS = 512
"""What an operation's prompt with its examples is reckoned at, until an episode has shown what operations cost."""
Player = str | EndpointConfig
"""A role's player: "rules", "student", the source of a local model ("hub:...", "file:..."), or an endpoint."""


class CastConfig(BaseModel):
    """Who plays which role."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    executor: Player = RULES
    """Carries out operations. What a language model wrote has no verifier: `responder.verification` must then not be "rule"."""
    executor_tokens: int = Field(default=96, ge=1)
    """Longest instruction that a language model may write."""
    reviewer: Player = RULES
    """Judges whether a child says something new; a language model is asked beside the rules."""
    responder_model: str | EndpointConfig = STUDENT
    """Answers instructions."""
    responder: ResponderConfig = ResponderConfig()

    @field_validator("executor", "reviewer", "responder_model", mode="before")
    @classmethod
    def _mappings_are_endpoints(cls, value: Any) -> Any:
        # Not left to the union, whose first complaint about a mapping is that it is no text.
        return EndpointConfig.model_validate(value) if isinstance(value, dict) else value

    @field_validator("executor", "reviewer", "responder_model")
    @classmethod
    def _known_players(cls, value: Player, info: ValidationInfo) -> Player:
        roles = (STUDENT,) if info.field_name == "responder_model" else (RULES, STUDENT)
        return check_source(value, kind="model", others=roles) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _answers_can_be_checked(self) -> CastConfig:
        if self.executor != RULES and self.responder.verification == "rule":
            raise SpecError(
                'expected "consistency" or "either" where a language model carries out operations: its instructions have no verifier',
                key="responder.verification",
                value=self.responder.verification,
            )
        return self


def check_source(name: str, *, kind: Literal["model", "embedder"], others: Sequence[str] = ()) -> str:
    """Returns `name` if it may be a source of that kind, so that a misspelt one is refused before anything runs.

    Raises:
        SpecError: neither a known name of that kind, nor one of `others`, nor of a source's form.
    """
    known = [source for source, entry in KNOWN.items() if entry.kind == kind]
    if name in (*others, *known) or name.startswith(("hub:", "file:", "pypi:")):
        return name
    forms = "an endpoint's mapping, hub:org/name[@revision] or file:/path" if others else "hub:org/name[@revision] or file:/path"
    raise SpecError(f"expected one of the names below, {forms}", value=name, valid=(*others, *known))


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
