"""Students: what is trained changes, what is saved comes back, what is computed is charged once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.core.budget import Ledger
from harness.core.spec import Adaptation
from harness.errors import SourceError, SpecError
from harness.models.finetune import FinetuneConfig, finetune
from harness.models.student import Student

ASK = [[{"role": "user", "content": text}] for text in ("say a", "count to nine, please", "b")]
EXAMPLES = [([{"role": "user", "content": "say a"}], "aaaa")]


def load(tiny_model: Path, kind: str = "lora", seed: int = 0) -> Student:
    return Student.load(f"file:{tiny_model}", adaptation=Adaptation(kind=kind), seed=seed)  # type: ignore[arg-type]


def greedy(student: Student, ledger: Ledger | None = None) -> list[str]:
    student.attach(ledger or Ledger())
    return [reply.text for (reply,) in student.generate(ASK, max_new_tokens=12, temperature=0, seed=0)]


def train(student: Student, flops: float = 2e9) -> None:
    ledger = Ledger(flops)
    student.attach(ledger)
    finetune(student, EXAMPLES, ledger, config=FinetuneConfig(learning_rate=3e-2), rng=np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_trained_student_is_the_same_after_saving(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    student = load(tiny_model, kind)
    before = greedy(student)
    train(student)
    after = greedy(student)
    assert after != before
    student.save(tmp_path / "model")
    assert greedy(Student.restore(tmp_path / "model")) == after
    assert not [path for path in (tmp_path / "model").iterdir() if path.suffix in {".bin", ".pt", ".pkl"}]


def test_lora_can_be_switched_off_and_on(tiny_model: Path) -> None:
    student = load(tiny_model)
    before = greedy(student)
    train(student)
    with student.as_loaded():
        assert greedy(student) == before
    assert greedy(student) != before


def test_the_seed_names_the_adapters_initialisation(tiny_model: Path) -> None:
    def first(seed: int) -> torch.Tensor:
        return load(tiny_model, seed=seed).trainable[0]

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_loading_leaves_the_callers_random_stream_alone(tiny_model: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load(tiny_model)
    assert torch.equal(torch.rand(1), expected)


def test_a_frozen_copy_does_not_follow_training_and_is_not_charged_to_the_student(tiny_model: Path) -> None:
    student, ledger = load(tiny_model), Ledger(1e12)
    student.attach(ledger)
    copy = student.frozen_body()
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    ids = torch.tensor([[1, 2, 3, 4]], device=student.device)
    before = copy(input_ids=ids).last_hidden_state
    assert ledger.spent() == 0
    finetune(student, EXAMPLES, ledger, config=FinetuneConfig(learning_rate=3e-2), rng=np.random.default_rng(0), max_flops=1e9)
    assert torch.equal(copy(input_ids=ids).last_hidden_state, before)
    assert not torch.allclose(student.body(input_ids=ids).last_hidden_state, before)


def test_a_student_charges_the_last_ledger_only_and_once(tiny_model: Path) -> None:
    student, first, second, twice = load(tiny_model), Ledger(), Ledger(), Ledger()
    student.attach(first)
    greedy(student, second)
    student.attach(twice)
    greedy(student, twice)
    assert first.spent() == 0
    assert second.spent() == twice.spent() > 0


def test_few_shot_turns_before_a_conversation_equal_a_longer_conversation(tiny_model: Path) -> None:
    student = load(tiny_model)
    turns = [[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], [], [{"role": "user", "content": "zz"}]]
    apart = student.generate(ASK, max_new_tokens=9, temperature=0, seed=0, prefixes=turns)
    joined = [[*before, *after] for before, after in zip(turns, ASK, strict=True)]
    assert apart == student.generate(joined, max_new_tokens=9, temperature=0, seed=0)


def test_a_stop_string_ends_a_reply_before_it(tiny_model: Path) -> None:
    student = load(tiny_model)
    (whole,), *_ = student.generate(ASK, max_new_tokens=12, temperature=0, seed=0)
    mark = whole.text[4:6]
    (cut,), *_ = student.generate(ASK, max_new_tokens=12, temperature=0, seed=0, stop=[mark])
    assert cut.text == whole.text[: whole.text.index(mark)]
    assert cut.finished


def test_no_conversations_no_replies(tiny_model: Path) -> None:
    assert load(tiny_model).generate([], max_new_tokens=3, temperature=0, seed=0) == []


def test_folders_that_hold_no_student(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SourceError, match="not a causal language model"):
        Student.load(f"file:{tmp_path}", adaptation=None, seed=0)
    with pytest.raises(SpecError, match=r"student\.json"):
        Student.restore(tmp_path)


def test_the_output_head_is_given_contiguous_hidden_states(tiny_model: Path) -> None:
    """A slice of them makes torch copy the head's weight once a row on the CPU (benchmarks/head_slice.py)."""
    student, seen = load(tiny_model), []
    student.model.get_output_embeddings().register_forward_pre_hook(lambda head, args: seen.append(args[0].is_contiguous()))
    greedy(student)
    assert seen
    assert all(seen)
