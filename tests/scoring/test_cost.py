"""Costs follow the price list, linearly."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.scoring.cost import Prices, cost


def test_every_counter_at_its_price() -> None:
    prices = Prices(device_hour_usd=2, demonstration_usd=3, demonstration_s=100, comparison_usd=0.3, comparison_s=36.8, query_usd=0.01)
    found = cost({"demonstrations": 10, "comparisons": 100, "queries": 50, "verifications": 10**6}, wall_s=1800, prices=prices)
    assert found.device_usd == pytest.approx(1.0)
    assert found.labels_usd == pytest.approx(30 + 30)
    assert found.queries_usd == pytest.approx(0.5)
    assert found.total_usd == pytest.approx(61.5)
    assert found.human_s == pytest.approx(1000 + 3680)


def test_nothing_done_costs_nothing() -> None:
    assert cost({}, 0, Prices()).total_usd == 0


def test_comparisons_cost_what_alpacafarm_paid_unless_said_otherwise() -> None:
    assert (Prices().comparison_usd, Prices().comparison_s) == (0.30, 36.8)


@pytest.mark.parametrize("bad", [{"device_hour_usd": -1}, {"devise_hour_usd": 1}, {"query_usd": float("inf")}])
def test_bad_prices_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Prices(**bad)
