"""Sentence embeddings (all-MiniLM-L6-v2) for novelty and near-duplicate tests: mean-pooled, unit norm, charged to phase "embed".

Differs from sentence-transformers only in using transformers directly; the pooling and the token limit are read from the model's own files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from harness.core.budget import Ledger
from harness.errors import SourceError
from harness.models.meter import Meter, meter
from harness.models.progress import quiet_progress
from harness.models.registry import DEFAULT_EMBEDDER
from harness.models.sources import resolve

DEFAULT_MAX_TOKENS = 256
"""Used where the folder has no sentence_bert_config.json."""


class Embedder:
    """A frozen sentence encoder.

    Args:
        model: returns `last_hidden_state` (B, T, D) for `input_ids` and `attention_mask`.
        tokenizer: a transformers tokenizer for it.
        max_tokens: longer texts are cut.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, *, name: str, max_tokens: int = DEFAULT_MAX_TOKENS) -> None:
        self.model, self.tokenizer, self.name, self.max_tokens = model.eval().requires_grad_(False), tokenizer, name, max_tokens
        self.ledger: Ledger | None = None
        self._meter: Meter | None = None

    @classmethod
    def load(cls, source: str = DEFAULT_EMBEDDER) -> Embedder:
        """Loads an encoder in float32, on the GPU where there is one.

        Args:
            source: a source name that `harness.models.sources.resolve` turns into a model folder.
        Raises:
            SourceError: the source holds no usable encoder.
        """
        from transformers import AutoModel, AutoTokenizer

        folder = resolve(source)
        try:
            with quiet_progress():
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise SourceError(f"{source}: no sentence encoder that transformers can load in {folder} ({error})") from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), tokenizer, name=source, max_tokens=_max_tokens(folder))

    def attach(self, ledger: Ledger) -> None:
        """Charges every later `encode` to `ledger`; only the last ledger attached is charged."""
        if self._meter is not None:
            self._meter.detach()
        self.ledger, self._meter = ledger, meter(self.model, self.name, ledger)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], *, batch_size: int = 32) -> npt.NDArray[np.float32]:
        """Embeds texts; batched by length so that little of the charge is padding.

        Returns:
            float32 (N, D), rows of norm 1 in the order of `texts`.
        Raises:
            BudgetExceeded: the attached ledger refused a batch.
        """
        assert texts, "no texts to embed"
        device = next(self.model.parameters()).device
        order = sorted(range(len(texts)), key=lambda index: (len(texts[index]), index))
        parts: list[npt.NDArray[np.float32]] = []
        with self.ledger.use_phase("embed") if self.ledger else nullcontext():
            for start in range(0, len(order), batch_size):
                batch = [texts[index] for index in order[start : start + batch_size]]
                tokens = self.tokenizer(batch, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt").to(device)
                hidden_B_T_D = self.model(**tokens).last_hidden_state
                mask_B_T_1 = tokens["attention_mask"].unsqueeze(-1).to(hidden_B_T_D.dtype)
                mean_B_D = (hidden_B_T_D * mask_B_T_1).sum(1) / mask_B_T_1.sum(1).clamp(min=1)
                parts.append(nn.functional.normalize(mean_B_D.float(), dim=-1).cpu().numpy())
        embeddings_N_D = np.empty((len(texts), parts[0].shape[1]), dtype=np.float32)
        embeddings_N_D[order] = np.concatenate(parts)
        return embeddings_N_D


def _max_tokens(folder: Path) -> int:
    file = folder / "sentence_bert_config.json"
    return int(json.loads(file.read_text())["max_seq_length"]) if file.is_file() else DEFAULT_MAX_TOKENS
