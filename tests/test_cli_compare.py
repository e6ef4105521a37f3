from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli import main

HOSTILE = '<script>alert(1)</script>\x1b[2J\\input{x}_%$#&{}~^"'


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["compare", *map(str, arguments)])
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


def table(path: Path, shares: dict[str, float], *, n_items: int = 120, tasks: tuple[str, ...] = ("arc", "piqa")) -> Path:
    """A CSV with models, tasks and 0/1 scores."""
    rng = np.random.default_rng(len(shares))
    rows = [
        json.dumps([model, task, f"q{item}", int(rng.random() < share)])[1:-1].replace('\\"', '""').replace("\\\\", "\\")
        for model, share in shares.items()
        for task in tasks
        for item in range(n_items)
    ]
    path.write_text("model,task,item,score\n" + "\n".join(row.replace(", ", ",").replace("\\u001b", "\x1b") for row in rows) + "\n")
    return path


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return table(tmp_path / "two.csv", {"tuned": 0.8, "base": 0.5})


def test_the_table_names_models_numbers_and_a_verdict_in_words(capsys: pytest.CaptureFixture[str], two: Path) -> None:
    code, out, err = call(capsys, two)
    assert (code, err) == (0, "")
    for word in ("arc", "piqa", "mean over tasks", "95 % interval", "p (Holm)", "p exact", "tuned better", "nothing about retraining"):
        assert word in out
    assert re.search(r"tuned is better than base on the mean over tasks by \d+\.\d points \(p < \.0001\)", out)


def test_json_holds_numbers_and_nothing_else_is_printed(capsys: pytest.CaptureFixture[str], two: Path) -> None:
    code, out, err = call(capsys, two, "--json", "--models", "base,tuned", "--alpha", "0.01")
    found = json.loads(out)
    assert (code, err, found["models"], found["alpha"]) == (0, "", ["base", "tuned"], 0.01)
    row = found["families"][0]["overall"][0]
    assert row["difference"] < 0
    assert row["interval"][0] < row["difference"] < row["interval"][1]
    assert row["verdict"] == "second better"


def test_models_called_like_columns_or_markup_change_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = call(capsys, table(tmp_path / "t.csv", {"p": 0.8, "[red]verdict": 0.5}))
    assert code == 0
    assert "[red]verdict" in out
    assert "p better" in out


def test_three_models_show_the_set_near_the_best(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = call(capsys, table(tmp_path / "t.csv", {"a": 0.7, "b": 0.7, "c": 0.2}))
    assert code == 0
    assert re.search("[ab] has the highest mean; not distinguishable from the best: [ab], [ab]; worse: c.\n", out)
    assert "6 more comparisons" in out


def test_of_many_models_the_pairs_with_the_best_are_printed_and_all_are_in_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = table(tmp_path / "t.csv", {f"m{index}": 0.5 for index in range(8)}, tasks=("arc",), n_items=40)
    _, out, _ = call(capsys, log)
    assert "21 more comparisons" in out
    _, out, _ = call(capsys, log, "--json")
    assert len(json.loads(out)["families"][0]["rows"]) == 28


def test_scores_whose_squares_overflow_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "t.csv"
    log.write_text("item,score\nq1,1e308\nq2,-1e308\n")
    code, _, err = call(capsys, f"a={log}", f"b={log}")
    assert code == 2
    assert "t.csv: score: 2 scores infinite or beyond ±1e+100, first of item 'q1'" in err


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_stands_alone_and_hostile_names_stay_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = table(tmp_path / "t.csv", {HOSTILE: 0.8, "base": 0.5}, tasks=("arc", "<img src=x onerror=alert(1)>"))
    code, out, _ = call(capsys, log, "--html", tmp_path / "page.html", "--latex", tmp_path / "table.tex")
    assert code == 0
    assert "\x1b" not in out
    page = (tmp_path / "page.html").read_text()
    parser = _Page()
    parser.feed(page)
    assert not {"script", "img", "link", "iframe"} & set(parser.tags)
    assert parser.links == []
    assert "prefers-color-scheme: dark" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page
    latex = (tmp_path / "table.tex").read_text()
    assert r"\textbackslash{}input\{x\}\_\%\$\#\&\{\}\textasciitilde{}" in latex
    assert all(ord(character) < 0x180 for character in latex)
    assert latex.count(r"\toprule") == 1


def test_latex_compiles_where_latex_is_installed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    latex = shutil.which("pdflatex")
    if latex is None:
        pytest.skip("no LaTeX here")
    log = table(tmp_path / "t.csv", {HOSTILE: 0.8, "base": 0.5})
    call(capsys, log, "--latex", tmp_path / "table.tex")
    (tmp_path / "main.tex").write_text(r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}\end{document}")
    subprocess.run([latex, "-halt-on-error", "main.tex"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.csv"], "no such file or folder"),
        (["{log}", "--alpha", "0.7"], "--alpha: expected a number between 0 and 0.5"),
        (["{log}", "--margin", "-1"], "--margin: expected a number above 0"),
        (["{log}", "--models", "tuned,bass"], "Did you mean 'base'"),
        (["{log}", "--models", ""], "--models: expected names of models"),
        (["{log}", "--models", "tuned,"], "--models: expected names of models"),
        (["{log}", "--models", "tuned,tuned"], "--models: a model is named twice (got 'tuned')"),
        (["{log}", "--models", "tuned"], "--models: a comparison needs two models"),
        (["{log}", "{log}"], "LOG: this log is given twice (got "),
        (["{log}", "--by", ""], "--by: expected the name of a field"),
        (["{log}", "--metric", "f1"], "--metric"),
        (["{log}", "--cluster", "passage"], "no column of this name for the cluster"),
        (["{log}", "--html", "no/such/folder/x.html"], "--html: cannot be written"),
        (["{log}", "--html", "{log}/x.html"], "two.csv is no folder"),
        (["{log}", "--latex", "/dev/null"], "--latex: cannot be written"),
        (["only={log}"], "holds 2 models"),
        ([""], "a path is empty"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *(argument.format(log=two) for argument in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("selfteach: ")
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("option", "own"), [("--by", "task"), ("--cluster", "cluster")])
def test_a_field_that_a_run_has_not_is_refused_with_the_one_it_has(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str, own: str
) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "study.json").write_text("{}")
    code, _, err = call(capsys, tmp_path, option, "nope")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{option}: a run is compared by its own tasks and clusters (got 'nope'). Valid: {own}." in err
    _, _, err = call(capsys, tmp_path, option, own)
    assert "its own tasks" not in err


def test_two_logs_of_the_same_models_are_refused_with_each_path_once(capsys: pytest.CaptureFixture[str], two: Path, tmp_path: Path) -> None:
    code, _, err = call(capsys, two, shutil.copy(two, tmp_path / "again.csv"), "--models", "tuned,base")
    assert (code, err.count("two.csv"), err.count("again.csv")) == (2, 1, 0)
    assert "cannot be told apart" in err


def test_a_page_that_cannot_be_written_is_refused_before_a_log_is_read(capsys: pytest.CaptureFixture[str], two: Path) -> None:
    code, _, err = call(capsys, two.with_name("nowhere.csv"), "--html", "/proc/x.html")
    assert (code, err.count("\n")) == (2, 1)
    assert "--html: nothing can be written in /proc" in err
    page = two.with_name("page.html")
    call(capsys, two.with_name("nowhere.csv"), "--html", page)
    assert sorted(page.parent.iterdir()) == [two], "trying leaves nothing behind"


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for word in ("Examples", "selfteach compare", "--intersect", "--cluster", "NAME=PATH"):
        assert word in out


def test_comparing_imports_no_torch(two: Path) -> None:
    code = (
        "import sys\nfrom harness.cli import main\n"
        f"try:\n    main(['compare', {str(two)!r}, '--html', {str(two.with_suffix('.html'))!r}])\nexcept SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'datasets', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


ROW = b'{"doc_id": 0, "metrics": ["acc"], "filter": "none", "doc_hash": "h", "prompt_hash": "p", "target_hash": "t", "acc": 1.0}\n'
HEADERS = (
    b"item,score\n",
    b"item,score,model\n",
    b"item;score\n",
    b"item\tscore\n",
    b"PK\x03\x04",
    b"PAR1",
    b"{",
    b"[",
    ROW,
    ROW[:60],
    b"",
)
PIECES = (
    *(
        b"q1,1\n",
        b"q2,0\n",
        b"q1,nan\n",
        b"q3,inf,x\n",
        b'"',
        b"\n",
        b"\x00",
        b"\xff",
        b",",
        b"{}",
        b"[]",
        b"]",
        b"}",
        b'"item":1,',
        b"1e999",
    ),
    *(b"[" * 2000, b"PAR1", ROW, ROW.replace(b"1.0", b"NaN"), ROW.replace(b"0,", b"null,"), ROW.replace(b"1.0", b'"x"')),
    *(ROW.replace(b'["acc"]', b'["f1"]'), b'{"item": "a", "score": 1}\n', b'{"item": "b", "score": true}\n'),
    *(b'{"item": [1], "score": {}}\n', b'{"item": "\\ud800", "score": 1}\n', b'[{"instance_id": 1, "stats": []}]'),
    b'{"eval": {"model": "m"}, "samples": [{"id": 1, "epoch": 1, "scores": {"s": {"value": "C"}}}]}',
)


def _one_message_or_a_result(capsys: pytest.CaptureFixture[str], folder: Path, content: bytes) -> None:
    path = folder / "log"
    path.write_bytes(content)
    other = folder / "other.csv"
    other.write_text("item,score\nq1,1\nq2,0\n")
    for arguments in ((path,), (f"A={path}", f"B={other}"), (f"A={path}", f"B={path}")):
        code, out, err = call(capsys, *arguments)
        assert code in (0, 2), (content, err)
        assert (code == 0) == (err == ""), (content, err)
        assert code == 0 or err.startswith("selfteach: "), (content, err)
        assert len(err) < 3000, (content[:100], len(err))
        assert "Traceback" not in err + out


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=st.sampled_from(HEADERS), pieces=st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=12)), max_size=8))
def test_whatever_is_in_a_file_the_answer_is_a_result_or_one_message(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, header: bytes, pieces: list[bytes]
) -> None:
    _one_message_or_a_result(capsys, tmp_path, header + b"".join(pieces))


@pytest.mark.slow
@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    header=st.sampled_from(HEADERS),
    pieces=st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=40), st.text().map(str.encode)), max_size=30),
)
def test_whatever_is_in_a_file_at_length(capsys: pytest.CaptureFixture[str], tmp_path: Path, header: bytes, pieces: list[bytes]) -> None:
    _one_message_or_a_result(capsys, tmp_path, header + b"".join(pieces))
