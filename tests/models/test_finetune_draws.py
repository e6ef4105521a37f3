"""What fine-tuning draws from an iterator, where every draw may buy a label."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.core.budget import Ledger
from harness.core.records import Message
from harness.core.spec import Adaptation
from harness.models.finetune import FinetuneConfig, FinetuneResult, finetune
from harness.models.student import Student

Example = tuple[list[Message], str]


def example(length: int) -> Example:
    return [{"role": "user", "content": "x" * length}], "answer"


def run(tiny_model: Path, examples: Iterator[Example], flops: float, **config: int) -> tuple[FinetuneResult, int]:
    student, ledger, drawn = Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=0), Ledger(flops), []
    student.attach(ledger)
    counted = (drawn.append(item) or item for item in examples)  # type: ignore[func-returns-value]
    result = finetune(student, counted, ledger, config=FinetuneConfig(**config), rng=np.random.default_rng(0))
    assert ledger.spent() <= flops
    return result, len(drawn)


@pytest.mark.parametrize("flops", [3e9, 1e10])
def test_hardly_more_is_drawn_than_trained_on(tiny_model: Path, flops: float) -> None:
    result, drawn = run(tiny_model, map(example, itertools.cycle([5, 60, 20, 35])), flops, batch_size=4)
    assert result.examples > 20
    assert result.examples <= drawn <= result.examples + 2 * 4


def test_too_long_examples_do_not_draw_for_ever(tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="all 64 examples are longer than max_tokens=8"):
        run(tiny_model, map(example, itertools.repeat(60)), 1e12, batch_size=8, max_tokens=8)


def test_a_stretch_of_too_long_examples_does_not_end_training(tiny_model: Path) -> None:
    lengths = [*[20] * 8, *[300] * 200, *[20] * 8]
    result, drawn = run(tiny_model, map(example, lengths), 1e12, batch_size=8, max_tokens=64)
    assert (result.examples, result.too_long, drawn) == (16, 200, 216)
