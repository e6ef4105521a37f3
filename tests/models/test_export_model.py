"""An exported student is the student: weights, tokenizer, template, settings of generation; the folder appears whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from harness.core.spec import Adaptation
from harness.errors import SpecError, StoreError
from harness.models import export
from harness.models.export import export_model
from harness.models.origin import Origin, origin
from harness.models.student import Student

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
TALK = [{"role": "user", "content": "what is 2+2?"}]


@pytest.fixture(scope="module", params=["lora", "full"])
def checkpoint(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved student whose weights were moved, of a base with a chat template."""
    base = tmp_path_factory.mktemp("base") / "model"
    shutil.copytree(tiny_model, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(base)
    student = Student.load(f"file:{base}", adaptation=Adaptation(kind=request.param, rank=4), seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in student.trainable:
            weight.add_(0.1 * torch.randn_like(weight))
    folder = tmp_path_factory.mktemp("student") / "model"
    student.save(folder)
    return folder


def test_plain_transformers_loads_the_same_student(checkpoint: Path, tmp_path: Path, tiny_model: Path) -> None:
    export_model(checkpoint, tmp_path / "out", dtype="float32", card="---\nlicense: mit\n---\n# x\n")
    student = Student.restore(checkpoint, dtype=torch.float32, device=torch.device("cpu"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = torch.tensor([student.encode(student.render(TALK))])
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, student.model(ids).logits)
        assert not torch.allclose(model(ids).logits, base(ids).logits, atol=1e-2), "training shows"
    assert tokenizer.chat_template == student.tokenizer.chat_template == TEMPLATE
    assert tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True) == student.render(TALK)
    assert tokenizer.get_vocab() == student.tokenizer.get_vocab()
    assert tokenizer.special_tokens_map == student.tokenizer.special_tokens_map
    before, after = GenerationConfig.from_pretrained(tiny_model), GenerationConfig.from_pretrained(tmp_path / "out")
    assert after.eos_token_id == before.eos_token_id
    assert len(after.eos_token_id) > 1
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "config.json", "README.md", "chat_template.jinja"} <= files
    assert not [name for name in files if name.startswith("adapter") or name.endswith((".bin", ".pt", ".pkl"))]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_have_the_type_that_was_asked_for(checkpoint: Path, tmp_path: Path, dtype: str) -> None:
    export_model(checkpoint, tmp_path / "out", dtype=dtype, card="")  # type: ignore[arg-type]
    exact = Student.restore(checkpoint, dtype=torch.float32, device=torch.device("cpu")).model.state_dict()
    rounded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    for name, weight in rounded.items():
        assert torch.equal(weight, exact[name].to(getattr(torch, dtype))), "merged first, rounded once"


def test_a_disk_that_refuses_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.os, "rename", refuse)
    with pytest.raises(StoreError, match="No space left"):
        export_model(checkpoint, tmp_path / "out", dtype="float32", card="")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_student_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(SpecError, match=r"Student\.save"):
        export_model(tmp_path / "model", tmp_path / "out", dtype="float32", card="")
    assert not (tmp_path / "out").exists()


def test_the_origin_tells_hub_name_and_licence(tmp_path: Path) -> None:
    assert origin("smollm2-135m-instruct") == Origin(None, "apache-2.0")
    assert origin("gemma3-270m") == Origin(None, "gemma")
    assert origin("hub:org/name@abc", tmp_path) == Origin("org/name", None)
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\ntags: [x]\n---\n# name\n")
    assert origin("hub:org/name", tmp_path) == Origin("org/name", "cc-by-4.0")
    assert origin(f"file:{tmp_path}", tmp_path) == Origin(None, "cc-by-4.0")
    for broken in ("no front matter", "---\n[: \n---\n", "---\n- a list\n---\n", "---\nlicense: [a, b]\n---\n"):
        (tmp_path / "README.md").write_text(broken)
        assert origin("hub:org/name", tmp_path).licence is None


@pytest.mark.vllm
def test_vllm_loads_the_folder_and_answers_alike(checkpoint: Path, tmp_path: Path) -> None:
    export_model(checkpoint, tmp_path / "out", dtype="float32", card="")
    students = [
        Student.load(f"file:{tmp_path / 'out'}", adaptation=None, seed=0, engine=engine)  # type: ignore[arg-type]
        for engine in ("transformers", "vllm")
    ]
    try:
        pairs = [([11, 12, 13] * 12, [3, 5, 7]), ([20, 21, 22], [4])]
        expected, found = (student.engine.score_pairs(pairs) for student in students)
        assert [score.logprob for score in found] == pytest.approx([score.logprob for score in expected], abs=0.05)
    finally:
        students[1].engine.close()
