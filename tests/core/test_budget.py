from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.budget import Caps, Ledger
from harness.errors import BudgetExceeded, CapReached


@given(st.lists(st.integers(min_value=0, max_value=60), min_size=1, max_size=30))
def test_spend_never_exceeds_the_budget_and_refused_charges_book_nothing(amounts: list[int]) -> None:
    ledger, accepted = Ledger(100.0), 0
    for amount in amounts:
        fits = accepted + amount <= 100
        assert ledger.affords(amount) is fits
        if fits:
            ledger.charge("student", amount, tokens=1)
            accepted += amount
        else:
            with pytest.raises(BudgetExceeded, match="FLOPs"):
                ledger.charge("student", amount, tokens=1)
    assert ledger.spent() == accepted
    assert ledger.remaining() == 100 - accepted


def test_only_the_train_account_is_bound() -> None:
    ledger = Ledger(10.0)
    with ledger.use_account("tune"):
        ledger.charge("student", 1e9, tokens=5)
    assert ledger.remaining() == 10.0
    assert ledger.spent("tune") == 1e9
    assert Ledger(account="eval").remaining() == float("inf")


def test_rows_add_up_by_account_phase_and_model() -> None:
    ledger = Ledger(100.0)
    with ledger.use_phase("generate"):
        ledger.charge("student", 10, tokens=3, padding=1)
        with ledger.use_phase("reward"):
            ledger.charge("reward model", 5, tokens=2)
        ledger.charge("student", 20, tokens=4)
    rows = {(row["phase"], row["model"]): row for row in ledger.rows() if row["model"]}
    assert rows["generate", "student"] | {"wall_s": 0, "energy_j": None} == {
        "account": "train", "phase": "generate", "model": "student", "flops": 30.0, "tokens": 7, "padding": 1, "calls": 2,
        "wall_s": 0, "energy_j": None,
    }  # fmt: skip
    assert rows["reward", "reward model"]["flops"] == 5
    assert sum(row["flops"] for row in ledger.rows()) == ledger.spent() == 35


def test_wall_time_belongs_to_the_innermost_phase() -> None:
    ledger = Ledger(100.0)
    with ledger.use_phase("generate"):
        time.sleep(0.02)
        with ledger.use_phase("review"):
            time.sleep(0.05)
    wall_s = {row["phase"]: row["wall_s"] for row in ledger.rows()}
    assert 0.05 <= wall_s["review"] < 0.09
    assert 0.02 <= wall_s["generate"] < 0.045


def test_phase_and_account_are_restored_after_an_exception() -> None:
    ledger = Ledger(1.0)
    with pytest.raises(BudgetExceeded), ledger.use_account("train"), ledger.use_phase("policy"):
        ledger.charge("student", 2, tokens=1)
    assert (ledger.phase, ledger.account) == ("update", "train")


def test_curves_stand_on_the_spend_axis() -> None:
    ledger = Ledger(100.0)
    for step, loss in enumerate([2.0, 1.0]):
        ledger.charge("student", 10, tokens=1)
        ledger.observe("loss", loss)
        assert ledger.curves[step].step == step + 1
    assert [(point.train_flops, point.value) for point in ledger.curves] == [(10, 2.0), (20, 1.0)]


def test_progress_is_reported_but_not_at_every_charge() -> None:
    seen: list[float] = []
    ledger = Ledger(1e6, on_change=lambda ledger: seen.append(ledger.spent()))
    for _ in itertools.repeat(None, 1000):
        ledger.charge("student", 1, tokens=1)
    assert 1 <= len(seen) < 20


def test_marks_are_called_once_before_the_charge_that_passes_them() -> None:
    ledger, seen = Ledger(100.0), []
    ledger.watch([50, 25, 99.5], lambda mark: seen.append((mark, ledger.spent())))
    ledger.charge("student", 25, tokens=1)
    assert seen == [], "reaching a mark is not passing it"
    with ledger.use_account("eval"):
        ledger.charge("student", 1000, tokens=1)
    with pytest.raises(BudgetExceeded):
        ledger.charge("student", 76, tokens=1)
    assert seen == [], "neither other accounts nor refused charges pass a mark"
    ledger.charge("student", 60, tokens=1)
    ledger.charge("student", 10, tokens=1)
    assert seen == [(25, 25), (50, 25)], "the last mark lies beyond what was spent"


def test_the_tune_account_can_be_the_bound_one() -> None:
    ledger = Ledger(10.0, account="tune", bound="tune")
    ledger.charge("student", 8, tokens=1)
    assert (ledger.remaining(), ledger.spent(), ledger.spent("tune"), ledger.spent("train")) == (2, 8, 8, 0)
    assert not ledger.affords(3)
    with pytest.raises(BudgetExceeded):
        ledger.charge("student", 3, tokens=1)


def test_a_cap_on_tokens_refuses_before_it_is_passed_and_leaves_nothing() -> None:
    ledger = Ledger(100.0, caps=Caps(tokens=10))
    ledger.charge("student", 1, tokens=10, padding=90)
    with pytest.raises(CapReached, match=r"tokens to 11; the study's cap is 10"):
        ledger.charge("student", 1, tokens=1)
    assert (ledger.remaining(), ledger.spent(), ledger.tokens()) == (0, 1, 10)
    assert ledger.capped == "update would take the tokens to 11; the study's cap is 10"
    with ledger.use_account("eval"):
        ledger.charge("student", 1, tokens=1)


def test_caps_on_labels_and_dollars_refuse_a_label_before_it_is_counted_and_compute_goes_on() -> None:
    ledger = Ledger(100.0, caps=Caps(labels=3, usd=5.0, price=lambda counters, wall_s: 2.0 * counters["comparisons"]))
    ledger.count("comparisons", 2)
    with pytest.raises(CapReached, match="comparisons would take the usd to 6"):
        ledger.count("comparisons")
    ledger.count("demonstrations")
    with pytest.raises(CapReached, match="demonstrations would take the labels to 4"):
        ledger.count("demonstrations")
    assert (ledger.counters["comparisons"], ledger.counters["demonstrations"], ledger.capped) == (2, 1, "")
    ledger.charge("student", 100, tokens=1)


def test_a_cap_on_seconds_refuses_once_they_have_passed() -> None:
    ledger = Ledger(100.0, caps=Caps(seconds=0.02))
    ledger.charge("student", 1, tokens=1)
    time.sleep(0.03)
    with pytest.raises(CapReached, match="seconds"):
        ledger.charge("student", 1, tokens=1)
