"""Plug-ins of the featherweight study: their stages are done by feather_run.py, so nothing here computes anything."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from harness.scoring.suites import Suite, Task


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FeatherBase:
    name = "feather_base"
    summary = "eight numbers as they are"
    seedless = True
    Config = _Config


class WalkConfig(_Config):
    memory_file: str = ""
    """Run out of memory as often as the number in this file says."""


class FeatherWalk:
    name = "feather_walk"
    summary = "a random walk of eight numbers"
    Config = WalkConfig


class FeatherPool:
    Config = _Config

    def __init__(self, config, *, ledger, rng, ngrams):
        self.config = config


FEATHER_SUITE = Suite("feather_suite", "which number is larger", (Task("feather_item", "acc", "choice", chance=0.5, limit=12),))
