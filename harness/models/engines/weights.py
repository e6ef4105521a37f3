"""A student's weights as they are now: whether they have changed, and as a checkpoint that another process reads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from harness.models.adapters import adapters_off, base_model, is_adapter_layer

Fingerprint = tuple[int, ...]
_MEMORY_BACKED = Path("/dev/shm")


def fingerprint(model: nn.Module) -> Fingerprint:
    """A hash of every weight that training may have changed, and whether adapters are on. Takes 1 ms a million weights or less."""
    if adapters_off(model):
        return (0,)
    trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    return (1, *(int(torch.hash_tensor(weight).view(torch.int64)) for weight in trained))


def write_checkpoint(model: Any, folder: Path, *, dtype: torch.dtype, config: bool) -> None:
    """Writes all weights, adapters merged in fp32 where they are on, as one safetensors file.

    Args:
        config: with the model's config.json, which a reader needs once.
    """
    base = base_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    if config:
        about = base.config.to_diff_dict() | {"dtype": str(dtype).removeprefix("torch."), "architectures": [type(base).__name__]}
        type(base.config).from_dict(about).save_pretrained(folder)
    partial = folder / "partial"
    save_file(dict(_merged(base, dtype)), partial, metadata={"format": "pt"})
    os.replace(partial, folder / "model.safetensors")


def _merged(base: nn.Module, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of a checkpoint; weights that are tied to one another stand under the first name only."""
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if "lora_" in name:
                continue
            owner: Any = base.get_submodule(name.partition(".base_layer.")[0]) if ".base_layer." in name else None
            weight = parameter.detach()
            if is_adapter_layer(owner) and name.endswith(".weight") and not owner.disable_adapters:
                weight = weight.float()
                for adapter in owner.active_adapters:
                    weight = weight + owner.get_delta_weight(adapter)
            yield name.replace(".base_layer.", "."), weight.to(device="cpu", dtype=dtype).contiguous()


def scratch_folder(needed_bytes: int) -> Path:
    """A new folder, in memory where there is twice the room for `needed_bytes`, else among temporary files."""
    in_memory = _MEMORY_BACKED.is_dir() and os.access(_MEMORY_BACKED, os.W_OK) and shutil.disk_usage(_MEMORY_BACKED).free > 2 * needed_bytes
    return Path(tempfile.mkdtemp(prefix="selfteach-vllm-", dir=_MEMORY_BACKED if in_memory else None))
