"""The leaderboard and the verdicts as CSV, Markdown and LaTeX files beside the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.results import load_run
from harness.core.store import write_text
from harness.report import numbers, sweep_tables
from harness.report.spending import phase_markdown
from harness.report.text import visible
from harness.report.views import phase_shares

_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "\u2212": r"\ensuremath{-}", "\u2013": "--", "\u202f": r"\,", "×": r"\ensuremath{\times}", "\n": " ", "\t": " ",
})  # fmt: skip


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
    return pd.DataFrame(rows)


def verdict_frame(verdicts: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per reading of a claim with plain numbers."""
    keys = ("claim_id", "reading", "primary", "verdict", "treatment", "comparator", "estimand", "metric_text", "threshold", "direction",
            "effect", "level", "p_value", "p_holm", "n_seeds", "n_items", "mde", "needed", "why", "sentence", "source")  # fmt: skip
    rows = []
    for verdict in verdicts:
        low, high = verdict.get("interval") or (None, None)
        rows.append({key: verdict.get(key) for key in keys} | {"effect_low": low, "effect_high": high})
    return pd.DataFrame(rows)


def _printed(leaderboard: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the leaderboard as people read it."""
    matched, tasks = bool(leaderboard.get("matched")), _tasks(leaderboard)
    header = [*(["Rank"] if matched else []), "Method", "Score", "95% interval", "Seeds x items", "Train compute", "Cost", *tasks]
    body = []
    for row in leaderboard.get("rows") or []:
        first, last = row.get("rank_interval") or (row.get("rank"), row.get("rank"))
        rank = [f"{numbers.count(first)}–{numbers.count(last)}"] if matched else []
        cells = [(row.get("per_task") or {}).get(task) or {} for task in tasks]
        scores = [numbers.percent(cell.get("value")) + ("*" if cell.get("at_chance") else "") for cell in cells]
        body.append([
            *rank, visible(row["method"]), numbers.percent(row.get("value")), numbers.interval(row.get("interval")),
            f"{numbers.count(row.get('n_seeds'))} × {numbers.count(row.get('n_items'))}", numbers.flops(row.get("train_flops")),
            numbers.dollars(row.get("cost_usd")), *scores,
        ])  # fmt: skip
    return header, body


def _tasks(leaderboard: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(visible(task) for row in leaderboard.get("rows") or [] for task in row.get("per_task") or {}))


def _caption(leaderboard: dict[str, Any]) -> str:
    unmatched = "" if leaderboard.get("matched") else " Training compute was NOT matched: no ranks."
    text = visible(leaderboard.get("metric_text", "")).rstrip(".")
    return f"{text}. Compute under convention flops-v1.{unmatched} An asterisk marks scores not above chance."


def markdown(leaderboard: dict[str, Any]) -> str:
    """The leaderboard as a Markdown table."""
    header, body = _printed(leaderboard)
    lines = [header, ["---"] * len(header), *body]
    table = "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ") for cell in line) + " |" for line in lines
    )
    return f"{table}\n\n{_caption(leaderboard).replace('<', '&lt;')}\n"


def latex_escaped(text: str) -> str:
    """`text` so that LaTeX prints it as it is."""
    return text.translate(_LATEX)


def latex(leaderboard: dict[str, Any]) -> str:
    """The leaderboard as a LaTeX table (needs the booktabs package)."""
    header, body = _printed(leaderboard)
    lines = [" & ".join(map(latex_escaped, line)) + r" \\" for line in (header, *body)]
    columns = "l" * (2 if leaderboard.get("matched") else 1)
    columns += "r" * (len(header) - len(columns))
    rows = "\n".join(lines[1:])
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{latex_escaped(_caption(leaderboard))}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{lines[0]}\n\\midrule\n{rows}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def export_tables(run_dir: Path) -> list[Path]:
    """Writes leaderboard.{csv,md,tex}, verdicts.csv, phases.md (where compute went) and, of a sweep, sweep.{csv,md,tex}; returns paths."""
    run = load_run(run_dir)
    contents = {
        "leaderboard.csv": leaderboard_frame(run.leaderboard).to_csv(index=False),
        "leaderboard.md": markdown(run.leaderboard),
        "leaderboard.tex": latex(run.leaderboard),
        "verdicts.csv": verdict_frame(run.verdicts).to_csv(index=False),
        "phases.md": phase_markdown(phase_shares(run.ledger)),
    }
    contents |= sweep_tables.files(run.leaderboard.get("sweep"), latex_escaped=latex_escaped)
    for name, text in contents.items():
        write_text(run_dir / name, text)
    return [run_dir / name for name in contents]
