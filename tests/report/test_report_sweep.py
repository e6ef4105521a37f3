from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from harness.report import sweep, sweep_tables
from harness.report.page import _environment
from harness.report.tables import latex_escaped

TESTED = {"effect": 0.031, "interval": [0.01, 0.052], "p_value": 0.004, "p_holm": 0.048, "n_seeds": 5, "n_items": 120, "n_dropped": 0,
          "mde": 0.04, "why": ""}  # fmt: skip
REFUSED = dict.fromkeys(TESTED) | {"why": "compute was <b>not</b> matched"}
POINT = {"label": "sft", "value": 0.4, "interval": [0.35, 0.45], "n_seeds": 5, "n_items": 120, "why": ""}


def record(**parts: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {name: [] for name in sweep_tables.PARTS}
    table = {"measure": "score", "metric_text": "mean over 2 tasks (MMLU, siqa), equal weight per task", "tasks": [], "family": 12}
    return {
        "design": "one_at_a_time", "method": "selfteach", "alpha": 0.05, "power": 0.8, "notes": ["<i>few</i> seeds"], "blocks": [],
        "axes": [{"name": "policy", "key": "policy", "levels": ["ppo", "bandit"], "centre": "ppo", "of_study": False}],
        "tables": [table | empty | parts],
    }  # fmt: skip


ABLATION = [
    {"variant": f"selfteach:policy={level}", "centre": "selfteach", "block": "", "levels": {"policy": level}}
    | {"centre_levels": {"policy": "ppo"}}
    for level in ("bandit", "a|b&c")
]  # fmt: skip
FULL = record(
    ablation=[ABLATION[0] | TESTED, ABLATION[1] | REFUSED],
    main_effects=[{"axis": "policy", "level": "bandit", "centre": "ppo", "n_pairs": 3, "range": [0.01, 0.05], **TESTED}],
    interactions=[{"first": "policy", "first_level": "bandit", "second": "lr", "second_level": "0.1", **TESTED}],
    scaling=[
        {"method": "sft", "slope": 0.02, **{key: TESTED[key] for key in ("interval", "p_value", "n_seeds", "n_items", "n_dropped", "why")},
         "budgets": [1e12, 2e12],
         "points": [POINT | {"train_flops": 1e12}, POINT | {"train_flops": 2e12, "interval": None}]}
    ],
    slope_differences=[{"first": "sft", "second": "rlhf", "budgets": [1e12, 2e12], **TESTED}],
)  # fmt: skip


def test_every_part_has_a_table_with_effects_intervals_and_adjusted_p() -> None:
    tables = {table.part: table for table in sweep_tables.tables(FULL)}
    assert list(tables) == list(sweep_tables.PARTS)
    first, second = tables["ablation"].rows
    assert first == ("policy: bandit", "ppo", "+3.1\u202fpp", "[+1.0\u202fpp, +5.2\u202fpp]", "0.004", "0.048", "5 × 120", "4.0\u202fpp")
    assert second[2] == "compute was <b>not</b> matched"
    assert "all 12 tests" in tables["ablation"].caption
    assert tables["ablation"].caption.startswith("Mean over 2 tasks (MMLU, siqa)")
    for table in tables.values():
        assert all(len(row) == len(table.columns) for row in table.rows), table.part
        assert set(table.numeric) <= set(table.columns)
    assert [row[1] for row in tables["scaling"].rows] == ["1\u202fTFLOP", "2\u202fTFLOP"]
    assert tables["scaling"].rows[0][4] == "+2.0\u202fpp"
    assert tables["slope_differences"].rows[0][:3] == ("sft", "rlhf", "1\u202fTFLOP, 2\u202fTFLOP")


def test_an_incomplete_curve_is_marked_with_the_reason_at_its_budget() -> None:
    lacking = dict.fromkeys(POINT) | {"train_flops": 4e12, "why": "sft:budget=4e12 has no scores"}
    curve = FULL["tables"][0]["scaling"][0]
    (table,) = sweep_tables.tables(record(scaling=[curve | {"points": [*curve["points"], lacking]}]))
    assert [row[0] for row in table.rows] == ["sft (incomplete: 2 of 3 budgets scored)", "", ""]
    assert [row[2] for row in table.rows] == ["40.0\u202f%", "40.0\u202f%", "sft:budget=4e12 has no scores"]
    frame = sweep_tables.frame(FULL)
    assert frame["budgets"].tolist()[4:] == ["1e+12;2e+12"] * 2
    assert frame["budgets"][:4].isna().all()


def test_files_hold_the_same_tables() -> None:
    files = sweep_tables.files(FULL, latex_escaped=latex_escaped)
    assert set(files) == {"sweep.csv", "sweep.md", "sweep.tex"}
    assert r"a\|b&c" in files["sweep.md"]
    assert "<b>" not in files["sweep.md"]
    assert r"a\textbar{}b\&c" in files["sweep.tex"]
    assert files["sweep.tex"].count(r"\begin{tabular}") == 5
    assert sweep_tables.files(None, latex_escaped=latex_escaped) == {}
    frame = sweep_tables.frame(FULL)
    assert list(frame["what"]) == [
        "selfteach:policy=bandit", "selfteach:policy=a|b&c", "policy=bandit", "policy=bandit x lr=0.1", "sft", "sft - rlhf",
    ]  # fmt: skip
    assert frame["effect"].tolist()[4] == 0.02
    assert pd.isna(frame["effect"][1])


@pytest.mark.parametrize("given", [{}, {"sweep": None}])
def test_a_study_without_a_sweep_has_no_section(given: dict[str, Any]) -> None:
    assert sweep.context(given) == {"sweep": None}


def test_the_section_draws_effects_and_curves_and_escapes_every_text() -> None:
    environment = _environment()
    context = sweep.context({"sweep": FULL, "blocks": []})
    macros = environment.get_template("macros.html.j2").make_module({})
    page = environment.get_template("sweep.html.j2").render(context, m=macros)
    assert page.count("<svg") == 4, "effects of three kinds, and curves"
    assert "&lt;b&gt;not&lt;/b&gt;" in page
    assert "<i>few" not in page
    assert "p (Holm)" in page
