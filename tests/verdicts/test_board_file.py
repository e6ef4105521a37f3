"""Leaderboard files: what is written reads back the same, and each mistake is one message with its line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import yaml

from harness.errors import SpecError
from harness.report import board as tables
from harness.verdicts.board_file import Board, dump_board, load_board

REPOSITORY = Path(__file__).parents[2]
SHA = "0" * 64
TEXT = f"""\
board: toy
schema_version: 1
models:
  base: {{source: "file:tiny", weights_sha256: "{SHA}", run: toy, method: base,
    trials: [{{trial: base-0, seed: 0, train_stage: a, score_stage: b, sealed: "{SHA}"}}]}}
  small: {{source: "hub:org/small"}}
runs:
  toy:
    path: ../toy
    study: toy
    device: cpu
    precision: float32
    threads: 1
    item_seed: 1
    versions: {{torch: "2"}}
    tasks:
      letters: {{suite: s, version: v 1, metric: acc, n: 12, items_sha256: "{SHA}"}}
rows:
  - {{id: base/letters, model: base, tasks: [letters], metric: acc, value: 0.5, interval: [0.4, 0.6], interval_by: items,
     n: 12, seeds: 1, margin: 0.05}}
sources:
  card: {{title: card, table: "1", read_in: "repo, path", harness: lm-eval, settings: zero-shot, licence: Apache-2.0}}
published:
  - {{id: small/piqa, model: small, task: piqa, metric: acc, value: 0.6, source: card}}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    return path


def test_a_board_reads_back_as_it_was_written(tmp_path: Path) -> None:
    board = load_board(written(tmp_path, TEXT))
    again = load_board(written(tmp_path, dump_board(board)))
    assert again == board
    assert dump_board(again) == dump_board(board)
    assert [row.id for row in board.every] == ["base/letters", "small/piqa"]


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("threads: 1", "treads: 1", 13, "treads"),
        ("model: base, tasks", "model: bse, tasks", 19, "'base'"),
        ("tasks: [letters]", "tasks: [lettres]", 19, "no such task"),
        ("run: toy, method", "run: tyo, method", 4, "no such run"),
        ("value: 0.5", "value: 0.9", 19, "must lie in its interval"),
        ("source: card}", "source: cart}", 24, "'card'"),
        ("id: small/piqa", "id: base/letters", 24, "another row has this id"),
        ("margin: 0.05", "margin: 0", 20, "greater than 0"),
        ("margin: 0.05", "margin: 0.4", 20, "less than or equal to 0.1"),
        (f'weights_sha256: "{SHA}", run', "run", 4, "needs the sha256 of its untrained weights"),
        ("run: toy, method", "run: toy, trained: true, method", 5, "a trained student needs the sha256"),
        ("schema_version: 1", "schema_version: 2", 2, "1"),
        ("title: card", 'title: "https://example.org"', 22, "no web address"),
        ("study: toy", "study: [", 9, "not valid YAML"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, told: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(SpecError) as raised:
        load_board(written(tmp_path, TEXT.replace(old, new)))
    assert "toy.yaml" in str(raised.value)
    assert told in str(raised.value)
    if "YAML" not in told:
        assert f"toy.yaml:{line}" in str(raised.value)


def test_an_empty_board_and_code_in_yaml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="at least one"):
        load_board(written(tmp_path, "board: toy\nschema_version: 1\n"))
    with pytest.raises(SpecError, match="not valid YAML"):
        load_board(written(tmp_path, "board: !!python/object/apply:os.getcwd []\n"))


@pytest.mark.parametrize("path", sorted((REPOSITORY / "results" / "leaderboards").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_committed_board_is_sound(path: Path) -> None:
    board = load_board(path)
    assert board.board == path.stem
    for run in board.runs.values():
        assert (path.parent / run.path / "study.json").is_file()
    for row in board.published:
        assert row.rescoring is None or row.rescoring.differs_in
    for source in board.sources.values():
        assert "index" not in source.read_in, "a place that no reader can look up"
        assert "commit" in source.read_in or "revision not known" in source.read_in


def test_tables_rank_and_escape(tmp_path: Path) -> None:
    content = yaml.safe_load(TEXT)
    worse = content["rows"][0] | {"id": "other/letters", "model": "a|<b>_", "value": 0.45}
    content["models"]["a|<b>_"] = content["models"]["base"]
    content["rows"].insert(0, worse)
    board = Board.model_validate(content)
    (_, rows), *_ = tables.groups(board)
    assert [row.id for row in rows] == ["base/letters", "other/letters"]
    assert r"a\|&lt;b>_" in tables.markdown(board)
    assert r"a\textbar{}\textless{}b\textgreater{}\_" in tables.latex(board)
    assert tables.as_csv(board).splitlines()[1].startswith("other/letters,a|<b>_,letters,clean,acc,0.45,0.4,0.6,12,1,0.05,toy")


def test_a_strangers_board_is_shown_and_never_run(tmp_path: Path) -> None:
    """Names in a file that somebody else wrote: a formula, a link to a script, a picture, the end of a table."""
    content = yaml.safe_load(TEXT)
    hostile = '=HYPERLINK("http://x","y")'
    breaking = "a\n\n# head\n![i](http://x/i.png) [k](javascript:alert(1))|"
    for name in (hostile, breaking):
        content["models"][name] = content["models"]["base"]
        content["rows"].append(content["rows"][0] | {"id": f"{name}/letters", "model": name})
    content["published"].append(content["published"][0] | {"id": "@SUM(1)", "metric": "+1\u001b[31m", "task": "-2"})
    board = Board.model_validate(content)
    rows = list(csv.reader(io.StringIO(tables.as_csv(board))))
    cells = [cell for row in rows for cell in row]
    assert "'" + hostile in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "-"))]
    assert not [cell for cell in cells if "\u001b" in cell]
    text = tables.markdown(board)
    assert "](" not in text
    assert r"\|" in text
    assert all(line.startswith(("|", "**")) for line in text.splitlines() if line)
    assert {line.count("|") - line.count(r"\|") for line in text.splitlines() if line.startswith("| ")} == {6, 7}
