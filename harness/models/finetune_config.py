"""Settings of fine-tuning, apart from its code: who reads a study needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True)
class Layout:
    """How a batch is computed: rows per forward (None: all at once), and tokens per packed row (None: one example a row)."""

    micro_batch_size: int | None = None
    packing_tokens: int | None = None


class FinetuneConfig(BaseModel):
    """Settings of supervised fine-tuning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=8, ge=1)
    """Examples to one step of the optimiser."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Most rows computed at once, their gradients summed; None is the whole batch. Changes memory, not results."""
    packing: bool = False
    """Lays short examples of a batch one behind the other in rows of up to `max_tokens`; no example sees another. Batches are then
    drawn at random, where without packing a batch holds examples of similar length."""
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_tokens: int = Field(default=512, ge=8)
    """Examples longer than this are left out (counted in the result)."""

    @property
    def layout(self) -> Layout:
        """How a batch is computed."""
        return Layout(self.micro_batch_size, self.max_tokens if self.packing else None)
