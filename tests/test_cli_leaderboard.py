"""What `leaderboard` prints of names that somebody else chose."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.cli import leaderboard, main, targets
from harness.errors import StoreError


def test_the_id_of_a_row_is_no_markup_in_the_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(leaderboard, "console", lambda **_: Console(file=written, force_terminal=True, width=120))
    with leaderboard._progress() as report:
        report("x[/b]\x1b]0;title\x07", 1, 2)
    assert "x[/b]" in written.getvalue()
    assert "\x1b]0;" not in written.getvalue()


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("/proc/x.yaml", "nothing can be written in /proc"),
        ("/proc/x/y.yaml", "nothing can be written in /proc"),
        ("file/x.yaml", "file is no folder"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_runs_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(["leaderboard", "build", "no-such-run", "--out", out, "--unpublished"])
    err = capsys.readouterr().err
    assert (stop.value.code, err.count("\n")) == (2, 1)
    assert err.startswith("selfteach: --out: ")
    assert told in err
    assert out in err


def test_a_board_may_lie_in_folders_that_are_still_to_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "a" / "b" / "board.yaml"
    targets.check_file(out, "--out", make_parents=True)
    assert not list(tmp_path.iterdir()), "trying leaves nothing behind"
    targets.write_file(out, "text")
    assert out.read_text() == "text"

    def gone(path: Path, text: str) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(targets, "write_text", gone)
    with pytest.raises(StoreError, match=r"cannot write .*board\.yaml: No such file"):
        targets.write_file(out, "text")
