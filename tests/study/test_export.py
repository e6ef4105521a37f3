"""Exported students: plain transformers gets the same numbers, and mistakes write nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.core.results import load_run
from harness.core.store import RunStore
from harness.models.student import Student
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
        assert f"| {task} | typos | {metric} | {own['value'].mean():.3f} | {own['value'].notna().sum()} / {len(own)} |" in card
    assert "64 demonstrations" in card
    assert "LoRA of rank 4" in card
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.bfloat16


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
