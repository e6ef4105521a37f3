"""Frozen leaderboards of a tiny run: rebuilt, recomputed, scored again, trained again, and every tampering noticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.cli.leaderboard import DIFFERS_EXIT
from harness.core.results import load_run
from harness.core.store import RunStore
from harness.errors import SpecError, StoreError
from harness.verdicts.board_file import load_board
from tests.study.conftest import Workplace

BOARD = "results/leaderboards/toy.yaml"
Told = dict[str, Any]


@pytest.fixture
def board(published: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> Path:
    assert workplace.main("leaderboard", "build", published, "--out", BOARD) == 0
    capsys.readouterr()
    return workplace.root / BOARD


def reproduce(workplace: Workplace, capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, dict[str, Told]]:
    code = workplace.main("leaderboard", "reproduce", BOARD, "--json", *options)
    return code, {row["id"]: row for row in json.loads(capsys.readouterr().out)["rows"]}


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_rows_are_those_of_the_runs_leaderboard(board: Path, published: Path, workplace: Workplace, reference: Path) -> None:
    rows = {row.id: row for row in load_board(board).rows}
    for entry in load_run(published).leaderboard["rows"]:
        mean = rows[f"{entry['method']}/mean"]
        assert mean.value == pytest.approx(entry["value"], abs=1e-6)
        assert mean.interval == pytest.approx(entry["interval"], abs=1e-6)
        for task, cell in entry["per_task"].items():
            assert rows[f"{entry['method']}/{task}"].value == pytest.approx(cell["value"], abs=1e-6)
        assert f"{entry['method']}/mean@typos" in rows
    text = board.read_text()
    assert workplace.main("leaderboard", "build", published, "--out", BOARD) == SpecError.exit_code
    assert workplace.main("leaderboard", "build", published, "--out", BOARD, "--force") == 0
    assert board.read_text() == text
    # Built from the run itself the numbers are the same.
    assert workplace.main("leaderboard", "build", reference, "--out", "other.yaml") == 0
    assert [row.model_dump() for row in load_board(workplace.root / "other.yaml").rows] == [row.model_dump() for row in rows.values()]


def test_from_its_files_alone(board: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = reproduce(workplace, capsys)
    assert code == 0
    assert {row["verdict"] for row in rows.values()} == {"cannot run here"}
    assert all(row["recomputed"] for row in rows.values())
    assert "--student" in rows["toy_base/mean"]["why"]
    assert "--train" in rows["toy_sft/mean"]["why"]
    assert "2 students" in rows["toy_sft/mean"]["why"]
    code, rows = reproduce(workplace, capsys, "--rows", "*/toy_letters")
    assert sorted(rows) == ["toy_base/toy_letters", "toy_sft/toy_letters"]
    assert workplace.main("leaderboard", "reproduce", BOARD, "--rows", "none*") == SpecError.exit_code


def test_with_the_weights_here(
    board: Path,
    workplace: Workplace,
    reference: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ("--student", tiny_model, "--runs", reference.parent)
    code, rows = reproduce(workplace, capsys, *options)
    assert code == 0
    assert {row["verdict"] for row in rows.values()} == {"reproduced"}
    found = rows["toy_sft/mean"]["agreement"]
    assert (found["same"], found["paired"], found["n_seeds"]) == (48, 48, 2)
    # A second call finds the scores in the cache.
    monkeypatch.setattr("harness.study.rescore._scored", None)
    assert reproduce(workplace, capsys, *options) == (0, rows)


def test_an_untrained_student_with_other_weights_differs(
    board: Path, workplace: Workplace, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(tiny_model, workplace.root / "other"))
    weights = load_file(other / "model.safetensors")
    name = next(name for name in weights if name.endswith("norm.weight"))
    save_file(weights | {name: weights[name] + torch.tensor(0.5)}, other / "model.safetensors", metadata={"format": "pt"})
    code, rows = reproduce(workplace, capsys, "--student", other, "--rows", "toy_base/*")
    assert code == DIFFERS_EXIT
    assert all(row["verdict"] == "differs" and "other ones" in row["why"] for row in rows.values())


def test_trained_weights_that_were_changed_are_not_taken_for_the_frozen_ones(
    board: Path, workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(reference, workplace.run_dir)
    stage = str(load_run(reference).trials.set_index("trial_id").loc["toy_sft-0", "train_stage"])
    path = RunStore(workplace.run_dir).folder(stage) / "model" / "adapter_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    _, rows = reproduce(workplace, capsys, "--rows", "toy_sft/mean")
    assert rows["toy_sft/mean"]["students"] == "1 of 2 students"
    assert "1 student " in rows["toy_sft/mean"]["why"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("value: 0.5\n", "value: 0.500001\n", "value is written as"),
        ("seeds: 1\n", "seeds: 2\n", "seeds is written as"),
    ],
)
def test_a_changed_number_is_noticed(
    board: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str], old: str, new: str, told: str
) -> None:
    replaced(board, old, new)
    code, rows = reproduce(workplace, capsys, "--rows", "toy_base/*")
    differing = [row for row in rows.values() if row["verdict"] == "differs"]
    assert code == DIFFERS_EXIT
    assert len(differing) == 1
    assert all(told in row["why"] and row["recomputed"] is False for row in differing)


def test_changed_samples_texts_and_seals_are_noticed(
    board: Path, workplace: Workplace, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = load_board(board).models["toy_base"].trials[0]
    path = published / "stages" / trial.score_stage / "samples.parquet"
    untouched = path.read_bytes()
    frame = pd.read_parquet(path)
    frame.assign(value=1.0).to_parquet(path, index=False)
    code, rows = reproduce(workplace, capsys, "--rows", "toy_*/mean")
    assert code == DIFFERS_EXIT
    assert "does not match its checksum" in rows["toy_base/mean"]["why"]
    assert rows["toy_sft/mean"]["recomputed"]
    assert workplace.main("leaderboard", "reproduce", BOARD, "--rows", "toy_sft/*", "--json") == 0, "none of these rests on it"
    printed = capsys.readouterr()
    assert list(json.loads(printed.out)["changed"][str(published)]) == [trial.score_stage]
    assert str(path) in printed.err
    assert workplace.main("leaderboard", "build", published, "--out", "changed.yaml") == StoreError.exit_code, "a whole run is refused"
    path.write_bytes(untouched)
    ledger = published / "stages" / trial.train_stage / "ledger.parquet"
    kept = ledger.read_bytes()
    ledger.write_bytes(kept[:-1])
    code, rows = reproduce(workplace, capsys)
    assert code == DIFFERS_EXIT
    assert {row["recomputed"] for row in rows.values() if row["id"].startswith("toy_sft/")} == {True}
    assert all(str(ledger) in row["why"] for row in rows.values() if row["id"].startswith("toy_base/"))
    ledger.write_bytes(kept)
    replaced(board, f"sealed: {trial.sealed}", f"sealed: {'f' * 64}")
    code, rows = reproduce(workplace, capsys, "--rows", "toy_base/mean")
    assert code == DIFFERS_EXIT
    assert "another one than the one that was frozen" in rows["toy_base/mean"]["why"]


def test_a_run_that_is_not_here_cannot_be_reproduced(
    board: Path, workplace: Workplace, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(published)
    code, rows = reproduce(workplace, capsys)
    assert code == 0
    assert all(row["recomputed"] is None and "not here" in row["why"] for row in rows.values())


def test_trained_again(board: Path, workplace: Workplace, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--student", tiny_model, "--rows", "toy_sft/*", "--train", "--limit-seeds", 1)
    code, rows = reproduce(workplace, capsys, *options)
    assert code == 0
    assert {row["verdict"] for row in rows.values()} == {"reproduced"}
    assert "trained again to the same weights" in rows["toy_sft/mean"]["why"]
    assert (workplace.root / "results" / "runs" / "toy-again" / "study.json").is_file()
    _, again = reproduce(workplace, capsys, *options)
    assert [row["verdict"] for row in again.values()] == [row["verdict"] for row in rows.values()]


def test_hub_models_cannot_run_here_and_published_rows_say_why(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(Path(__file__).parents[2] / "results" / "leaderboards" / "published.yaml", workplace.root / "published.yaml")
    assert workplace.main("leaderboard", "reproduce", "published.yaml", "--rows", "pythia-410m/*", "--json") == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert {row["verdict"] for row in rows.values()} == {"cannot run here"}
    assert "hub:EleutherAI/pythia-410m" in rows["pythia-410m/piqa/acc_norm"]["why"]
    assert workplace.main("leaderboard", "show", "published.yaml", "--format", "csv") == 0
    assert "SmolLM2-135M/piqa" in capsys.readouterr().out
    assert workplace.main("leaderboard", "show", "published.yaml", "--format", "pdf") == SpecError.exit_code
