"""Exported students: plain transformers gets the same numbers, and mistakes write nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.core.results import load_run
from harness.core.store import RunStore
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


def test_all_trials_are_exported_each_to_its_folder(workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert workplace.main("export", reference, "--all", "--out", workplace.root / "all", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(row["trial"] for row in told) == sorted(path.name for path in (workplace.root / "all").iterdir())
    assert {"toy_sft-0", "toy_sft-1"} < {row["trial"] for row in told}
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
    ],
)
def test_mistakes_are_one_message_and_write_nothing(
    workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str], trial: str, options: tuple[str, ...], told: str
) -> None:
    before = sorted(workplace.root.iterdir())
    assert workplace.main("export", reference, trial, "--out", workplace.root / "exported", *options) == 2
    assert told in capsys.readouterr().err
    assert sorted(workplace.root.iterdir()) == before


def test_nothing_is_overwritten(workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace.root / "mine").mkdir()
    assert workplace.main("export", reference, "toy_sft-1", "--out", workplace.root / "mine") == 2
    assert "does not exist yet" in capsys.readouterr().err
    assert not list((workplace.root / "mine").iterdir())
