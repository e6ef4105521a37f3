from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd
import pytest
from report_helpers import Page
from synthetic_run import BUDGET, METHODS, synthetic_run

from harness.core.sweep_spec import SweepSpec
from harness.report import charts, sections, sweep, sweep_tables, tables
from harness.report.page import _environment
from harness.report.table import printed

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
    found = {one.part: one.table for one in sweep_tables.tables(FULL)}
    assert list(found) == list(sweep_tables.PARTS)
    head, first, second = printed(found["ablation"])
    assert head[2:] == ["Effect, 95 % interval", "p", "p (Holm)", "Seeds", "Items", "Detectable"]
    effect = "+3.1\u202fpp [+1.0\u202fpp, +5.2\u202fpp]"
    assert first == ["policy: bandit", "ppo", effect, "0.004", "0.048", "5", "120", "4.0\u202fpp"]
    assert second[2:] == ["– (compute was <b>not</b> matched)", *["–"] * 5]
    assert "all 12 tests" in found["ablation"].caption
    assert found["ablation"].caption.startswith("Mean over 2 tasks (MMLU, siqa)")
    rows = printed(found["scaling"])[1:]
    assert [row[1] for row in rows] == ["1\u202fTFLOP", "2\u202fTFLOP"]
    assert [row[5] for row in rows] == ["+2.0\u202fpp [+1.0\u202fpp, +5.2\u202fpp]"] * 2
    assert printed(found["slope_differences"])[1][:3] == ["sft", "rlhf", "1\u202fTFLOP, 2\u202fTFLOP"]


def test_an_incomplete_curve_is_marked_with_the_reason_at_its_budget() -> None:
    lacking = dict.fromkeys(POINT) | {"train_flops": 4e12, "why": "sft:budget=4e12 has no scores"}
    curve = FULL["tables"][0]["scaling"][0]
    (found,) = sweep_tables.tables(record(scaling=[curve | {"points": [*curve["points"], lacking]}]))
    rows = printed(found.table)[1:]
    assert [row[0] for row in rows] == ["sft (incomplete: 2 of 3 budgets scored)"] * 3
    assert [row[2] for row in rows] == [
        "40.0\u202f% [35.0\u202f%, 45.0\u202f%]", "40.0\u202f%", "– (sft:budget=4e12 has no scores)",
    ]  # fmt: skip
    frame = sweep_tables.frame(FULL)
    assert frame["budgets"].tolist()[4:] == ["1e+12;2e+12"] * 2
    assert frame["budgets"][:4].isna().all()


def test_files_hold_the_same_tables() -> None:
    files = sweep_tables.files(FULL, "Basis: 5 seeds.")
    assert set(files) == {"sweep.csv", "sweep.md", "sweep.tex"}
    assert r"a\|b&c" in files["sweep.md"]
    assert "<b>" not in files["sweep.md"]
    assert r"a\textbar{}b\&c" in files["sweep.tex"]
    assert files["sweep.tex"].count(r"\begin{tabular}") == files["sweep.md"].count("Basis: 5 seeds.") == 5
    assert sweep_tables.files(None, "") == {}
    frame = sweep_tables.frame(FULL)
    assert list(frame["what"]) == [
        "selfteach:policy=bandit", "selfteach:policy=a|b&c", "policy=bandit", "policy=bandit x lr=0.1", "sft", "sft - rlhf",
    ]  # fmt: skip
    assert frame["effect"].tolist()[4] == 0.02
    assert pd.isna(frame["effect"][1])


def test_tables_of_one_block_say_which_runs_they_cover() -> None:
    run = synthetic_run(seeds=2, items=4)
    spec = SweepSpec.model_validate({"axes": {"budget": {"key": "budget.train_flops", "values": [BUDGET, 2 * BUDGET]}}})
    methods = [{"name": name, "levels": {"budget": "2.4e14"}} for name in METHODS]
    methods += [
        {"name": name, "variant": "budget=4.8e14", "levels": {"budget": "4.8e14"}, "at": {"train_flops": 2 * BUDGET, "student": {}}}
        for name in METHODS
    ]
    swept = dataclasses.replace(run, study={**run.study, "methods": methods, "sweep": spec.model_dump(mode="json")})
    told = "Covers the runs at budget=2.4e14 alone, the study's own; not those at budget=4.8e14."
    for one, expected in ((swept, set(sections.OF_ONE_BLOCK)), (run, set())):
        found = sections.tables(sections.context(one, METHODS, charts.Palette(METHODS)))
        shown = {table.name for table in found}
        assert {"leaderboard", "tasks", "robustness", "front", "tracks", "audit", "trainings"} <= shown
        assert {table.name for table in found if told in table.caption} == expected & shown


@pytest.mark.parametrize("given", [{}, {"sweep": None}])
def test_a_study_without_a_sweep_has_no_section(given: dict[str, Any]) -> None:
    assert sweep.context(given) == {"sweep": None}


def section(leaderboard: dict[str, Any]) -> str:
    environment = _environment()
    context = sections.with_basis(sweep.context(leaderboard), "Basis: 5 seeds.")
    macros = environment.get_template("macros.html.j2").make_module({"palette": charts.Palette(["sft", "rlhf"])})
    return environment.get_template("sweep.html.j2").render(context, m=macros)


def test_the_section_draws_effects_and_curves_and_escapes_every_text() -> None:
    page = section({"sweep": FULL, "blocks": []})
    assert page.count("<svg") == 4, "effects of three kinds, and curves"
    assert "&lt;b&gt;not&lt;/b&gt;" in page
    assert "<i>few" not in page
    assert "p (Holm)" in page


BOARD = {
    "name": "budget=2e12", "train_flops": 2e12, "student": "m", "metric_text": "mean of 2 tasks", "matched": True, "match_spread": 0.01,
    "rows": [{"method": "sft", "value": 0.4, "interval": [0.3, 0.5], "rank": 1, "n_seeds": 5, "n_items": 120}],
}  # fmt: skip


def test_tables_sort_by_unrounded_values_name_their_basis_and_can_be_exported() -> None:
    """Text sorts +0.5, +9.5, +10.0, −1.2: what a number is sorted by stands beside it, in columns marked as numbers."""
    effects = (0.005, 0.095, 0.1, -0.012)
    swept = record(ablation=[ABLATION[0] | TESTED | {"effect": effect} for effect in effects])
    run = synthetic_run(seeds=2, items=4)
    run.leaderboard.update(sweep=swept, blocks=[BOARD])
    page = section(run.leaderboard)
    assert [float(value) for value in Page(page).values("data-v") if float(value) in effects] == list(effects)
    assert '<th scope="col" class="n">Effect, 95 % interval</th>' in page
    names = ["sweep_axes", "sweep_ablation_score", "leaderboard_1"]
    assert Page(page).values("data-name") == names
    assert page.count("Basis: 5 seeds.") == len(names)
    assert "2\u202fTFLOP of training for each run, student m." in page
    exported = tables.page_files(sections.context(run, METHODS, charts.Palette(METHODS)), run)
    assert set(names) <= set(exported)
    assert [line.split(",")[2] for line in exported["sweep_ablation_score"]["csv"].splitlines()] == ["effect", *map(str, effects)]
    assert "Basis: study" in exported["leaderboard_1"]["md"]
