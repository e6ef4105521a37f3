"""Settings of the language-model policy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GrpoConfig(BaseModel):
    """How the language model writes instructions and learns from their rewards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parents: int = Field(default=2, ge=1)
    """Instructions evolved in a step."""
    group: int = Field(default=6, ge=2)
    """Children written of each: their mean reward is what GRPO compares each with."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Longest child; a longer one is cut off and earns nothing."""
    temperature: float = Field(default=0.7, gt=0)
    """Of the distribution that is sampled from, and that is trained."""
    learning_rate: float = Field(default=1e-4, gt=0)
    kl_weight: float = Field(default=0.0, ge=0)
    """β: what leaving the starting checkpoint's distribution costs (Shao et al. 2024 use 0.04, TRL 0); above 0 an update takes a further
    forward, about a third more compute."""
    rank: int = Field(default=16, ge=1)
    """Of the policy's own adapters."""
