"""Settings of the self-teaching methods and who may play which role, apart from the code: who reads a study needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from harness.errors import SpecError
from harness.models.finetune_config import FinetuneConfig
from harness.models.registry import DEFAULT_EMBEDDER, KNOWN
from selfteach.environment import STOP, EnvironmentConfig
from selfteach.faithful.quirks import FaithfulConfig
from selfteach.grpo_lm.config import GrpoConfig
from selfteach.language.endpoint import EndpointConfig
from selfteach.operations import OPERATIONS
from selfteach.policies.names import check_policy_name
from selfteach.respond.config import ResponderConfig

RULES = "rules"
STUDENT = "student"
"""The student's frozen start."""
GRPO_LM = "grpo_lm"
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


class EvolConfig(CastConfig):
    """Settings that the self-instruct RL system shares with its control."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    evolve_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the budget for evolving and answering; the rest fine-tunes."""
    operations: tuple[str, ...] = Field(default=OPERATIONS, min_length=1)
    """What the policy may choose from, besides "stop"."""
    embedder: str = DEFAULT_EMBEDDER
    environment: EnvironmentConfig = EnvironmentConfig()
    corpus_size: int | None = Field(default=None, ge=1, exclude_if=lambda size: size is None)
    """Most kept entries that fine-tuning learns from, drawn at random of all that evolving kept, a smaller draw's among a larger one's;
    None is every one. The seeds' own demonstrations come on top."""
    finetune: FinetuneConfig = FinetuneConfig()

    @field_validator("embedder")
    @classmethod
    def _known_embedder(cls, embedder: str) -> str:
        return check_source(embedder, kind="embedder")

    @field_validator("operations")
    @classmethod
    def _known_operations(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        for operation in operations:
            if operation not in OPERATIONS:
                raise SpecError("expected an operation", value=operation, valid=OPERATIONS)
        if len(set(operations)) < len(operations):
            raise SpecError("expected each operation once", value=list(operations))
        return operations


class SelfTeachConfig(EvolConfig):
    """Settings of the self-instruct RL system."""

    policy: str = "ppo"
    """ppo, trpo, bandit, random, fixed:<operation>, schedule:<operation>,..., or grpo_lm: the language model writes the instructions."""
    mdp: Literal["corrected", "faithful"] = "corrected"
    """faithful: the published system; its policy is its own."""
    faithful: FaithfulConfig = FaithfulConfig()
    grpo: GrpoConfig = GrpoConfig()

    @model_validator(mode="after")
    def _policy_fits(self) -> SelfTeachConfig:
        check_policy_name(self.policy, (*self.operations, STOP), others=(GRPO_LM,))
        if self.policy == GRPO_LM and self.responder.verification == "rule":
            raise SpecError(
                'expected "consistency" or "either" where the language model writes the instructions: they have no verifier',
                key="responder.verification",
                value=self.responder.verification,
            )
        if self.policy == GRPO_LM and self.executor != RULES:
            raise SpecError("expected no executor where the policy itself writes the instructions", key="executor")
        if self.mdp == "faithful" and self.operations != OPERATIONS:
            raise SpecError("the faithful MDP has all six operations", key="operations", value=list(self.operations))
        if self.mdp == "faithful" and self.policy != type(self).model_fields["policy"].default:
            raise SpecError("expected no policy: the faithful MDP has its own", key="policy", value=self.policy)
        # Settings that nothing would read are a mistake, not a wish.
        if self.mdp != "faithful" and self.faithful != FaithfulConfig():
            raise SpecError('expected "mdp: faithful" beside settings of the faithful MDP', key="faithful")
        if self.policy != GRPO_LM and self.grpo != GrpoConfig():
            raise SpecError(f'expected "policy: {GRPO_LM}" beside its settings', key="grpo")
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
