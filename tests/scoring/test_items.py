"""Which documents of a task are asked."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import SpecError
from harness.scoring.items import choose_items
from tests.scoring.test_twins import CHOICES, KINDS, document, toy_task


def test_a_document_that_stands_there_twice_is_asked_once() -> None:
    docs = [document("one?", 0, 1), document("two?", 1, 2), document("one?", 0, 1), document("three?", 2, 3)]
    assert choose_items(toy_task(docs, **KINDS["continued"]), None).indices == [0, 1, 3]


def test_so_is_one_without_an_id() -> None:
    docs: list[dict[str, Any]] = [{"question": text, "choices": CHOICES, "gold": 0} for text in ("one?", "two?", "one?")]
    assert choose_items(toy_task(docs, **KINDS["continued"]), None).indices == [0, 1]


def test_what_no_comparison_finds_equal_is_compared_by_its_text() -> None:
    docs = [document("one?", 0, 1) | {"weight": float("nan")} for _ in range(2)]
    assert choose_items(toy_task(docs, **KINDS["continued"]), None).indices == [0]


def test_two_documents_of_one_id_are_refused() -> None:
    docs = [document("one?", 0, 1), document("another?", 1, 1)]
    with pytest.raises(SpecError, match="two different items of task toy have this id") as caught:
        choose_items(toy_task(docs, **KINDS["continued"]), None)
    assert caught.value.value == "i1"
