import csv
import io

import pandas as pd
import pytest
from matplotlib.figure import Figure
from synthetic_run import HOSTILE, METHODS, synthetic_run

from harness.report import page, table, tables


@pytest.fixture(scope="module")
def run():
    return synthetic_run(seeds=2, items=6)


def test_latex_is_escaped():
    assert table.latex_escaped(r"a_b & 5% $x$ #1 {y} ~ ^ \cmd <b>") == (
        r"a\_b \& 5\% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}cmd \textless{}b\textgreater{}"
    )


def test_latex_rows_have_as_many_cells_as_columns(run):
    run.leaderboard["rows"][0]["method"] = "a&b_c"
    text = tables.latex(run.leaderboard)
    columns = text.split(r"\begin{tabular}{")[1].split("}")[0]
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + len(METHODS)
    assert all(line.replace(r"\&", "").count("&") == len(columns) - 1 for line in body)
    assert r"a\&b\_c" in text
    run.leaderboard["rows"][0]["method"] = "selfteach"


def test_markdown_cells_cannot_break_the_table(run):
    board = {**run.leaderboard, "rows": [{**run.leaderboard["rows"][0], "method": f"a|b\\|c\n{HOSTILE}"}]}
    lines = tables.markdown(board).splitlines()
    assert r"\\" not in lines[2]
    assert len(lines[2].replace(r"\|", "").split("|")) == len(lines[0].split("|"))
    assert "<" not in lines[2]
    assert lines[3] == ""


@pytest.mark.parametrize("matched", [True, False])
def test_ranks_only_where_compute_was_matched(run, matched):
    board = {**run.leaderboard, "matched": matched}
    assert ("rank" in tables.leaderboard_frame(board)) == matched
    assert ("Rank" in tables.markdown(board)) == matched
    assert ("NOT matched" in tables.latex(board)) != matched


def test_csv_reads_back_with_full_precision(run):
    frame = tables.leaderboard_frame(run.leaderboard)
    back = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    assert back["score"].tolist() == frame["score"].tolist()
    assert back["method"].tolist() == [row["method"] for row in run.leaderboard["rows"]]


def test_verdict_csv_has_one_row_per_reading(run):
    rows = list(csv.DictReader(io.StringIO(tables.verdict_frame(run.verdicts).to_csv(index=False))))
    assert [row["verdict"] for row in rows] == [verdict["verdict"] for verdict in run.verdicts]
    assert rows[-1]["effect"] == rows[-1]["effect_low"] == ""


def test_export_writes_its_files(run, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "load_run", lambda folder: run)
    report, paths = page.render_with_tables(tmp_path)
    assert {report, *paths} == {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.html", "leaderboard.csv", "leaderboard.md", "leaderboard.tex", "verdicts.csv", "phases.md", "tables",
    }  # fmt: skip
    assert {path.suffix for path in (tmp_path / "tables").iterdir()} == {".csv", ".md", ".tex"}
    assert "Basis: study quickstart" in (tmp_path / "leaderboard.md").read_text(encoding="utf-8")


def test_report_and_tables_are_of_one_drawing(run, tmp_path, monkeypatch):
    drawn, draw = [], Figure.savefig

    def counted(figure, *rest, **more):
        drawn.append(figure)
        draw(figure, *rest, **more)

    monkeypatch.setattr(page, "load_run", lambda folder: run)
    monkeypatch.setattr(Figure, "savefig", counted)
    report, _ = page.render_with_tables(tmp_path)
    text = report.read_text(encoding="utf-8")
    assert len(drawn) == text.count("<svg ") > 5
    assert text == page.page(run), "the report is the same with tables and without"


def test_nothing_scored_yet_still_exports():
    assert tables.leaderboard_frame({}).empty
    assert tables.verdict_frame([]).empty
    assert "Method" in tables.markdown({})
