"""The certificate, its traps, lm-eval's own trap, and `--model selfteach`, on tiny models saved to disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from test_engine import LETTERS, FakeStudent, letter_tokenizer, requests, tiny_llama

from harness.cli.certify import certify_command
from harness.errors import SourceError, SpecError
from harness.models.student import Student, default_device
from harness.scoring import certify as certify_module
from harness.scoring.certify import certify
from harness.scoring.engine import StudentEngine
from harness.scoring.lm_eval import main
from harness.scoring.selfteach_lm import SelfteachLM, load_student, register
from harness.scoring.traps import traps

TASK = """
task: toy
custom_dataset: !function toy.data
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: choices
doc_to_target: gold
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
DATA = """
from datasets import Dataset, DatasetDict
def data(**_):
    words = ["sea", "hill", "mill", "day"]
    rows = [{"question": f"the {word} is", "choices": ["abc", "de", "the end"], "gold": n % 3} for n, word in enumerate(words)]
    return DatasetDict({"test": Dataset.from_list(rows)})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "model"
    tiny_llama(max_length=256).save_pretrained(place)
    letter_tokenizer().save_pretrained(place)
    return place


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    place = tmp_path / "tasks"
    place.mkdir()
    (place / "toy.yaml").write_text(TASK)
    (place / "toy.py").write_text(DATA)
    return place


def lowercase(texts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The traps in letters that the tiny tokenizer knows."""
    known = lambda text: "".join(letter if letter in LETTERS else "q" for letter in text.lower())  # noqa: E731
    return [(known(context)[:60], known(continuation)[:20]) for context, continuation in texts]


@pytest.fixture
def known_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = certify_module.traps
    monkeypatch.setattr(
        certify_module, "traps", lambda count, *, rng: {name: lowercase(texts) for name, texts in whole(count, rng=rng).items()}
    )


@pytest.mark.usefixtures("known_letters")
def test_certifies_an_honest_engine_and_no_other(folder: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = load_student(str(folder), dtype="float32", device="cpu")
    monkeypatch.setattr(certify_module, "FEWEST", 100)
    found = certify(student, tasks=["toy"], include_path=tasks, trap_requests=96)
    assert found.passed
    assert found.requests > 100
    assert found.max_difference_nats <= 2e-4
    assert (found.choices, found.choices_differ, found.greedy_differs, found.refused_by_both) == (4, 0, 0, 2)
    assert found.groups["toy"].requests == 12
    honest = StudentEngine.loglikelihood

    def off(engine: Any, asked: Any, disable_tqdm: bool = False) -> Any:
        return [(value + 0.001 * (index == 0), greedy) for index, (value, greedy) in enumerate(honest(engine, asked, disable_tqdm))]

    monkeypatch.setattr(StudentEngine, "loglikelihood", off)
    wrong = certify(student, trap_requests=96)
    assert not wrong.passed
    assert wrong.max_difference_nats == pytest.approx(0.001, rel=0.2)
    assert wrong.groups["trap: ragged"].examples


def test_too_few_requests_or_another_type_are_no_certificate(folder: Path) -> None:
    with pytest.raises(SpecError, match="float32"):
        certify(load_student(str(folder), dtype="bfloat16", device="cpu"))


def test_traps_are_what_they_say() -> None:
    made = traps(160, rng=np.random.default_rng(0))
    assert all(context == "" for context, _ in made["empty_context"])
    assert all(context.endswith(" ") for context, _ in made["spaces_at_the_cut"])
    for early, late in zip(made["split_twice"][::2], made["split_twice"][1::2], strict=True):
        assert early[0] + early[1] == late[0] + late[1]
        assert early != late
    assert sum(any(ord(letter) > 127 for letter in context + tail) for context, tail in made["unicode"]) > 30
    assert len({len(context) for context, _ in made["ragged"]}) > 20


def test_lm_evals_default_cache_gives_another_value_where_a_text_is_split_twice() -> None:
    model, tokenizer = tiny_llama(), letter_tokenizer(merges=False)
    texts = [("the en", "de"), ("the e", "nde")]
    exact = HFLM(pretrained=model, tokenizer=tokenizer, logits_cache=False, batch_size=1, add_bos_token=False)
    cached = HFLM(pretrained=model, tokenizer=tokenizer, logits_cache=True, batch_size=1, add_bos_token=False)
    right, wrong = (lm.loglikelihood(requests(texts), disable_tqdm=True) for lm in (exact, cached))
    ours = StudentEngine(FakeStudent(model, tokenizer), dtype="float32").loglikelihood(requests(texts))
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in right], abs=2e-4)
    assert max(abs(one - other) for (one, _), (other, _) in zip(right, wrong, strict=True)) > 0.1, "lm-eval has mended it: say so in docs"


def test_lm_eval_finds_the_model_and_its_arguments(folder: Path) -> None:
    register()
    register()
    assert get_model("selfteach") is SelfteachLM
    lm = SelfteachLM.create_from_arg_string(
        f"pretrained={folder},dtype=float32,max_length=32,token_budget=77,add_bos_token=True", {"batch_size": 4, "device": "cuda"}
    )
    assert (lm.max_length, lm.budget.tokens, lm.device.type, lm.dtype) == (32, 77, default_device().type, torch.float32)
    assert SelfteachLM(str(folder), dtype="bfloat16", device="cpu").model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pretrained": "gpt2"}, "hub model is org/name"),
        ({"pretrained": ""}, "expected a model"),
        ({"pretrained": "smollm2-135m-instruct", "dtype": "int8"}, "model_args.dtype"),
        ({"pretrained": "smollm2-135m-instruct", "max_lenght": 5}, "Did you mean 'max_length'"),
    ],
)
def test_wrong_arguments_are_one_clear_message(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        SelfteachLM(**arguments)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a causal language model"):
        load_student(str(tmp_path), device="cpu")


def test_adapters_and_trained_students_are_merged(folder: Path, tmp_path: Path) -> None:
    from harness.core.spec import Adaptation

    student = Student.load(f"file:{folder}", adaptation=Adaptation(kind="lora", rank=2, alpha=8), seed=0, device=torch.device("cpu"))
    with torch.no_grad():
        for name, weight in student.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    student.save(tmp_path / "trained")
    texts = [("the end", " is"), ("abc", "de")]
    base = SelfteachLM(str(folder), dtype="float32", device="cpu").loglikelihood(requests(texts), disable_tqdm=True)
    trained = SelfteachLM(str(tmp_path / "trained"), dtype="float32", device="cpu").loglikelihood(requests(texts), disable_tqdm=True)
    adapted = SelfteachLM(str(folder), peft=str(tmp_path / "trained"), dtype="float32", device="cpu").loglikelihood(
        requests(texts), disable_tqdm=True
    )
    expected = HFLM(pretrained=student.model.float(), tokenizer=student.tokenizer, logits_cache=False).loglikelihood(requests(texts), True)
    assert trained == adapted != base
    assert [value for value, _ in trained] == pytest.approx([value for value, _ in expected], abs=0.2), (
        "the student computes in bfloat16 where it can"
    )
    assert abs(trained[0][0] - base[0][0]) > 0.5


@pytest.mark.slow  # lm-eval reads the YAML of all its own tasks first
def test_lm_evals_command_line_runs_with_our_model(folder: Path, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = list(sys.argv)
    arguments = ["run", "--model", "selfteach", "--model_args", f"pretrained={folder},dtype=float32", "--tasks", "toy"]
    main([*arguments, "--include_path", str(tasks), "--output_path", str(tmp_path / "out"), "--log_samples"])
    assert sys.argv == before
    assert "|toy" in capsys.readouterr().out
    (results,) = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(results.read_text())["n-samples"]["toy"]["effective"] == 4


@pytest.mark.parametrize("out", ["/proc/x.json", "no/such/folder/x.json"])
def test_a_certificate_that_cannot_be_written_is_refused_before_the_model_is_loaded(out: str) -> None:
    with pytest.raises(SpecError, match=r"--out: .*written"):
        certify_command("no-such-model", tasks=["toy"], include_path=None, limit=None, traps=1, device=None, out=Path(out), as_json=True)
