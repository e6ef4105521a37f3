from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.journal import Journal
from harness.errors import StoreError


def test_events_come_back_in_order_with_their_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for number in range(3):
        journal.append("stage_finished", stage=str(number), error="é\n\u2028 \x1b[2J")
    events = journal.events()
    assert [event["stage"] for event in events] == ["0", "1", "2"]
    assert events[0]["error"] == "é\n\u2028 \x1b[2J"
    assert events[0]["t"] <= events[2]["t"]


def test_a_journal_that_was_never_written_is_empty(tmp_path: Path) -> None:
    assert Journal(tmp_path / "journal.jsonl").events() == []


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_dropped_and_the_next_event_survives(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append("run_started")
    journal.append("stage_started", stage="é" * 10)
    path.write_bytes(path.read_bytes()[:-cut])
    kept = len(journal.events())
    assert kept == (2 if cut == 1 else 1), "without its newline alone, the line is whole"
    journal.append("run_started", again=True)
    assert [event["event"] for event in journal.events()][-1] == "run_started"
    assert len(journal.events()) == kept + 1


def test_a_line_torn_inside_a_character_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).append("run_started")
    with path.open("ab") as file:
        file.write('{"t": 1, "event": "é'.encode()[:-1])
    assert len(Journal(path).events()) == 1


def test_damage_in_the_middle_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.append("stage_started", stage=str(number))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:10], lines[2], ""]))
    with pytest.raises(StoreError, match="line 2 is damaged"):
        journal.events()


@pytest.mark.parametrize("tail", [b"\x00" * 4096, b'{"t": 1, "event": "stage_fin', b"\xff\xfe", b"[]"])
def test_what_a_power_loss_left_is_cut_off_by_the_next_event_of_any_kind(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append("run_started")
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert [event["event"] for event in journal.events()] == ["run_started"]
    journal.append("stage_damaged", stage="a")
    journal.append("stage_started", stage="a")
    assert [event["event"] for event in journal.events()] == ["run_started", "stage_damaged", "stage_started"]
    assert path.read_bytes().startswith(whole + b'{"t"')


def test_order_is_that_of_writing_whatever_the_clock_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for number, t in enumerate([1e9, 1e9 - 5 * 86400, 2e9, 0.0]):
        monkeypatch.setattr("time.time", lambda t=t: t)
        journal.append("stage_started", stage=str(number))
    assert [event["stage"] for event in journal.events()] == ["0", "1", "2", "3"]
