"""What a run prints of its stages."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from harness.core.store import RunStore
from harness.study.display import RunDisplay
from harness.study.plan import Stage


def test_notes_of_a_stage_are_told_as_they_are(tmp_path: Path) -> None:
    written = io.StringIO()
    stage = Stage("ab12", "train", "sft", 0, (), {})
    store = RunStore(tmp_path)
    display = RunDisplay(Console(file=written, width=200), store, stages={stage.id: stage}, seconds={stage.id: 1.0}, threads=1)
    meta = {"wall_s": 1.0, "spent": {"train": 1e9}, "host": "h", "notes": ["3 examples [red]longer[/red] than 512 tokens left out"]}
    with display:
        display.started(stage)
        display.finished(stage, meta)
    lines = written.getvalue().splitlines()
    assert any("note" in line and "3 examples [red]longer[/red] than 512 tokens left out" in line for line in lines), lines


def test_a_retry_of_the_engines_own_is_in_the_journal_like_any_other(tmp_path: Path) -> None:
    written = io.StringIO()
    stage = Stage("ab12", "train", "sft", 0, (), {})
    store = RunStore(tmp_path)
    display = RunDisplay(Console(file=written, width=200), store, stages={stage.id: stage}, seconds={stage.id: 1.0}, threads=1)
    with display:
        display.started(stage)
        display.retried(stage, "its worker was lost")
        display.finished(stage, {"wall_s": 1.0, "spent": {"train": 1e9}, "host": "h"})
    events = store.journal.events()
    assert [event["event"] for event in events] == ["stage_started", "stage_killed", "stage_finished"]
    told = {key: events[1][key] for key in ("stage", "reason", "retry")}
    assert told == {"stage": "ab12", "reason": "its worker was lost", "retry": True}
    assert "train sft seed 0: its worker was lost; it was tried once more" in written.getvalue()
