"""The report's tables as files beside it: leaderboard, verdicts and phases by name, all others under tables/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.corpus import encodable
from harness.core.results import RunResults
from harness.core.store import write_text
from harness.report import sections, sweep_tables
from harness.report.boards import leaderboard_table
from harness.report.spending import phase_markdown
from harness.report.table import as_latex, as_markdown, csv_text, files
from harness.report.views import phase_shares

Files = dict[str, dict[str, str]]
"""Text of each table by name, then by the ending of its file."""


def leaderboard_frame(leaderboard: dict[str, Any]) -> pd.DataFrame:
    """One row per method with plain numbers; ranks only where the methods' compute was matched."""
    matched = bool(leaderboard.get("matched"))
    rows = []
    for row in leaderboard.get("rows") or []:
        low, high = row.get("interval") or (None, None)
        first, last = row.get("rank_interval") or (None, None)
        entry = {"method": row["method"], "score": row.get("value"), "score_low": low, "score_high": high}
        if matched:
            entry |= {"rank": row.get("rank"), "rank_first": first, "rank_last": last, "tied_with_best": row.get("tied_with_best")}
        entry |= {key: row.get(key) for key in ("n_seeds", "n_items", "train_flops", "wall_s", "cost_usd", "demonstrations", "comparisons")}
        entry |= {f"task:{task}": cell.get("value") for task, cell in (row.get("per_task") or {}).items()}
        rows.append(entry)
    return pd.DataFrame(encodable(rows))


def verdict_frame(verdicts: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per reading of a claim with plain numbers."""
    keys = ("claim_id", "reading", "primary", "verdict", "treatment", "comparator", "estimand", "metric_text", "threshold", "direction",
            "effect", "level", "p_value", "p_holm", "n_seeds", "n_items", "mde", "needed", "why", "sentence", "source")  # fmt: skip
    rows = []
    for verdict in verdicts:
        low, high = verdict.get("interval") or (None, None)
        rows.append({key: verdict.get(key) for key in keys} | {"effect_low": low, "effect_high": high})
    return pd.DataFrame(encodable(rows))


def safe_csv(frame: pd.DataFrame) -> str:
    """The frame as CSV whose texts no spreadsheet runs as formulas."""
    return frame.map(lambda value: csv_text(value) if isinstance(value, str) else value).to_csv(index=False)


def markdown(leaderboard: dict[str, Any]) -> str:
    """The leaderboard as a Markdown table."""
    return as_markdown(leaderboard_table(leaderboard))


def latex(leaderboard: dict[str, Any]) -> str:
    """The leaderboard as a LaTeX table (needs the booktabs package)."""
    return as_latex(leaderboard_table(leaderboard))


def page_files(context: dict[str, Any], run: RunResults) -> Files:
    """Every table of the page in every format, by name; the leaderboard's and the readings' CSV have more columns than the page shows."""
    found = {table.name: files(table) for table in sections.tables(context)}
    if "leaderboard" in found:
        found["leaderboard"]["csv"] = safe_csv(leaderboard_frame(run.leaderboard))
    if "readings" in found:
        found["readings"]["csv"] = safe_csv(verdict_frame(run.verdicts))
    return found


def write_tables(run_dir: Path, run: RunResults, made: Files) -> list[Path]:
    """Writes every table of the report into the run's folder; returns the paths.

    leaderboard.{csv,md,tex}, verdicts.csv, phases.md (where the compute went) and, of a sweep, sweep.{csv,md,tex} lie in the folder itself,
    all others in tables/.

    Args:
        made: what `page_files` gives.
    """
    contents = {
        "leaderboard.csv": safe_csv(leaderboard_frame(run.leaderboard)),
        "leaderboard.md": markdown(run.leaderboard),
        "leaderboard.tex": latex(run.leaderboard),
        **{f"leaderboard.{ending}": text for ending, text in made.get("leaderboard", {}).items()},
        "verdicts.csv": safe_csv(verdict_frame(run.verdicts)),
        "phases.md": phase_markdown(phase_shares(run.ledger)),
    }
    contents |= sweep_tables.files(run.leaderboard.get("sweep"), sections.basis(run))
    others = {name: forms for name, forms in made.items() if name != "leaderboard"}
    contents |= {f"tables/{name}.{ending}": text for name, forms in others.items() for ending, text in forms.items()}
    (run_dir / "tables").mkdir(exist_ok=True)
    for name, text in contents.items():
        write_text(run_dir / name, text)
    return [run_dir / name for name in contents]
