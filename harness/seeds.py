"""Named random streams: every random choice comes from a generator named by (study, trial, purpose)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np


def seed_from(*names: object) -> int:
    """A 63-bit seed from a path of names; equal names give equal seeds on every machine.

    Args:
        names: any values with a stable `str`, e.g. ("quickstart", "sft", 0, "data").
    """
    digest = hashlib.sha256("\x1f".join(str(name) for name in names).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*names: object) -> np.random.Generator:
    """A numpy generator for the stream called `names` (see `seed_from`)."""
    return np.random.default_rng(seed_from(*names))


def stream_state(rng: np.random.Generator) -> dict[str, Any]:
    """Where a generator stands, as JSON."""
    return dict(rng.bit_generator.state)


def stream_from(state: dict[str, Any]) -> np.random.Generator:
    """A generator that goes on from `stream_state`; it can be drawn from, but not spawn the children that the first one would."""
    bits: Any = np.random.PCG64()
    bits.state = state
    return np.random.Generator(bits)
