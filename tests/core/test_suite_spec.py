"""How a study file may name suites."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.core.suite_spec import SuiteSpec, suite_specs


def test_a_name_alone_is_enough() -> None:
    assert suite_specs(["a", SuiteSpec(name="b", limit=3)]) == [SuiteSpec(name="a"), SuiteSpec(name="b", limit=3)]


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "a", "limit": 0},
        {"name": "a", "limit": {"x": -1}},
        {"name": "a", "tasks": []},
        {"name": "a", "task": ["x"]},
        {"name": "a", "tasks": ["x"], "limit": {"y": 1}},
        {},
    ],
)
def test_mistakes_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SuiteSpec.model_validate(bad)
