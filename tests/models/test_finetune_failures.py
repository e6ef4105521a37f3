"""What goes wrong in fine-tuning ends in one clear message, or in a smaller batch with the same result."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.core.budget import Ledger
from harness.core.records import Message
from harness.core.spec import Adaptation
from harness.errors import SpecError, TrainingError
from harness.models.finetune import FinetuneConfig, FinetuneResult, finetune
from harness.models.memory import is_out_of_memory
from harness.models.student import Student

Example = tuple[list[Message], str]
WORDS = ["apple", "bee", "cat", "dogs", "eel", "fig", "goat", "hen"]
EXAMPLES: list[Example] = [([{"role": "user", "content": f"say {word}" * (1 + i % 3)}], word) for i, word in enumerate(WORDS)]


@pytest.fixture
def student(tiny_model: Path) -> Student:
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=0)
    student.dtype = torch.float32
    return student


def run(student: Student, ledger: Ledger, examples: Any = EXAMPLES, *, must_step: bool = False, **config: Any) -> FinetuneResult:
    student.attach(ledger)
    return finetune(student, examples, ledger, config=FinetuneConfig(**config), rng=np.random.default_rng(0), must_step=must_step)


def memory_for(student: Student, most_rows: int, error: Exception) -> list[int]:
    """Makes the student's forward fail above so many rows, after the ledger was charged; returns the rows of every attempt."""
    tried: list[int] = []
    forward = student.body.forward

    def limited(*args: Any, **kwargs: Any) -> Any:
        tried.append(len(kwargs["input_ids"]))
        if tried[-1] > most_rows:
            raise error
        return forward(*args, **kwargs)

    student.body.forward = limited  # type: ignore[method-assign]
    return tried


def weights(student: Student) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in student.trainable])


CPU_ERROR = RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), CPU_ERROR, MemoryError()])
def test_short_memory_splits_batches_and_the_result_is_the_same(student: Student, tiny_model: Path, error: Exception) -> None:
    tried = memory_for(student, 2, error)
    ledger = Ledger(1e12)
    result = run(student, ledger, iter(EXAMPLES * 4))
    assert tried[:3] == [8, 4, 2]
    assert set(tried[2:]) == {2}
    assert result.micro_batch_size == 2
    assert any("memory held 2 rows" in note for note in ledger.notes)
    roomy = Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=0)
    roomy.dtype = torch.float32
    roomy.trained_on.clear()
    plain = run(roomy, Ledger(1e12), iter(EXAMPLES * 4))
    assert (result.steps, result.examples) == (plain.steps, plain.examples)
    assert result.last_loss == pytest.approx(plain.last_loss, rel=1e-3)
    assert torch.allclose(weights(student), weights(roomy), atol=1e-3)


def test_what_was_tried_in_vain_is_charged(student: Student, tiny_model: Path) -> None:
    def spent(most_rows: int) -> float:
        student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=0)
        memory_for(student, most_rows, MemoryError())
        ledger = Ledger(1e12)
        run(student, ledger, iter([EXAMPLES[0]] * 8))
        return ledger.spent()

    whole = spent(8)
    body_share = (spent(4) - whole) / whole  # the first attempt at 8 rows got as far as the body
    assert 0.5 < body_share < 1


def test_a_batch_that_no_longer_fits_the_budget_after_a_failed_attempt_shrinks(student: Student) -> None:
    student.attach(Ledger(1.0))
    memory_for(student, 4, MemoryError())
    ledger = Ledger(6e8)
    result = run(student, ledger, [EXAMPLES[0]] * 64)
    assert 0 < ledger.spent() <= 6e8
    assert result.steps > 0


def test_one_example_that_memory_does_not_hold_is_a_clear_error(student: Student) -> None:
    memory_for(student, 0, MemoryError())
    with pytest.raises(TrainingError, match=r"out of memory with one example of \d+ tokens"):
        run(student, Ledger(1e12))


def test_other_errors_are_not_taken_for_short_memory(student: Student) -> None:
    memory_for(student, 2, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        run(student, Ledger(1e12))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_torch_s_own_refusal_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_a_diverging_loss_names_step_and_rate(student: Student) -> None:
    with torch.no_grad():
        student.trainable[0].fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"loss became nan at step 1, at learning rate 0.02 \(learning_rate: 0.2\): lower it, to 0.07"):
        run(student, Ledger(1e9), learning_rate=0.2)


def test_a_rate_far_too_high_ends_in_that_error_and_not_in_a_broken_student(student: Student) -> None:
    with pytest.raises(TrainingError, match="diverged"):
        run(student, Ledger(3e9), learning_rate=1e30)


def test_a_loss_that_ends_worse_than_guessing_is_told(student: Student) -> None:
    """Finite, so nothing breaks off, and yet no student that anything should be compared with."""
    ledger = Ledger(1e8)
    result = run(student, ledger, learning_rate=30.0)
    assert result.last_loss > max(result.first_loss, math.log(student.model.config.vocab_size))
    (told,) = [note for note in ledger.notes if "worse than guessing" in note]
    assert "lower learning_rate (now 30)" in told
    fine = Ledger(1e8)
    run(Student.load(student.source, adaptation=student.adaptation, seed=0), fine)
    assert fine.notes == []


def test_nothing_to_train_on_is_an_error(student: Student) -> None:
    for nothing in ([], iter([])):
        with pytest.raises(TrainingError, match="no examples to train on"):
            run(student, Ledger(1e9), nothing)
    with pytest.raises(TrainingError, match="all 2 examples have an empty response"):
        run(student, Ledger(1e9), [(EXAMPLES[0][0], ""), (EXAMPLES[1][0], " \n")])


def test_empty_responses_and_long_examples_are_left_out_counted_and_told(student: Student) -> None:
    ledger = Ledger(1e10)
    odd = [(EXAMPLES[0][0], "  "), ([{"role": "user", "content": "x" * 900}], "y")]
    result = run(student, ledger, [*EXAMPLES, *odd])
    assert result.examples > 3 * len(EXAMPLES)
    assert (result.too_long, result.empty) == (1, 1)
    assert len(ledger.notes) == 2
    assert "1 of 10 examples are longer than max_tokens=512" in ledger.notes[0]
    assert all(response.strip() for _, response in student.trained_on)


def test_a_budget_too_small_for_one_step_is_said_before_training(student: Student) -> None:
    before = weights(student)
    ledger = Ledger(1e5)
    with pytest.raises(SpecError, match=r"budget.train_flops: too small for one step .* costs \d.*FLOPs \(got 100000.0\)"):
        run(student, ledger, must_step=True)
    assert ledger.spent() == 0
    assert torch.equal(weights(student), before)
    assert run(student, ledger).steps == 0


def test_packed_training_learns_the_same_task(student: Student) -> None:
    ledger = Ledger(1.5e10)
    run(student, ledger, learning_rate=1e-2, packing=True, max_tokens=120)
    losses = [point.value for point in ledger.curves if point.curve == "loss"]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    body = next(row for row in ledger.rows() if row["tokens"])
    assert 0 < body["padding"] < 0.4 * body["tokens"]
