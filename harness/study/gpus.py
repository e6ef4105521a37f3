"""This machine's GPUs."""

from __future__ import annotations

import os


def usable_gpus() -> tuple[str, ...]:
    """The GPUs that torch can use here, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(named[:count]) if named else tuple(map(str, range(count)))
