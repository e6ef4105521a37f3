"""Frozen leaderboards of a tiny run: rebuilt, recomputed, scored again, trained again, and every tampering noticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from harness.cli.leaderboard import DIFFERS_EXIT, NOTHING_CHECKED_EXIT
from harness.core.results import load_run
from harness.core.spec import StudySpec, load_study
from harness.core.store import RunStore
from harness.errors import EngineError, SpecError, StoreError
from harness.study import rescore
from harness.study.plan import Setting, plan_study
from harness.study.retrain import study_again
from harness.verdicts.board_file import Model, Trial, load_board
from harness.verdicts.recheck import KeptRun, frozen_problem
from tests.study.conftest import Workplace

BOARD = "results/leaderboards/toy.yaml"
Told = dict[str, Any]
WANTED = {"toy_sft": (Model(source="file:toy"), [Trial(trial="toy_sft-1", seed=1, train_stage="t", score_stage="s", sealed="0" * 64)])}


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
    assert workplace.main("leaderboard", "build", reference, "--out", "other.yaml", "--unpublished") == 0
    assert [row.model_dump() for row in load_board(workplace.root / "other.yaml").rows] == [row.model_dump() for row in rows.values()]


def test_a_run_that_others_cannot_have_is_refused(
    published: Path, workplace: Workplace, reference: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = ("leaderboard", "build")
    assert workplace.main(*build, reference, "--out", "own.yaml") == SpecError.exit_code
    assert "not published" in capsys.readouterr().err
    (workplace.root / "boards" / ".git").mkdir(parents=True)
    assert workplace.main(*build, published, "--out", "boards/elsewhere.yaml") == SpecError.exit_code
    assert "lies outside" in capsys.readouterr().err
    assert not (workplace.root / "own.yaml").exists()
    assert workplace.main(*build, reference, "--out", "own.yaml", "--unpublished") == 0
    text = (workplace.root / "own.yaml").read_text()
    assert str(tiny_model) not in text
    assert {model.source for model in load_board(workplace.root / "own.yaml").models.values()} == {f"file:{tiny_model.name}"}


def test_what_a_board_leaves_out_is_said_and_an_unfinished_run_refused(
    published: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = load_run(published).trials.set_index("trial_id")
    shutil.rmtree(published / "stages" / str(trials.loc["toy_sft-1", "score_stage"]))
    assert workplace.main("report", published) == 0
    capsys.readouterr()
    build = ("leaderboard", "build", published, "--out", BOARD, "--json")
    assert workplace.main(*build) == SpecError.exit_code
    assert "toy_sft-1: pending" in capsys.readouterr().err
    assert workplace.main(*build, "--partial") == 0
    assert "student toy_sft-1: pending" in json.loads(capsys.readouterr().out)["left_out"]


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
    assert workplace.main("leaderboard", "reproduce", BOARD, "--rows", "*/toy_letters") == 0
    assert "0 scored again, 2 only recomputed from kept files, 0 not checked at all" in capsys.readouterr().out


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


@pytest.fixture
def other_model(workplace: Workplace, tiny_model: Path) -> Path:
    """The tiny model with one weight matrix changed."""
    other = Path(shutil.copytree(tiny_model, workplace.root / "other"))
    weights = load_file(other / "model.safetensors")
    name = next(name for name in weights if name.endswith("norm.weight"))
    save_file(weights | {name: weights[name] + torch.tensor(0.5)}, other / "model.safetensors", metadata={"format": "pt"})
    return other


def test_students_with_another_base_differ_whatever_the_cache_has(
    board: Path, workplace: Workplace, reference: Path, tiny_model: Path, other_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ("--runs", reference.parent)
    code, rows = reproduce(workplace, capsys, *runs, "--student", tiny_model)
    assert (code, {row["verdict"] for row in rows.values()}) == (0, {"reproduced"})
    code, rows = reproduce(workplace, capsys, *runs, "--student", other_model)
    assert code == DIFFERS_EXIT
    assert all(row["verdict"] == "differs" and "other ones" in row["why"] for row in rows.values())
    # Nothing is trained on it either.
    code, rows = reproduce(workplace, capsys, "--rows", "toy_sft/mean", "--train", "--student", other_model)
    assert code == DIFFERS_EXIT
    assert "other ones" in rows["toy_sft/mean"]["why"]
    assert not (workplace.root / "results" / "runs" / "toy-again").exists()


def test_scores_are_kept_by_base_and_engine(reference: Path, tiny_model: Path, other_model: Path) -> None:
    stage = str(load_run(reference).trials.set_index("trial_id").loc["toy_sft-0", "train_stage"])
    folder = reference / "stages" / stage / "model"
    wanted = rescore.Wanted((), (), 1, 1)
    students = [rescore.FoundStudent(folder, trained=True, base=base) for base in (tiny_model, other_model)]
    assert rescore._key(students[0], wanted) != rescore._key(students[1], wanted)
    assert rescore._key(students[0], wanted) == rescore._key(students[0], wanted)


def test_students_are_scored_by_the_engine_of_their_study(
    board: Path,
    workplace: Workplace,
    reference: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.models.engines.vllm_install.find_vllm", lambda: None)
    with pytest.raises(EngineError):
        rescore.score_again(rescore.FoundStudent(tiny_model, trained=False), rescore.Wanted((), (), 1, 1, engine="vllm"), progress=None)
    original = rescore.study_of

    def on_vllm(record: dict[str, Any]) -> StudySpec:
        study = original(record)
        return study.model_copy(update={"student": study.student.model_copy(update={"engine": "vllm"})})

    monkeypatch.setattr("harness.study.rescore.study_of", on_vllm)
    _, rows = reproduce(workplace, capsys, "--student", tiny_model, "--runs", reference.parent, "--rows", "*/mean")
    assert {row["verdict"] for row in rows.values()} == {"cannot run here"}
    assert all("vLLM is not installed" in row["why"] for row in rows.values())


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_trained_students_that_were_changed_are_not_taken_for_the_frozen_ones(
    board: Path, workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(reference, workplace.run_dir)
    stage = str(load_run(reference).trials.set_index("trial_id").loc["toy_sft-0", "train_stage"])
    path = RunStore(workplace.run_dir).folder(stage) / "model" / name
    if name.endswith(".json"):
        replaced(path, '"lora_alpha": 8', '"lora_alpha": 800')
    else:
        save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    code, rows = reproduce(workplace, capsys, "--rows", "toy_sft/mean")
    assert code == 0
    assert rows["toy_sft/mean"]["students"] == "1 of 2 students"
    assert rows["toy_sft/mean"]["verdict"] == "reproduced in part"
    assert "only 1 of 2 students scored" in rows["toy_sft/mean"]["why"]
    assert "the weights of 1 student " in rows["toy_sft/mean"]["why"]
    assert workplace.main("leaderboard", "reproduce", BOARD, "--rows", "toy_sft/mean") == 0
    assert "1 rows: 1 reproduced in part;" in capsys.readouterr().out


def test_lost_scores_are_told_and_are_no_agreement(
    board: Path, workplace: Workplace, tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = rescore._scored

    def half_lost(*arguments: Any) -> pd.DataFrame:
        samples = original(*arguments)
        gone = samples["sample_id"].isin(samples["sample_id"].drop_duplicates()[::2])
        return samples.assign(value=samples["value"].mask(gone), status=samples["status"].mask(gone, "error"))

    monkeypatch.setattr("harness.study.rescore._scored", half_lost)
    _, rows = reproduce(workplace, capsys, "--student", tiny_model, "--rows", "toy_base/mean")
    assert rows["toy_base/mean"]["verdict"] == "undecided"
    assert rows["toy_base/mean"]["agreement"]["lost"] == 12
    assert "12 of 24 cells have a score in one of both only" in rows["toy_base/mean"]["why"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("value: 0.5\n", "value: 0.500001\n", "value is written as"),
        ("seeds: 1\n", "seeds: 2\n", "seeds is written as"),
        ("interval_by: 95 %, items", "interval_by: bootstrap", "interval_by is written as bootstrap"),
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


TAMPERED: dict[str, object] = {
    "row.metric": "f1",
    "row.n": 13,
    "runs.toy.device": "cuda H100",
    "runs.toy.precision": "float64",
    "runs.toy.threads": 64,
    "runs.toy.versions.torch": "9.9",
    "runs.toy.commit": "f" * 40,
    "runs.toy.date": "1999-01-01",
    "runs.toy.tasks.toy_letters.metric": "acc_norm",
    "runs.toy.tasks.toy_letters.version": "other 2.0",
    "runs.toy.tasks.toy_letters.limit": 7,
    "runs.toy.tasks.toy_letters.n": 13,
    "runs.toy.tasks.toy_letters.chance": 0.25,
    "models.toy_base.source": "hub:org/better",
    "models.toy_base.weights_sha256": "a" * 64,
    "models.toy_base.trained": True,
    "models.toy_base.engine": "vllm 9.9",
    "models.toy_base.trials.0.seed": 5,
}


def test_every_other_field_is_compared_with_the_run(board: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    untouched = board.read_text()
    for place, new in TAMPERED.items():
        content = yaml.safe_load(untouched)
        row = next(row for row in content["rows"] if row["id"] == "toy_base/toy_letters")
        *path, last = place.split(".")
        inside: Any = content | {"row": row}
        for key in path:
            inside = inside[int(key)] if isinstance(inside, list) else inside[key]
        inside[last] = new
        if last == "trained":
            content["models"]["toy_base"]["trials"][0]["weights_sha256"] = "a" * 64
        board.write_text(yaml.safe_dump(content))
        changed = load_board(board)
        (tampered,) = (row for row in changed.rows if row.id == "toy_base/toy_letters")
        problem = frozen_problem(tampered, changed.models["toy_base"], KeptRun(changed, "toy", board.parent))
        assert f"{place.replace('.0.', '[0].').removeprefix('row.')} is written as {new}, the run gives" in problem
    code, rows = reproduce(workplace, capsys, "--rows", "toy_base/toy_letters")
    assert (code, rows["toy_base/toy_letters"]["recomputed"]) == (DIFFERS_EXIT, False)


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
    place = published.relative_to(workplace.root)
    assert list(json.loads(printed.out)["changed"][str(place)]) == [trial.score_stage]
    assert str(path.relative_to(workplace.root)) in printed.err
    assert workplace.main("leaderboard", "build", published, "--out", "changed.yaml") == StoreError.exit_code, "a whole run is refused"
    path.write_bytes(untouched)
    ledger = published / "stages" / trial.train_stage / "ledger.parquet"
    kept = ledger.read_bytes()
    ledger.write_bytes(kept[:-1])
    code, rows = reproduce(workplace, capsys)
    assert code == DIFFERS_EXIT
    assert {row["recomputed"] for row in rows.values() if row["id"].startswith("toy_sft/")} == {True}
    assert all(str(ledger.relative_to(workplace.root)) in row["why"] for row in rows.values() if row["id"].startswith("toy_base/"))
    ledger.write_bytes(kept)
    replaced(board, f"sealed: {trial.sealed}", f"sealed: {'f' * 64}")
    code, rows = reproduce(workplace, capsys, "--rows", "toy_base/mean")
    assert code == DIFFERS_EXIT
    assert "another one than the one that was frozen" in rows["toy_base/mean"]["why"]


@pytest.mark.parametrize("whole", [True, False], ids=["models and rows", "ids alone"])
def test_a_row_under_another_methods_name_differs(
    board: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str], whole: bool
) -> None:
    content = yaml.safe_load(board.read_text())
    other = {"toy_base": "toy_sft", "toy_sft": "toy_base"}
    for row in content["rows"]:
        named = row["model"]
        row["id"] = other[named] + row["id"].removeprefix(named)
        row["model"] = other[named] if whole else named
    if whole:
        content["models"] = {other[name]: model for name, model in content["models"].items()}
    board.write_text(yaml.safe_dump(content))
    code, rows = reproduce(workplace, capsys, "--rows", "toy_*/toy_letters")
    assert code == DIFFERS_EXIT
    assert rows
    assert all("id is written as" in row["why"] and row["recomputed"] is False for row in rows.values())


@pytest.mark.parametrize("path", ["a\0b", "a/" * 3000])
def test_a_path_that_no_disk_can_have_is_no_run(board: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str], path: str) -> None:
    content = yaml.safe_load(board.read_text())
    content["runs"]["toy"]["path"] = path
    board.write_text(yaml.safe_dump(content))
    code, rows = reproduce(workplace, capsys)
    assert code == NOTHING_CHECKED_EXIT
    assert all("not here" in row["why"] for row in rows.values())


@pytest.mark.parametrize(("key", "value"), [("n", "12"), ("value", "0.5"), ("seeds", True)])
def test_a_number_in_quotes_is_no_number(
    board: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    content = yaml.safe_load(board.read_text())
    content["rows"][0][key] = value
    board.write_text(yaml.safe_dump(content))
    assert workplace.main("leaderboard", "show", BOARD) == SpecError.exit_code
    assert f"rows[0].{key}" in capsys.readouterr().err


def test_a_run_that_is_not_here_cannot_be_reproduced(
    board: Path, workplace: Workplace, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(published)
    code, rows = reproduce(workplace, capsys)
    assert code == NOTHING_CHECKED_EXIT
    assert {row["checked"] for row in rows.values()} == {"not checked"}
    assert all(row["recomputed"] is None and "not here" in row["why"] for row in rows.values())


def test_trained_again(board: Path, workplace: Workplace, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--student", tiny_model, "--rows", "toy_sft/*", "--train", "--limit-seeds", 1)
    code, rows = reproduce(workplace, capsys, *options)
    assert code == 0
    assert {row["verdict"] for row in rows.values()} == {"reproduced in part"}, [row["why"] for row in rows.values()]
    assert {row["students"] for row in rows.values()} == {"1 of 2 students"}
    assert "trained again to the same weights" in rows["toy_sft/mean"]["why"]
    assert (workplace.root / "results" / "runs" / "toy-again" / "study.json").is_file()
    _, again = reproduce(workplace, capsys, *options)
    assert [row["verdict"] for row in again.values()] == [row["verdict"] for row in rows.values()]


def test_only_the_wanted_trials_are_planned_again(workplace: Workplace) -> None:
    changes = {"folds": {"leave_out": ["vowels"]}, "checkpoints": {"shares": [0.5]}}
    study = load_study(workplace.write(**changes, methods=[{"name": "toy_base"}, {"name": "toy_sft"}, {"name": "toy_parts"}]))
    whole, again = (
        plan_study(each, weights="w", setting=Setting("cpu", "float32", 1)) for each in (study, study_again(study, WANTED, None))
    )
    assert [trial.id for trial in again.trials] == ["toy_sft-1"]
    assert again.trials == [trial for trial in whole.trials if trial.id == "toy_sft-1"], "its stages keep their ids"
    assert set(again.stages) == set(again.trials[0].stages)


def test_hub_models_cannot_run_here_and_published_rows_say_why(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(Path(__file__).parents[2] / "results" / "leaderboards" / "published.yaml", workplace.root / "published.yaml")
    assert workplace.main("leaderboard", "reproduce", "published.yaml", "--rows", "pythia-410m/*", "--json") == NOTHING_CHECKED_EXIT
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert {row["verdict"] for row in rows.values()} == {"cannot run here"}
    assert "hub:EleutherAI/pythia-410m" in rows["pythia-410m/piqa/acc_norm"]["why"]
    assert workplace.main("leaderboard", "show", "published.yaml", "--format", "csv") == 0
    assert "SmolLM2-135M/piqa" in capsys.readouterr().out
    assert workplace.main("leaderboard", "show", "published.yaml", "--format", "pdf") == SpecError.exit_code
