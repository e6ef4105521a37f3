"""What torch computes on here and in which number format, without importing torch where the answer is known: that takes seconds."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from harness.models import cache

RULE = "bf16-1"
"""Part of the cached answer's name: change it when `harness.models.student.compute_dtype` decides otherwise."""
_GPU_VENDORS = ("0x10de", "0x1002")
"""NVIDIA and AMD (ATI), as PCI devices give them; AMD's processors and bridges are 0x1022."""
_NODES, _DRIVER, _CARDS = Path("/dev"), Path("/proc/driver/nvidia"), Path("/sys/bus/pci/devices")
_GPU_NODES = ("nvidia*", "nvhost*", "nvgpu*", "nvmap*", "kfd", "dxg")
"""In /dev: NVIDIA's cards and its systems on a chip, AMD's, and either behind Windows' subsystem for Linux."""


def gpu_possible() -> bool:
    """False on a Linux machine that has neither a GPU's device node nor its card; True says only that torch must be asked.

    A card counts without its nodes, because NVIDIA's may be made by the first program that uses it.
    """
    if sys.platform != "linux" or _DRIVER.exists() or any(next(_NODES.glob(pattern), None) is not None for pattern in _GPU_NODES):
        return True
    try:
        return any(vendor.read_text().strip() in _GPU_VENDORS for vendor in _CARDS.glob("*/vendor"))
    except OSError:
        return True


def device_and_precision() -> tuple[str, str]:
    """The device's name ("cpu", "cuda NVIDIA H200") and the number format that students compute in ("bfloat16", "float32").

    On a machine that cannot have a GPU, what torch said of its processor is kept in the cache, for that processor and version of
    torch.
    """
    if "torch" in sys.modules or gpu_possible():
        return _ask_torch()
    kept = cache.cache_root() / "processors" / f"{_processor_key()}.json"
    with suppress(OSError, ValueError):
        if (precision := json.loads(kept.read_text())) in ("bfloat16", "float32"):
            return "cpu", str(precision)
    device, precision = _ask_torch()
    if device == "cpu":
        with suppress(OSError):  # a cache that cannot be written to costs seconds, no more
            kept.parent.mkdir(parents=True, exist_ok=True)
            cache.write_json(kept, precision)
    return device, precision


def _ask_torch() -> tuple[str, str]:
    import torch

    from harness.models.student import compute_dtype, default_device

    device = default_device()
    name = f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
    return name, str(compute_dtype(device)).removeprefix("torch.")


def _processor_key() -> str:
    """Of the processor's model and instructions, as the kernel tells them, and of the version of torch."""
    told = [RULE, platform.machine(), version("torch")]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told += [line for line in lines[: lines.index("") if "" in lines else None] if line.startswith(("model name", "flags", "Features"))]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:24]
