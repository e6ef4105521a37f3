"""What a trial cost in dollars and human seconds, from its counters and its wall time under a price list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field


class Prices(BaseModel):
    """The price list of a study: what a device hour, a label and an external query cost.

    A comparison costs what AlpacaFarm's annotators were paid and took ($0.30, 36.8 s); writing a demonstration is priced at five
    comparisons, which is our assumption, and a device hour at a small cloud machine's rate: put your own in the study file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    device_hour_usd: float = Field(default=0.10, ge=0, allow_inf_nan=False)
    demonstration_usd: float = Field(default=1.50, ge=0, allow_inf_nan=False)
    demonstration_s: float = Field(default=184.0, ge=0, allow_inf_nan=False)
    comparison_usd: float = Field(default=0.30, ge=0, allow_inf_nan=False)
    comparison_s: float = Field(default=36.8, ge=0, allow_inf_nan=False)
    query_usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)


@dataclass(frozen=True)
class Cost:
    """Dollars by what they paid for, and seconds of human work."""

    device_usd: float
    labels_usd: float
    queries_usd: float
    human_s: float

    @property
    def total_usd(self) -> float:
        """All dollars."""
        return self.device_usd + self.labels_usd + self.queries_usd


def cost(counters: Mapping[str, int], wall_s: float, prices: Prices) -> Cost:
    """Dollars and human seconds of a trial.

    Verifications by rule cost nothing beyond the device time that they take.

    Args:
        counters: `Ledger.counters`; a counter that is missing is 0.
        wall_s: device seconds, all stages that belong to the trial.
    """
    assert wall_s >= 0, wall_s
    demonstrations, comparisons, queries = (counters.get(name, 0) for name in ("demonstrations", "comparisons", "queries"))
    return Cost(
        device_usd=wall_s / 3600 * prices.device_hour_usd,
        labels_usd=demonstrations * prices.demonstration_usd + comparisons * prices.comparison_usd,
        queries_usd=queries * prices.query_usd,
        human_s=demonstrations * prices.demonstration_s + comparisons * prices.comparison_s,
    )
