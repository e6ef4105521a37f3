"""The nouns of a comparison: a row per pair and task, families of rows that are adjusted together, models in order of their mean."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from harness.compare.difference import Distribution

FEW_DISCORDANT = 25
"""Items on which two models differ below which the t test is too sure of itself, and the exact or sign-flip test decides."""


@dataclass(frozen=True)
class Needed:
    """What would show a true difference as large as the one seen, with 80 % power: items, and checkpoints if there are several."""

    n_items: int
    n_seeds: int | None = None


@dataclass(frozen=True)
class Row:
    """One pair of models on one task and metric, or on the mean over the tasks of a family."""

    task: str
    metric: str
    first: str
    second: str
    n_items: int
    n_dropped: int
    n_clusters: int | None
    n_seeds: int
    n_tasks: int
    higher_is_better: bool
    unit_scale: bool
    mean_first: float
    mean_second: float
    difference: float
    interval: tuple[float, float]
    level: float
    se: float
    df: float
    p_value: float
    model: str
    degenerate: bool
    p_holm: float = math.nan
    p_bh: float = math.nan
    check: Distribution | None = None
    equivalence_p: float | None = None
    detectable: float | None = None
    needed: Needed | None = None
    verdict: str = ""
    words: str = ""

    @property
    def decisive_p(self) -> float:
        """The p value that is adjusted and decides: the t test's, or of the test beside it where the models differ on few items."""
        return self.check.p_value if self.check is not None and self.check.n_discordant < FEW_DISCORDANT else self.p_value

    @property
    def overall(self) -> bool:
        """Whether the row is a mean over tasks."""
        return self.n_tasks > 1


@dataclass(frozen=True)
class Standing:
    """One model in a family: its mean, and whether it is told apart from the best."""

    model: str
    mean: float
    n_seeds: int
    p_holm_vs_best: float | None
    near_best: bool


@dataclass(frozen=True)
class Family:
    """Rows that are adjusted together: the tasks of one metric, or tasks with one metric each.

    `rows` hold a task each (Holm and BH over tasks × pairs), `overall` the mean over tasks (Holm over pairs); with one task that is `rows`.
    """

    name: str
    rows: list[Row]
    overall: list[Row]
    standings: list[Standing]


@dataclass(frozen=True)
class Comparison:
    """Everything the command shows."""

    models: list[str]
    alpha: float
    margin: float | None
    families: list[Family]
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where a number does not exist."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
