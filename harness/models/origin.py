"""Where a student comes from, as a model card must say it: name on the hub, and licence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from harness.models.registry import KNOWN

HUB_LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit", "Gemma Terms of Use": "gemma"}
"""The hub's identifiers of the licences of known models."""


@dataclass(frozen=True)
class Origin:
    """A base model. `hub_name` is org/name where it came from the hub; `licence` is the hub's identifier, or None where nothing says it."""

    hub_name: str | None
    licence: str | None


def origin(source: str, folder: Path | None = None) -> Origin:
    """What is known of a student's source.

    Args:
        folder: the model's files, whose own card is asked where the registry does not know the source.
    """
    if source in KNOWN:
        licence = KNOWN[source].licence
        return Origin(None, HUB_LICENCES.get(licence))
    hub_name = source.removeprefix("hub:").partition("@")[0] if source.startswith("hub:") else None
    return Origin(hub_name, _card_licence(folder / "README.md") if folder else None)


def _card_licence(card: Path) -> str | None:
    try:
        _, front, _ = card.read_text(encoding="utf-8").split("---\n", 2)
        about = yaml.safe_load(front)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    licence = about.get("license") if isinstance(about, dict) else None
    return licence if isinstance(licence, str) else None
