from __future__ import annotations

import pytest
from pydantic import BaseModel

from harness.core.grid import candidates, dotted_keys, is_set, unset, with_values, written


class Inner(BaseModel):
    rate: float = 1.0


class Config(BaseModel):
    inner: Inner = Inner()
    maybe: Inner | None = None
    n: int = 1


def test_candidates_are_every_combination_and_none_of_an_empty_grid() -> None:
    assert candidates({"a": [1, 2], "b.c": ["x", "y"]}) == [
        {"a": 1, "b.c": "x"}, {"a": 1, "b.c": "y"}, {"a": 2, "b.c": "x"}, {"a": 2, "b.c": "y"},
    ]  # fmt: skip
    assert candidates({}) == []


def test_values_are_set_in_a_copy_and_keep_what_stands_beside_them() -> None:
    config = {"inner": {"other": 1}}
    assert with_values(config, {"inner.rate": 0.5, "n": 3}) == {"inner": {"other": 1, "rate": 0.5}, "n": 3}
    assert config == {"inner": {"other": 1}}


@pytest.mark.parametrize(
    ("config", "key", "expected"),
    [({}, "a.b", False), ({"a": {"b": None}}, "a.b", True), ({"a": {"c": 1}}, "a.b", False), ({"a": "whole"}, "a.b", True)],
)
def test_a_key_is_set_where_it_or_a_whole_above_it_is(config: dict[str, object], key: str, expected: bool) -> None:
    assert is_set(config, key) is expected
    assert (key in unset({key: [1]}, config)) is not expected


def test_dotted_keys_reach_into_parts_and_optional_parts() -> None:
    assert dotted_keys(Config) == ["inner.rate", "maybe.rate", "n"]
    assert written({"inner.rate": 1e-4, "n": 2}) == "inner.rate=0.0001, n=2"
