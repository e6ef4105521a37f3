"""SFT and the untouched student."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.base import Base, BaseConfig
from baselines.sft import SFT, SFTConfig
from harness.core.budget import Caps, Ledger
from harness.core.spec import Adaptation
from harness.models.student import Student
from harness.seeds import generator
from tasks.pool import MixedPool, MixedPoolConfig


def make(tiny_model: Path, flops: float) -> tuple[Student, Ledger, MixedPool]:
    ledger = Ledger(flops)
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=0)
    student.attach(ledger)
    config = MixedPoolConfig(families=["gcd"], constraint_share=0.2, seed_demonstrations=6)
    return student, ledger, MixedPool(config, ledger=ledger, rng=generator("test"), ngrams=frozenset())


@pytest.mark.parametrize("demonstrations", [None, 20])
def test_it_meets_its_budget_and_counts_its_labels(tiny_model: Path, tmp_path: Path, demonstrations: int | None) -> None:
    student, ledger, pool = make(tiny_model, 5e10)
    SFT().train(student, pool, ledger, rng=np.random.default_rng(0), config=SFTConfig(demonstrations=demonstrations), out=tmp_path)
    assert 0.98 * 5e10 < ledger.spent() <= 5e10
    labels = ledger.counters["demonstrations"]
    assert labels == 26 if demonstrations else labels > 26


def test_more_compute_buys_more_labels(tiny_model: Path, tmp_path: Path) -> None:
    counts = []
    for flops in (2e10, 6e10):
        student, ledger, pool = make(tiny_model, flops)
        SFT().train(student, pool, ledger, rng=np.random.default_rng(0), config=SFTConfig(), out=tmp_path)
        counts.append(ledger.counters["demonstrations"])
    assert counts[0] < counts[1]


def test_a_cap_on_labels_is_no_cap_on_compute(tiny_model: Path, tmp_path: Path) -> None:
    """Refused another label, it goes round those it has until the budget is spent, so that it stays matched with its rivals."""
    student, _, _ = make(tiny_model, 5e10)
    ledger = Ledger(5e10, caps=Caps(labels=10))
    student.attach(ledger)
    config = MixedPoolConfig(families=["gcd"], constraint_share=0.2, seed_demonstrations=6)
    pool = MixedPool(config, ledger=ledger, rng=generator("test"), ngrams=frozenset())
    SFT().train(student, pool, ledger, rng=np.random.default_rng(0), config=SFTConfig(), out=tmp_path)
    assert 0.98 * 5e10 < ledger.spent() <= 5e10
    assert ledger.counters["demonstrations"] == 10
    assert len(student.trained_on) == 10
    assert not ledger.capped


def test_base_changes_and_spends_nothing(tiny_model: Path, tmp_path: Path) -> None:
    student, ledger, pool = make(tiny_model, 1e9)
    before = [parameter.detach().clone() for parameter in student.trainable]
    assert Base().train(student, pool, ledger, rng=np.random.default_rng(0), config=BaseConfig(), out=tmp_path) is student
    assert all(torch.equal(old, new) for old, new in zip(before, student.trainable, strict=True))
    assert ledger.spent() == 0
    assert not any(ledger.counters.values())
