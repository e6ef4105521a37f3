"""Study files: the pydantic models of a study, strict to the last key, and their loader."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Adaptation(BaseModel):
    """Which weights training may change: low-rank adapters of `rank` (scaled by alpha / rank), or all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["lora", "full"] = "lora"
    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
