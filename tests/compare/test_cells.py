from __future__ import annotations

from harness.compare.cells import shown
from harness.errors import SpecError


def test_a_value_from_a_log_is_quoted_once_and_cut() -> None:
    assert str(SpecError("expected a number", value=shown("abc"))) == "expected a number (got 'abc')."
    assert str(SpecError("expected a number", value=shown({"a": 1}))) == "expected a number (got {'a': 1})."
    assert len(shown("x" * 10**6)) == 60
