"""A reply ends with the token that the chat template ends it with."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.models.finetune import tokenize
from harness.models.student import Student

TURNS = "{% for m in messages %}{{ m.role }}:{{ m.content }}END{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"


@pytest.fixture
def student(tiny_model: Path) -> Student:
    return Student.load(f"file:{tiny_model}", adaptation=None, seed=0)


@pytest.mark.parametrize(
    ("end", "expected"),
    [("Z", "Z"), ("\nZ\n", "Z"), ("z", "<e>"), ("<e>", "<e>"), ("", "<e>")],
    ids=["a token that ends generation", "after a line break", "a token that does not", "the end token", "nothing"],
)
def test_the_template_says_how_a_reply_ends(student: Student, end: str, expected: str) -> None:
    student.tokenizer.chat_template = TURNS.replace("END", end)
    assert student.end_of_turn == expected
    ids = tokenize(student, [{"role": "user", "content": "hi"}], "ok").ids
    assert ids[-1] == student.tokenizer.convert_tokens_to_ids(expected)
    assert ids[-1] in student.eos_ids
    assert student.response_text("ok") == f"ok{expected}"


def test_without_a_template_it_is_the_end_token(student: Student) -> None:
    assert student.response_text("ok") == " ok<e>"
