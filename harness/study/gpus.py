"""This machine's GPUs."""

from __future__ import annotations

import os
import sys

from harness.models.device import gpu_possible


def usable_gpus() -> tuple[str, ...]:
    """The GPUs that torch can use here, as CUDA_VISIBLE_DEVICES names them."""
    if "torch" not in sys.modules and not gpu_possible():
        return ()
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(named[:count]) if named else tuple(map(str, range(count)))
