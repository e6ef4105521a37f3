"""`selfteach score` as a user runs it, on a tiny random model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from harness.cli import main
from harness.core.records import SAMPLE_COLUMNS


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


def score(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    return call(capsys, "score", *arguments)


def test_the_table_shows_score_interval_denominator_flag_licence_and_source(capsys: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    code, out, err = score(capsys, "--model", tiny_model, "--suite", "pool_validation", "--limit", "3")
    assert code == 0, err
    for part in ("validation_reasoning", "share_strict", "95 % interval", "3/3", "Apache-2.0", "reasoning-gym", "floor", "TFLOP"):
        assert part in out


def test_files_are_lm_evals_and_compare_reads_them(capsys: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(tiny_model, tmp_path / name)
    out = tmp_path / "scores"
    arguments = ("--suite", "cost", "--suite", "correction", "--tasks", "answer_length,correction_constraints", "--limit", "8")
    printed = [score(capsys, "--model", tmp_path / name, *arguments, "--out", out, "--json") for name in ("first", "second")]
    found = json.loads(printed[0][1])
    assert printed[0][2] == ""
    assert {row["task"]: (row["n_scored"], row["n_asked"]) for row in found["rows"]} == {
        "answer_length": (8, 8),
        "correction_constraints": (8, 8),
    }
    folders = sorted(out.iterdir())
    assert len(folders) == 2
    assert not list(out.rglob("*.tmp"))
    (results,) = folders[0].glob("results_*.json")
    (samples,) = folders[0].glob("samples_answer_length_*.jsonl")
    words = [json.loads(line) for line in samples.read_text().splitlines()]
    assert json.loads(results.read_text())["results"]["answer_length"]["words,none"] == pytest.approx(
        sum(line["words"] for line in words) / 8
    )
    (table,) = folders[0].glob("*.parquet")
    assert list(pd.read_parquet(table).columns) == list(SAMPLE_COLUMNS)
    (samples_again,) = folders[1].glob("samples_answer_length_*.jsonl")
    code, compared, err = call(capsys, "compare", samples, samples_again, "--metric", "words")
    assert code == 0, err
    assert "answer_length" in compared
    assert "first" in compared


def test_a_perturbed_version_stands_below_its_clean_one(capsys: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path) -> None:
    arguments = ("--suite", "generation", "--tasks", "reasoning_lcm", "--limit", "4", "--perturb", "case", "--out", tmp_path, "--json")
    code, out, err = score(capsys, "--model", tiny_model, *arguments)
    assert code == 0, err
    assert [row["perturbation"] for row in json.loads(out)["rows"]] == ["clean", "case"]
    assert len(list(tmp_path.rglob("samples_reasoning_lcm@case_*.jsonl"))) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--suite", "generatoin"), 2, "Did you mean 'generation'"),
        (("--suite", "cost", "--tasks", "answer_lenght"), 2, "Did you mean 'answer_length'"),
        (("--suite", "cost", "--perturb", "typoes"), 2, "Did you mean 'typos'"),
        (("--suite", "cost", "--perturb", "typos@much"), 2, "expected NAME[@STRENGTH][#SEED]"),
        (("--suite", "lm_eval"), 2, "name some"),
        (("--suite", "cost", "--limit", "0"), 2, "limit"),
        (("--model", "no-such-model", "--suite", "cost"), 2, "expected a known name"),
        (("--model", "file:/no/such/folder", "--suite", "cost"), 3, "no such file or folder"),
    ],
)
def test_a_mistake_is_one_message(
    capsys: pytest.CaptureFixture[str], tiny_model: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    model = () if "--model" in arguments else ("--model", tiny_model)
    found, out, err = score(capsys, *model, *arguments)
    assert (found, out) == (code, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_a_file_where_the_folder_should_be_is_told_before_any_work(
    capsys: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("")
    for out in (tmp_path / "taken", tmp_path / "taken" / "below", Path("/proc/no-such-folder")):
        code, _, err = score(capsys, "--model", tiny_model, "--suite", "cost", "--out", out)
        assert (code, "expected a folder" in err) == (2, True), err
