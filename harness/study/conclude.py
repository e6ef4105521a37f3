"""The end of a run: verdicts, leaderboard and report from whatever stages are finished."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.core.results import load_run
from harness.core.spec import StudySpec
from harness.core.store import write_json, write_text
from harness.verdicts.claims import find_claims, load_claims

CLAIMS = "claims"


def copy_claims(study: StudySpec, study_dir: Path, run_dir: Path) -> None:
    """Copies the study's claim files into the run's folder, where they stand for what was written down before the results."""
    folder = run_dir / CLAIMS
    folder.mkdir(exist_ok=True)
    names = set()
    for number, name in enumerate(study.claims):
        source = find_claims(name, study_dir)
        names.add(f"{number}-{source.stem}.yaml")
        write_text(folder / f"{number}-{source.stem}.yaml", source.read_text(encoding="utf-8"))
    for path in folder.glob("*.yaml"):
        if path.name not in names:
            path.unlink()


def conclude(run_dir: Path, console: Console) -> Path:
    """Writes verdicts.json, leaderboard.json and report.html; returns the report's path."""
    from harness.report.page import render
    from harness.verdicts.judge import judge
    from harness.verdicts.leaderboard import leaderboard

    results = load_run(run_dir)
    console.print("judging and writing the report", highlight=False)
    claims = [load_claims(path) for path in sorted((run_dir / CLAIMS).glob("*.yaml"))]
    write_json(run_dir / "verdicts.json", judge(results, claims))
    write_json(run_dir / "leaderboard.json", leaderboard(results))
    return render(run_dir)
