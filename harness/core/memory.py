"""The garbage collector, where it costs more than it frees."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """Collects no cycles while the block lasts, nor what it built afterwards: for a command that keeps what it builds and soon ends."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # the interpreter's own end collects once more, for half a second
        if collecting:
            gc.enable()
