"""The end of a run: verdicts, leaderboard, report and tables from whatever stages are finished."""

from __future__ import annotations

from pathlib import Path

from harness.core.results import load_run
from harness.core.store import write_json
from harness.study.run import CLAIMS
from harness.verdicts.claims import load_claims


def conclude(run_dir: Path) -> Path:
    """Writes verdicts.json, leaderboard.json and report.html; returns the report's path."""
    from harness.report.page import render

    judge_and_rank(run_dir)
    return render(run_dir)


def conclude_with_tables(run_dir: Path) -> tuple[Path, list[Path]]:
    """Writes what `conclude` does and the report's tables as files; returns the report's path and the tables'."""
    from harness.report.page import render_with_tables

    judge_and_rank(run_dir)
    return render_with_tables(run_dir)


def judge_and_rank(run_dir: Path) -> None:
    """Writes verdicts.json and leaderboard.json.

    The leaderboard is written with the rankings at equal spend on each axis ("axes"), the costs at equal quality ("equal_quality"), the
    differences on task families left out of training ("folds"), the front of cost and quality ("front") and scores along the runs
    ("tracks"), all at the study's own budget and student; and what a sweep found ("sweep").
    """
    from harness.core.blocks import blocks
    from harness.verdicts.axes import axes_table
    from harness.verdicts.equal_quality import equal_quality_table
    from harness.verdicts.evidence import checksums
    from harness.verdicts.folds import fold_effects
    from harness.verdicts.frames import Scores, restricted
    from harness.verdicts.front import cost_quality_front, score_tracks
    from harness.verdicts.judge import judge
    from harness.verdicts.leaderboard import leaderboard
    from harness.verdicts.sweep import sweep_tables

    results = load_run(run_dir, conclusions=False)
    claims = [load_claims(path) for path in sorted((run_dir / CLAIMS).glob("*.yaml"))]
    write_json(run_dir / "verdicts.json", judge(results, claims, checksums=checksums(results)))
    board, (own, *others) = leaderboard(results), blocks(results.study)
    compared = restricted(results, own.methods) if others else results
    scores = Scores(compared)
    tasks = list(dict.fromkeys(task for row in board["rows"] for task in row["per_task"]))
    along = {
        "axes": axes_table(compared, scores, tasks),
        "equal_quality": equal_quality_table(compared, scores, tasks),
        "front": cost_quality_front(compared, scores, tasks),
        "tracks": score_tracks(compared, scores, tasks),
        "folds": fold_effects(compared.fold_samples, results.study["tasks"]),
    }
    if results.study.get("sweep"):
        along["sweep"] = sweep_tables(results, tasks)
    write_json(run_dir / "leaderboard.json", board | along)
