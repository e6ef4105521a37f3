"""A trained student as an ordinary model folder: weights merged, one safetensors set, tokenizer, generation settings."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal, get_args

import torch

from harness.errors import SpecError, StoreError
from harness.models.progress import quiet_progress
from harness.models.student import Student

WeightType = Literal["float32", "bfloat16", "float16"]
WEIGHT_TYPES: tuple[WeightType, ...] = get_args(WeightType)


def export_model(checkpoint: Path, out: Path, *, dtype: WeightType, card: str) -> None:
    """Writes the student saved in `checkpoint` to `out`, which transformers and vLLM load by its path.

    The folder appears whole or not at all.

    Args:
        checkpoint: a folder written by `Student.save`.
        out: a folder that does not exist yet.
        dtype: of the weights; adapters are merged in float32 first.
        card: text of README.md, the model card.
    Raises:
        SpecError: `out` exists, or its parent does not.
        StoreError: the folder cannot be written.
    """
    if out.exists():
        raise SpecError("expected a folder that does not exist yet", key="--out", value=str(out))
    if not out.parent.is_dir():
        raise SpecError("the folder it should lie in does not exist", key="--out", value=str(out))
    student = Student.restore(checkpoint, device=torch.device("cpu"), dtype=getattr(torch, dtype))
    try:
        partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
        try:
            with quiet_progress():
                student.model.save_pretrained(partial, safe_serialization=True)
            student.tokenizer.save_pretrained(partial)
            (partial / "README.md").write_text(card, encoding="utf-8")
            for path in partial.iterdir():
                path.chmod(0o644)  # safetensors writes for the owner alone
            partial.chmod(0o755)
            os.rename(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"cannot write the model to {out}: {error.strerror or error}") from error
