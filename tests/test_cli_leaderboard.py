"""What `leaderboard` prints of names that somebody else chose."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.cli import leaderboard


def test_the_id_of_a_row_is_no_markup_in_the_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(leaderboard, "console", lambda **_: Console(file=written, force_terminal=True, width=120))
    with leaderboard._progress() as report:
        report("x[/b]\x1b]0;title\x07", 1, 2)
    assert "x[/b]" in written.getvalue()
    assert "\x1b]0;" not in written.getvalue()
