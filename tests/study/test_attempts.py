"""Notes that attempts at a stage leave, wherever driver and workers both reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.study.attempts import Attempts, Noted


@pytest.mark.parametrize("place", ["file://{folder}/a b/queue", "memory://begun"])
def test_each_attempt_is_counted_once_and_stages_apart(place: str, tmp_path: Path) -> None:
    root = place.format(folder=tmp_path)
    one, other = Attempts(f"{root}/one"), Attempts(f"{root}/other")
    assert one.taken() == 0
    for _ in range(3):
        assert Noted(lambda: "done", one)() == "done"
    assert other.taken() == 0
    other.begin()
    assert (one.taken(), one.taken()) == (3, 0), "what was counted is gone"
    assert other.taken() == 1


def test_what_fails_has_been_begun_and_a_place_that_cannot_be_written_stops_no_work(tmp_path: Path) -> None:
    def fails() -> None:
        raise RuntimeError("no such luck")

    attempts = Attempts(f"file://{tmp_path}/queue/one")
    with pytest.raises(RuntimeError, match="no such luck"):
        Noted(fails, attempts)()
    assert attempts.taken() == 1
    (tmp_path / "file").touch()
    assert Noted(lambda: "done", Attempts(f"file://{tmp_path}/file/one"))() == "done"
