"""Whether two runs of a study found the same: every file of every stage, wall-clock fields apart, and the leaderboard's scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.store import META, RunStore, file_sha256

CLOCK = {"wall_s", "energy_j", "host", "peak_memory_gib", "files", "checksum", "cost_usd", "human_s"}
"""Fields that time, not the computation, determines; `files` and `checksum` cover such fields."""


def differences(run_dir: Path, reference: Path) -> list[str]:
    """What differs between two finished runs, one sentence each; nothing if they found the same."""
    mine, theirs = RunStore(run_dir), RunStore(reference)
    ids = [{path.name for path in store.stages.iterdir() if path.name != "failed"} for store in (mine, theirs)]
    if ids[0] != ids[1]:
        return [f"stages differ: {sorted(ids[0] ^ ids[1])}"]
    found = []
    for stage in sorted(ids[0]):
        mine.verify(stage)
        found += [f"{stage}/{name}" for name in _differing_files(mine.folder(stage), theirs.folder(stage))]
    boards = [_without_clock(json.loads((store.root / "leaderboard.json").read_text())["rows"]) for store in (mine, theirs)]
    return [f"{name} differs" for name in found] + (["leaderboard.json: scores differ"] if boards[0] != boards[1] else [])


def _differing_files(mine: Path, theirs: Path) -> list[str]:
    names = [{str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} for folder in (mine, theirs)]
    return sorted(names[0] ^ names[1]) + [name for name in sorted(names[0] & names[1]) if not _same(mine / name, theirs / name)]


def _same(mine: Path, theirs: Path) -> bool:
    if mine.suffix == ".parquet":
        frames = [pd.read_parquet(path) for path in (mine, theirs)]
        left, right = (frame.drop(columns=[name for name in frame if name in CLOCK]) for frame in frames)
        return left.equals(right)
    if mine.name in (META, "checkpoints.json"):
        return bool(_without_clock(json.loads(mine.read_text())) == _without_clock(json.loads(theirs.read_text())))
    return file_sha256(mine) == file_sha256(theirs)


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clock(inner) for key, inner in value.items() if key not in CLOCK}
    return [_without_clock(inner) for inner in value] if isinstance(value, list) else value
