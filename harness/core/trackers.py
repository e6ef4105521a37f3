"""Experiment trackers that a run may report its training curves to, by the words of transformers' `report_to`. Imports none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Protocol

from harness.errors import SpecError

TRACKERS = ("mlflow", "tensorboard", "trackio", "wandb")
"""Each is also the name of the package that it needs."""


class Tracker(Protocol):
    """Where a ledger's curves go beside its own files."""

    def log(self, values: Mapping[str, float], train_flops: float) -> None:
        """Takes values of curves at one spend. Never raises, and changes nothing that training depends on."""
        ...

    def ready(self) -> list[str]:
        """Starts the trackers, if that has not happened yet, and names those that take values."""
        ...

    @property
    def spent_s(self) -> float:
        """Seconds that all calls have taken so far."""
        ...


def read_trackers(words: Sequence[str], *, key: str = "--report-to") -> tuple[str, ...]:
    """The trackers that `words` ask for: names, "all" (those that are installed), or "none" alone.

    Args:
        key: what messages call the option.
    Raises:
        SpecError: no such tracker, or its package is not installed.
    """
    asked = list(dict.fromkeys(words))
    for word in asked:
        if word not in (*TRACKERS, "all", "none"):
            raise SpecError("unknown tracker", key=key, value=word, valid=[*TRACKERS, "all", "none"])
    if asked == ["none"] or not asked:
        return ()
    if "none" in asked:
        raise SpecError("none stands alone", key=key, value=",".join(asked))
    here = [name for name in TRACKERS if _installed(name)]
    if "all" in asked:
        if not here:
            raise SpecError(f"no tracker is installed; install one, for example: pip install {TRACKERS[1]}", key=key, value="all")
        asked = here
    if missing := [name for name in asked if name not in here]:
        raise SpecError(f"not installed; install with: pip install {' '.join(missing)}", key=key, value=",".join(missing))
    return tuple(asked)


def _installed(package: str) -> bool:
    # A tracker's output folder in the working directory (wandb/, say) is found as a package without an origin.
    spec = find_spec(package)
    return spec is not None and spec.origin is not None
