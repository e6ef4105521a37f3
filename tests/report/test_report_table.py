import csv
import io

import pytest
from synthetic_run import HOSTILE

from harness.report import numbers
from harness.report.table import Cell, Column, Table, amount, as_csv, as_latex, as_markdown, csv_text, label, words

COLUMNS = [
    Column("Method", "method", numeric=False),
    Column("Score", "score"),
    Column("", ends=("0", "1")),
    Column("Why", "why", numeric=False),
]


def table(*rows, **more):
    return Table("t", "Scores.", COLUMNS, rows, basis="Basis: 5 seeds.", **more)


def row(name="sft", value=0.123456789, interval=(0.1, 0.2), why="because"):
    return [label(name), amount(value, numbers.percent, interval=interval), Cell("", drawing={}, color_of="sft"), words(why)]


def test_csv_is_unrounded_with_the_interval_in_two_columns_and_without_drawings():
    (found,) = csv.DictReader(io.StringIO(as_csv(table(row()))))
    assert found == {"method": "sft", "score": "0.123456789", "score_low": "0.1", "score_high": "0.2", "why": "because"}


def test_missing_values_and_open_ends_are_empty_in_csv():
    lines = list(csv.reader(io.StringIO(as_csv(table(row(value=None, interval=None, why=None), row(interval=(None, 0.2)))))))
    assert lines[1] == ["sft", "", "", "", ""]
    assert lines[2] == ["sft", "0.123456789", "", "0.2", "because"]


def test_counts_are_whole_in_csv():
    assert "sft,3,,,because" in as_csv(table(row(value=3, interval=None), row()))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x"])
def test_no_text_is_a_formula(text):
    assert csv_text(text) == f"'{text}"
    assert csv_text(f"a{text}") == f"a{text}"


def test_printed_forms_carry_interval_note_flag_caption_and_basis():
    one = [label("sft", flag="tied"), amount(0.5, numbers.percent, interval=(0.4, 0.6), note="n = 9"), Cell(""), words("w")]
    made = as_markdown(table(one))
    assert "| sft (tied) | 50.0\u202f% [40.0\u202f%, 60.0\u202f%] (n = 9) | w |" in made
    assert "| --- | ---: | --- |" in made
    assert made.endswith("\nScores. Basis: 5 seeds.\n")
    tex = as_latex(table(one))
    assert r"\begin{tabular}{lrl}" in tex
    assert r"\caption{Scores. Basis: 5 seeds.}" in tex


def test_hostile_cells_break_no_format():
    nasty = HOSTILE + '|![x](http://attack.invalid)\\end{table}\n% a,"b'
    one, plain = table(row(name=nasty, why=nasty)), table(row())
    assert len(list(csv.reader(io.StringIO(as_csv(one))))) == 2
    lines = as_markdown(one).splitlines()
    assert len(lines) == len(as_markdown(plain).splitlines())
    assert lines[2].replace(r"\|", "").count("|") == lines[0].count("|")
    assert "](" not in lines[2].replace(r"]\(", "")
    assert "<" not in lines[2]
    assert as_latex(one).count(r"\end{table}") == 1


def test_a_row_has_a_cell_for_each_column():
    with pytest.raises(AssertionError, match="'t'"):
        table(row()[:2])
