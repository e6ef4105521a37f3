"""Settings of the response step."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.core.records import Instruction

ContextKind = Literal["matching", "nearest", "fixed", "none"]
VerificationKind = Literal["rule", "consistency", "either"]


class ResponderConfig(BaseModel):
    """How instructions are answered, and what of it is accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int = Field(default=4, ge=1)
    """k: responses sampled per instruction; the pass rate has this resolution."""
    temperature: float = Field(default=0.7, gt=0)
    context: ContextKind = "matching"
    """What is shown before an instruction. matching: seeds of its puzzle family and kinds of constraint; nearest: the verified entries of
    seeds and corpus whose embeddings are nearest; fixed: the same few seeds before all; none: nothing."""
    shots: int = Field(default=2, ge=0)
    """Examples shown."""
    verification: VerificationKind = "rule"
    """Who accepts a response. rule: the pool's verifier, each call counted; consistency: the samples' agreement alone, no verifier is
    called; either: the rule where there is one, else agreement."""
    agreement: float = Field(default=0.5, gt=0, le=1)
    """Share of the k samples that must agree where agreement decides."""
    reasoning_tokens: int = Field(default=24, ge=1)
    """Longest response to a generator-backed instruction."""
    instruction_tokens: int = Field(default=64, ge=1)
    """Longest response to any other instruction."""

    def max_new_tokens(self, instruction: Instruction) -> int:
        """The longest response to this instruction."""
        return self.reasoning_tokens if "generator" in instruction.payload else self.instruction_tokens
