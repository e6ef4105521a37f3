"""Settings that several methods share, apart from the code they are for: who reads a study needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.core.records import Instruction
from harness.models.finetune_config import FinetuneConfig


class AnswersConfig(BaseModel):
    """How instructions are answered; the defaults are those of the self-teaching system's responder."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    samples: int = Field(default=4, ge=1)
    """Responses sampled per instruction (n of best-of-n)."""
    temperature: float = Field(default=0.7, gt=0)
    shots: int = Field(default=2, ge=0)
    """Seeds shown before an instruction."""
    agreement: float = Field(default=0.5, gt=0, le=1)
    """Share of the samples that must agree where no rule can check them."""
    reasoning_tokens: int = Field(default=24, ge=1)
    """Longest response to a generator-backed instruction."""
    instruction_tokens: int = Field(default=64, ge=1)
    """Longest response to any other instruction."""

    def max_new_tokens(self, instruction: Instruction) -> int:
        """The longest response to this instruction."""
        return self.reasoning_tokens if "generator" in instruction.payload else self.instruction_tokens


class PreferenceConfig(BaseModel):
    """What every method that learns from preferences begins with. Shares are of the whole budget."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    warm_share: float = Field(default=0.4, gt=0, lt=1)
    """Supervised fine-tuning on demonstrations, from which the policy starts."""
    preference_share: float = Field(default=0.2, gt=0, lt=1)
    """Sampling pairs and what must be computed of them before the policy learns."""
    demonstrations: int | None = Field(default=None, ge=1)
    max_new_tokens: int = Field(default=48, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    finetune: FinetuneConfig = FinetuneConfig()


class RewardConfig(BaseModel):
    """Settings of reward-model training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_body: bool = False
    """False fits only the head, on the frozen warm start's features: a quarter of the compute per pair, so at small budgets several times
    as many pairs, each used to convergence. True trains the body's adapters (or weights) too."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """With `train_body`."""
    batch_size: int = Field(default=8, ge=1)
    """Pairs a batch."""
    epochs: int = Field(default=1, ge=1)
    """With `train_body`."""
    ridge: float = Field(default=10.0, gt=0)
    """L2 penalty of a head fitted on frozen features (standardised, and scaled to norm about 1)."""
    held_out_share: float = Field(default=0.15, gt=0, lt=1)


class PPOConfig(BaseModel):
    """What only PPO has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=4, ge=1)
    clip: float = Field(default=0.2, gt=0, lt=1)
    advantage_decay: float = Field(default=0.95, ge=0, le=1)
    """Lambda of the generalised advantages."""
    value_coefficient: float = Field(default=0.1, ge=0)


class GRPOConfig(BaseModel):
    """What only GRPO has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=2, ge=1)
    clip: float = Field(default=0.2, gt=0, lt=1)


class OptimiseConfig(BaseModel):
    """Settings of policy optimisation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["ppo", "rloo", "grpo"] = "rloo"
    prompts_per_step: int = Field(default=4, ge=1)
    samples_per_prompt: int = Field(default=4, ge=1)
    max_new_tokens: int = Field(default=48, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    kl_coefficient: float = Field(default=0.05, ge=0)
    learning_rate: float = Field(default=3e-4, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    ppo: PPOConfig = PPOConfig()
    grpo: GRPOConfig = GRPOConfig()

    @model_validator(mode="after")
    def _siblings_to_compare_with(self) -> OptimiseConfig:
        if self.algorithm != "ppo" and self.samples_per_prompt < 2:
            raise ValueError(f"{self.algorithm} compares the replies to a prompt: samples_per_prompt must be 2 or more")
        return self
