"""The robustness section and its table for the terminal: rows, units, runs of before, hostile names."""

from __future__ import annotations

from typing import Any

from report_helpers import Page
from synthetic_run import synthetic_run

from harness.report import charts, page, robustness
from harness.verdicts.robustness import EVERY_TASK

HOSTILE = "<script>alert(1)</script>"


def loss(perturbation: str, **changes: Any) -> dict[str, Any]:
    return {
        "method": "sft", "scope": EVERY_TASK, "perturbation": perturbation, "higher_is_better": True, "clean": 0.5, "value": 0.4,
        "drop": 0.1,
        "interval": [0.05, 0.15], "level": 0.95, "n_seeds": 3, "n_items": 90, "p_value": 0.01, "p_holm": 0.02, "retention": 0.8,
        "retention_interval": [0.7, 0.9], "n_asked": 100, "rejected": 4, "inapplicable": 6, "per_task": {},
    } | changes  # fmt: skip


def test_the_terminal_table_writes_shares_in_points_and_other_units_as_they_are() -> None:
    rows = [
        loss("typos"),
        loss("worst", p_holm=None),
        loss("typos", scope="edits", clean=3.0, value=4.5, drop=1.5, interval=[1.0, 2.0], retention=None),
    ]
    first, worst, edits = robustness.table({"rows": rows})
    plain = [cell.replace("\u202f", " ") for cell in first]
    assert plain == [EVERY_TASK, "typos", "50.0 %", "40.0 %", "+10.0 pp", "[+5.0 pp, +15.0 pp]", "0.020", "80.0 %", "90/100", "4", "6"]
    assert worst[1] == "worst of all"
    assert worst[6] == "–"
    assert edits[2:5] == ("3", "4.50", "1.50")
    assert len(robustness.COLUMNS) == len(first)


def test_a_leaderboard_of_before_shows_its_drops() -> None:
    old = {"rows": [{"method": "sft", "value": 0.5, "robustness": {"typos": {"value": 0.4, "drop": 0.1, "interval": [0.0, 0.2]}}}]}
    found = robustness.context(old, charts.Palette(["sft"]))
    (row,) = found["robustness_table"].rows
    asked = [column.key for column in found["robustness_table"].columns].index("n_asked")
    assert (row[2].text, row[5].value, row[5].interval, row[asked].value) == ("typos", 0.1, (0.0, 0.2), None)
    assert robustness.context({}, charts.Palette([]))["robustness_table"] is None


def test_the_section_shows_losses_pairs_and_folds_and_escapes_names() -> None:
    run = synthetic_run(seeds=2, items=6)
    pair = {
        "first": "sft", "second": "selfteach", "scope": EVERY_TASK, "perturbation": HOSTILE, "difference": -0.04, "interval": [-0.1, 0.02],
        "p_value": 0.2, "p_holm": 0.4, "n_seeds": 2, "n_items": 90, "tasks": ["t"], "level": 0.95,
    }  # fmt: skip
    fold = {
        "first": "sft", "second": "selfteach", "difference": 0.06, "interval": [-0.02, 0.14], "level": 0.95, "p_value": 0.1, "p_holm": 0.1,
        "these_families": [0.01, 0.11], "per_fold": {HOSTILE: 0.03, "gcd": 0.09}, "n_folds": 2, "n_seeds": 2, "n_items": 40, "n_dropped": 0,
    }  # fmt: skip
    run.leaderboard["robustness"] = {"rows": [loss("typos"), loss(HOSTILE)], "pairs": [pair]}
    run.leaderboard["folds"] = [fold]
    html = page.page(run)
    assert HOSTILE not in html
    text = " ".join(Page(html).text().replace("\u202f", " ").split())
    for told in ("+10.0 pp", "80.0 % [70.0 %, 90.0 %]", "−4.0 pp", "+6.0 pp", "[+1.0 pp, +11.0 pp]", "gcd +9.0 pp", HOSTILE):
        assert told in text, told
