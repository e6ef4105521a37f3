"""The one SFT implementation: its loss is the textbook's, it learns, and it stays inside its budget."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.core.budget import Ledger
from harness.core.records import Message
from harness.core.spec import Adaptation
from harness.models.finetune import FinetuneConfig, TokenizedExample, finetune, padded, response_logits, tokenize, update_flops
from harness.models.student import Student

Example = tuple[list[Message], str]
WORDS = ["apple", "bee", "cat", "dogs", "eel", "fig", "goat", "hen", "ibis", "jay", "kiwi", "lemon"]
EXAMPLES: list[Example] = [([{"role": "user", "content": f"say {word}" * (1 + i % 3)}], word) for i, word in enumerate(WORDS)]


@pytest.fixture
def student(tiny_model: Path) -> Student:
    return Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=0)


def run(student: Student, ledger: Ledger, examples: object = EXAMPLES, seed: int = 0, **config: object) -> object:
    student.attach(ledger)
    return finetune(student, examples, ledger, config=FinetuneConfig(**config), rng=np.random.default_rng(seed))  # type: ignore[arg-type]


def test_the_loss_is_that_of_transformers_on_masked_labels(student: Student) -> None:
    """Same data, labels -100 on prompt and padding: equal loss and equal gradients, though our head sees response tokens only."""
    examples = [tokenize(student, conversation, response) for conversation, response in EXAMPLES[:5]]
    ids_B_T, mask_B_T, target_B_T = padded(examples, student.pad_id, student.device)
    labels_B_T = torch.full_like(ids_B_T, -100)
    rows, columns = target_B_T.nonzero(as_tuple=True)
    labels_B_T[rows, columns + 1] = ids_B_T[rows, columns + 1]
    student.dtype = torch.float32
    reference = student.model(input_ids=ids_B_T, attention_mask=mask_B_T, labels=labels_B_T).loss
    reference.backward()
    expected = [parameter.grad.clone() for parameter in student.trainable]
    student.model.zero_grad()
    logits_R_V = response_logits(student, ids_B_T, mask_B_T, target_B_T)
    loss = torch.nn.functional.cross_entropy(logits_R_V, ids_B_T.roll(-1, 1)[target_B_T])
    loss.backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-3)
    for parameter, gradient in zip(student.trainable, expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=2e-3 * float(gradient.abs().max()) + 1e-7)


def test_targets_are_the_response_and_its_end_token(student: Student) -> None:
    example = tokenize(student, *EXAMPLES[0])
    ids_B_T, _, target_B_T = padded([example], student.pad_id, student.device)
    predicted = ids_B_T.roll(-1, 1)[target_B_T].tolist()
    assert predicted == student.encode(student.response_text("apple"))
    assert predicted[-1] == student.tokenizer.eos_token_id


def test_it_learns_and_the_loss_curve_shows_it(student: Student) -> None:
    ledger = Ledger(2e10)
    run(student, ledger, learning_rate=1e-2)
    losses = [point.value for point in ledger.curves if point.curve == "loss"]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@pytest.mark.parametrize("flops", [3e8, 1e9, 3.3e9])
def test_it_spends_its_budget_and_no_more(student: Student, flops: float) -> None:
    ledger = Ledger(flops)
    run(student, ledger)
    smallest = min(update_flops(student, [tokenize(student, *example)]) for example in EXAMPLES)
    assert flops - 8 * smallest < ledger.spent() <= flops


def test_the_price_of_a_batch_is_known_before(student: Student) -> None:
    ledger = Ledger(1e12)
    student.attach(ledger)
    examples = [tokenize(student, *example) for example in EXAMPLES[:3]]
    expected = update_flops(student, examples)
    with student.autocast():
        response_logits(student, *padded(examples, student.pad_id, student.device))
    assert ledger.spent() == pytest.approx(expected)


def test_max_flops_binds_before_the_ledger(student: Student) -> None:
    ledger = Ledger(1e12)
    student.attach(ledger)
    finetune(student, EXAMPLES, ledger, config=FinetuneConfig(), rng=np.random.default_rng(0), max_flops=1e9)
    assert 0.8e9 < ledger.spent() <= 1e9


def test_an_iterator_is_drawn_only_as_far_as_needed(student: Student) -> None:
    drawn = []
    stream = (drawn.append(example) or example for example in itertools.cycle(EXAMPLES))
    result = run(student, Ledger(1e9), stream, batch_size=4)
    assert 0 < result.examples <= len(drawn) <= result.examples + 4 * 8  # type: ignore[attr-defined]


def test_an_iterator_that_ends_ends_training(student: Student) -> None:
    result = run(student, Ledger(1e12), iter(EXAMPLES))
    assert result.examples == len(EXAMPLES)  # type: ignore[attr-defined]


def test_equal_seeds_train_equally_and_others_do_not(tiny_model: Path) -> None:
    def weights(seed: int) -> torch.Tensor:
        student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=0)
        run(student, Ledger(1e9), seed=seed)
        return torch.cat([parameter.detach().flatten() for parameter in student.trainable])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_too_long_examples_are_left_out_and_counted(student: Student) -> None:
    result = run(student, Ledger(1e9), [*EXAMPLES, ([{"role": "user", "content": "x" * 900}], "y")])
    assert result.too_long == 1  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="longer than max_tokens=8"):
        run(student, Ledger(1e9), EXAMPLES, max_tokens=8)


def test_a_diverging_loss_is_one_clear_error(student: Student) -> None:
    with torch.no_grad():
        student.trainable[0].fill_(float("nan"))
    with pytest.raises(ValueError, match="lower it"):
        run(student, Ledger(1e9))


def test_padding_changes_neither_loss_nor_price_of_real_tokens(student: Student) -> None:
    short, long = TokenizedExample(tuple(range(10, 18)), 4), TokenizedExample(tuple(range(20, 60)), 30)
    student.model.eval()
    with torch.no_grad():
        alone = response_logits(student, *padded([short], student.pad_id, student.device))
        together = response_logits(student, *padded([short, long], student.pad_id, student.device))[: len(alone)]
    assert torch.allclose(alone, together, atol=0.05)


def test_what_was_trained_on_is_remembered_once(student: Student) -> None:
    run(student, Ledger(3e9), EXAMPLES[:3])
    assert set(student.trained_on) == {(student.render(conversation), response) for conversation, response in EXAMPLES[:3]}
