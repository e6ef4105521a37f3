"""What a result was made with: package versions, machine, and fingerprint of the code."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.core.store import file_sha256

STAGE_SCHEMA = 2
"""Raised whenever our own code changes what a stage computes or how it is stored: stages of another schema are not reused."""

DETERMINING = ("torch", "transformers", "trl", "peft", "lm-eval", "reasoning-gym")
"""Packages whose version is part of every stage's id."""


def versions() -> dict[str, str]:
    """Installed versions of the packages that determine results, and of this one's stage schema."""
    found = {name: _version(name) for name in DETERMINING}
    return {**found, "stage_schema": str(STAGE_SCHEMA)}


def machine() -> dict[str, Any]:
    """The machine in words and numbers: system, processor, cores, memory in GiB."""
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": round(pages * page_bytes / 2**30, 1),
        "python": platform.python_version(),
        "host": hashlib.sha256(platform.node().encode()).hexdigest()[:12],
    }


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def code_sha256(packages: tuple[str, ...]) -> str:
    """One sha256 over the Python source of top-level `packages`, to notice that reused results came from other code."""
    digest = hashlib.sha256()
    for package in sorted(set(packages)):
        spec = importlib.util.find_spec(package)
        origin = Path(spec.origin) if spec and spec.origin else None
        if origin is None:
            continue
        for path in sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]:
            digest.update(f"{path.name}\x1f{file_sha256(path)}\x1e".encode())
    return digest.hexdigest()


def git_commit(folder: Path) -> str | None:
    """The commit checked out in `folder`, with "+changes" if files differ from it; None outside a repository."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown")
