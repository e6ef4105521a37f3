"""Our SFT beside TRL's plain SFTTrainer: same data, batches and rates give the same losses and the same weights."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.core.budget import Ledger
from harness.core.records import Message
from harness.core.spec import Adaptation
from harness.models.finetune import FinetuneConfig, Trainer, finetune
from harness.models.student import Student
from selfteach.grpo_lm.quiet import quietly

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "training"))

Example = tuple[list[Message], str]
WORDS = ["apple", "bee", "cat", "dogs", "eel", "fig", "goat", "hen", "ibis", "jay", "kiwi", "lemon", "mole", "nut", "owl", "pear"]
EXAMPLES: list[Example] = [([{"role": "user", "content": f"say {word}" * (1 + i % 3)}], word) for i, word in enumerate(WORDS)]


def load(source: str, kind: str) -> Student:
    student = Student.load(source, adaptation=Adaptation(kind=kind), seed=0)
    student.dtype = torch.float32
    student.model.float()
    return student


def ours_and_trl(
    source: str, kind: str, examples: list[Example], flops: float, out: Path, monkeypatch: pytest.MonkeyPatch, **config: Any
) -> tuple[list[float], list[float], Student, Student]:
    """Trains both; returns the losses of the steps on full batches, and the students after these."""
    from trl_side import sft_trainer

    ours, theirs = load(source, kind), load(source, kind)
    batches, rates = [], []
    step = Trainer.step

    def recorded(trainer: Trainer, batch: Any, **options: Any) -> float | None:
        if len(batch) < trainer.config.batch_size:
            raise StopIteration
        loss = step(trainer, batch, **options)
        batches.append(batch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return loss

    monkeypatch.setattr(Trainer, "step", recorded)
    ledger = Ledger(flops)
    ours.attach(ledger)
    with contextlib.suppress(StopIteration):  # none, where the last batch happens to be full
        finetune(ours, examples, ledger, config=FinetuneConfig(**config), rng=np.random.default_rng(0))
    with quietly():
        trainer, losses = sft_trainer(theirs, batches, rates, out)
        trainer.train()
    return [point.value for point in ledger.curves], losses, ours, theirs


def flat(student: Student) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in student.trainable])


@pytest.mark.parametrize(("kind", "config"), [("lora", {}), ("full", {"micro_batch_size": 3}), ("lora", {"packing": True})])
def test_losses_and_weights_are_trl_s(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, config: dict[str, Any]
) -> None:
    options = {"learning_rate": 5e-3, "batch_size": 4, **config}
    ours, trl, student, other = ours_and_trl(f"file:{tiny_model}", kind, EXAMPLES, 5e9, tmp_path, monkeypatch, **options)
    assert len(ours) == len(trl) >= 9
    assert ours == pytest.approx(trl, rel=2e-3)
    assert np.mean(ours[-3:]) < 0.95 * np.mean(ours[:3])
    start = flat(load(f"file:{tiny_model}", kind))
    moved = float((flat(student) - start).norm())
    assert float((flat(student) - flat(other)).norm()) < 0.02 * moved


@pytest.mark.slow
@pytest.mark.network
def test_losses_are_trl_s_on_the_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"learning_rate": 5e-4, "batch_size": 4}
    ours, trl, _, _ = ours_and_trl("smollm2-135m-instruct", "lora", EXAMPLES, 3e12, tmp_path, monkeypatch, **options)
    assert len(ours) == len(trl) >= 6
    assert ours == pytest.approx(trl, rel=5e-3)
