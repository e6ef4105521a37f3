"""What a stage is called by: a hash of all that determines its result."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_as_json = json.JSONEncoder(sort_keys=True).encode


class StageIds:
    """Ids of stages: the first 16 hex digits of the sha256 of a content, as JSON with sorted keys.

    What several contents hold (the same object, not an equal one) is written as JSON once.
    """

    def __init__(self) -> None:
        self._written: dict[int, tuple[Any, str]] = {}
        """By `id` of an object: itself, so that the number stays its own, and its JSON."""
        self._known: dict[tuple[str, ...], str] = {}

    def __call__(self, content: dict[str, Any]) -> str:
        """The id. Keys are words of ours; what `content` holds must not be changed afterwards."""
        keys = sorted(content)
        parts = (*keys, *[self._json(content[key]) for key in keys])
        if parts not in self._known:
            text = ", ".join([f'"{key}": {part}' for key, part in zip(keys, parts[len(keys) :], strict=True)])
            self._known[parts] = hashlib.sha256(f"{{{text}}}".encode()).hexdigest()[:16]
        return self._known[parts]

    def _json(self, value: Any) -> str:
        known = self._written.get(id(value))
        if known is None:
            known = self._written[id(value)] = value, _as_json(value)
        return known[1]
