"""Exported students: plain transformers gets the same numbers, and mistakes write nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.core.results import load_run
from harness.core.spec import Adaptation
from harness.core.store import RunStore, file_sha256, sealed, write_json
from harness.models.student import Student
from harness.report.card import model_card
from tests.study.conftest import Workplace


def checkpoint(run_dir: Path, trial: str) -> Path:
    trials = load_run(run_dir).trials.set_index("trial_id")
    return RunStore(run_dir).folder(str(trials.loc[trial, "train_stage"])) / "model"


def test_plain_transformers_computes_what_the_student_does(workplace: Workplace, reference: Path) -> None:
    out = workplace.root / "exported"
    assert workplace.main("export", reference, "toy_sft-1", "--out", out) == 0
    model = AutoModelForCausalLM.from_pretrained(out, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer("what is 2+2?", return_tensors="pt")["input_ids"]
    student = Student.restore(checkpoint(reference, "toy_sft-1"), dtype=torch.float32)
    other = Student.restore(checkpoint(reference, "toy_sft-0"), dtype=torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, student.model(ids).logits)
        assert not torch.allclose(model(ids).logits, other.model(ids).logits, atol=1e-3), "another seed is another model"
    assert not list(out.glob("*.bin"))
    assert not list(out.parent.glob(".exported-*"))


def test_the_card_says_what_made_it_and_what_it_scored(workplace: Workplace, reference: Path) -> None:
    out = workplace.root / "exported"
    assert workplace.main("export", reference, "toy_sft-1", "--out", out, "--dtype", "bfloat16") == 0
    card = (out / "README.md").read_text()
    samples = load_run(reference).samples
    mine = samples[(samples["method"] == "toy_sft") & (samples["seed"] == 1) & (samples["perturbation"] == "typos")]
    for task, rows in mine.groupby("task"):
        metric = load_run(reference).study["tasks"][task]["metric"]
        own = rows[rows["metric"] == metric]
        (line,) = [line for line in card.splitlines() if line.startswith(f"| {task} | typos | {metric} |")]
        assert f"| {own['value'].mean():.3f} |" in line
        assert f"| {own['value'].notna().sum()} / {len(own)} | 50% |" in line
        low, high = map(float, line.split("|")[5].split(" to "))
        assert 0 <= low < own["value"].mean() < high <= 1
    for told in ("64 demonstrations", "LoRA of rank 4", "bfloat16", "selfteach run toy.yaml", "300 MFLOP", "torch 2.", "not to be used"):
        assert told in card, told
    assert str(reference.parents[2]) not in card, "a card is passed on"
    assert f"`file:{workplace.model.name}`" in card
    assert "look it up before you pass this on" in card, "nothing says under which licence the base is"
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.bfloat16


def test_the_hub_reads_the_card(workplace: Workplace, reference: Path) -> None:
    out = workplace.root / "exported"
    assert workplace.main("export", reference, "toy_sft-1", "--out", out) == 0
    data = ModelCard.load(out / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == ("transformers", "text-generation", "other")
    assert "selfteach" in data.tags
    samples = load_run(reference).samples
    assert {result.dataset_type for result in data.eval_results} == {"toy_letters", "toy_digits"}
    for result in data.eval_results:
        own = samples[(samples["method"] == "toy_sft") & (samples["seed"] == 1) & (samples["perturbation"] == "clean")]
        own = own[(own["task"] == result.dataset_type) & (own["metric"] == result.metric_type)]
        assert result.metric_value == pytest.approx(own["value"].mean(), abs=1e-4)


def test_a_card_tells_the_licence_and_hub_name_that_are_known_and_quotes_what_users_wrote(reference: Path) -> None:
    run = load_run(reference)
    run.study["methods"][1]["config"] = {"prompt": "a | b `c`\n---\nlicense: mit"}
    run.study["question"] = "Why: [x]?"
    data = ModelCard(model_card(run, "toy_sft-0", dtype="float32", hub_name="org/base", licence="apache-2.0")).data
    assert (data.license, data.base_model) == ("apache-2.0", "org/base")
    card = model_card(run, "toy_sft-0", dtype="float32", hub_name="org/base", licence="apache-2.0")
    (line,) = [line for line in card.splitlines() if line.startswith("| method |")]
    assert line.count("|") - line.count("\\|") == 3


def test_the_card_of_a_trial_of_a_sweep_names_the_student_that_this_trial_had(reference: Path) -> None:
    run = load_run(reference)
    larger = {
        "model": "file:/home/ann/larger",
        "adaptation": {"kind": "lora", "rank": 32, "alpha": 8, "dropout": 0.0},
        "engine": "transformers",
    }
    run.study["methods"][1]["at"] = {"train_flops": 3e8, "student": larger}
    card = model_card(run, "toy_sft-0", dtype="float32")
    for told in ("# file:larger, trained", "- Base model: `file:larger`", "LoRA of rank 32"):
        assert told in card, told
    assert "LoRA of rank 4" in model_card(run, "toy_base-0", dtype="float32"), "another method's student is its own"
    run.study["methods"][1]["at"]["student"]["adaptation"]["kind"] = "full"
    assert "- Weights: all of them trained; float32" in model_card(run, "toy_sft-0", dtype="float32")


def test_a_card_says_nothing_of_folders_and_users(reference: Path) -> None:
    run = load_run(reference)
    run.study["student"]["model"] = "file:/home/ann"
    run.study["methods"][1]["config"] = {"prompts": "/gscratch/lab/ann/prompts.txt"}
    run.study["provenance"]["command"] = "selfteach run '/home/ann lee/x.yaml' --out /scratch/ann"
    card = model_card(run, "toy_sft-0", dtype="float32")
    assert "`selfteach run x.yaml --out <path>`" in card
    assert "ann" not in card.replace("annotators", "").replace("planned", "").split()
    assert "/ann" not in card
    assert "file:ann" not in card


def test_all_weights_are_exported_without_the_base_that_they_were_trained_from(
    workplace: Workplace, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base of the trial is gone; that of the study, whose weights nobody needs, would have to be downloaded."""
    shutil.copytree(reference, workplace.run_dir)
    store, trained = RunStore(workplace.run_dir), checkpoint(workplace.run_dir, "toy_sft-1")
    student = Student.restore(trained, dtype=torch.float32)
    student.adaptation = Adaptation(kind="full")
    student.source = f"file:{workplace.root}/gone"
    shutil.rmtree(trained)
    student.save(trained)
    meta = store.meta(trained.parent.name)
    files = {str(path.relative_to(trained.parent)): file_sha256(path) for path in trained.iterdir()}
    kept = {name: checksum for name, checksum in meta["files"].items() if not name.startswith("model/")}
    write_json(trained.parent / "meta.json", sealed({**meta, "files": kept | files}))
    study = store.study()
    full = {**study["student"], "model": student.source, "adaptation": {**study["student"]["adaptation"], "kind": "full"}}
    study["methods"][1]["at"] = {"train_flops": 3e8, "student": full}
    write_json(workplace.run_dir / "study.json", study | {"student": full | {"model": "hub:org/never-there"}})
    out = workplace.root / "exported"
    assert workplace.main("export", workplace.run_dir, "toy_sft-1", "--out", out) == 0
    assert "- Base model: `file:gone`" in (out / "README.md").read_text()
    again = AutoModelForCausalLM.from_pretrained(out, use_safetensors=True)
    for name, weight in student.model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


def test_all_trials_are_exported_each_to_its_folder(workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert workplace.main("export", reference, "--all", "--out", workplace.root / "all", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(row["trial"] for row in told) == sorted(path.name for path in (workplace.root / "all").iterdir())
    assert {row["trial"] for row in told} == {"toy_base-0", "toy_sft-0", "toy_sft-1"}, "the untrained student once, not once a seed"
    assert workplace.main("export", reference, "--all", "--out", workplace.root / "all") == 2
    assert "does not exist yet" in capsys.readouterr().err
    assert workplace.main("export", reference, "--out", workplace.root / "none") == 2
    assert workplace.main("export", reference, "toy_sft-0", "--all", "--out", workplace.root / "none") == 2
    assert capsys.readouterr().err.count("either one trial or --all") == 2


@pytest.mark.parametrize(
    ("trial", "options", "told"),
    [
        ("toy_sft-7", (), "no such trial"),
        ("toy_sft-1", ("--dtype", "float64"), "unknown weight type"),
        ("toy_sft-1", ("--out", "missing/exported"), "does not exist"),
        ("toy_sft-all", (), "no such trial"),
        ("toy_sft-1", ("--out", "/proc/x"), "nothing can be written in /proc"),
    ],
)
def test_mistakes_are_one_message_and_write_nothing(
    workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str], trial: str, options: tuple[str, ...], told: str
) -> None:
    before = sorted(workplace.root.iterdir())
    assert workplace.main("export", reference, trial, "--out", workplace.root / "exported", *options) == 2
    assert told in capsys.readouterr().err
    assert sorted(workplace.root.iterdir()) == before


def test_a_trial_without_randomness_is_known_by_its_name_in_the_plan(
    workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = {trial["label"]: trial for trial in load_run(reference).study["plan"]["trials"]}["toy_base"]
    assert (planned["id"], planned["seedless"]) == ("toy_base-all", True)
    assert workplace.main("export", reference, "toy_base-all", "--out", workplace.root / "exported", "--json") == 0
    assert json.loads(capsys.readouterr().out)["trial"] == "toy_base-0"
    assert (workplace.root / "exported" / "README.md").is_file()


def test_a_folder_that_cannot_be_made_is_refused_before_the_merge(
    workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Student, "restore", None)
    assert workplace.main("export", reference, "toy_sft-1", "--out", "/proc/x") == 2
    assert workplace.main("export", reference, "--all", "--out", "missing/all") == 2
    assert capsys.readouterr().err.count("selfteach: --out: ") == 2


def test_nothing_is_overwritten(workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace.root / "mine").mkdir()
    assert workplace.main("export", reference, "toy_sft-1", "--out", workplace.root / "mine") == 2
    assert "does not exist yet" in capsys.readouterr().err
    assert not list((workplace.root / "mine").iterdir())
