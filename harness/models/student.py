"""A student: a causal language model with its tokenizer and what training may change of it.

LoRA keeps the base weights in the compute type (bf16 where the processor has it) and its adapters in fp32; full fine-tuning keeps fp32
weights and computes under bf16 autocast. Every forward goes through the meter of the ledger the student is attached to.
"""

from __future__ import annotations

import contextlib
import copy
import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from harness.core.budget import Ledger
from harness.core.records import Completion, Message
from harness.core.spec import Adaptation
from harness.errors import SourceError, SpecError
from harness.models.adapters import is_adapted
from harness.models.engines.base import Engine, EngineName
from harness.models.engines.transformers_engine import TransformersEngine
from harness.models.engines.vllm_engine import VllmEngine
from harness.models.generation import PrefixCaches
from harness.models.meter import Meter, meter, transformer_body
from harness.models.progress import quiet_progress
from harness.models.sources import resolve

if TYPE_CHECKING:  # PEFT and transformers' models take seconds to import, and who only reads a method's settings needs neither;
    # a stage imports both before its clock starts (harness.models.tracking)
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STUDENT_FILE = "student.json"


def default_device() -> torch.device:
    """The first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the device computes it in hardware, else fp32. Whoever changes this changes `harness.models.device.RULE`."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


class Student:
    """Model, tokenizer and adaptation under one name.

    Attributes:
        source: what `harness.models.sources.resolve` was asked for.
        model: the transformers model, wrapped by PEFT when `adaptation.kind` is "lora".
        adaptation: None for a model that is only read.
        trained_on: the (rendered prompt, response) pairs that `finetune` has trained on since loading, each once, in order of first use.
    """

    def __init__(
        self,
        source: str,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        adaptation: Adaptation | None,
        *,
        engine: EngineName = "transformers",
    ) -> None:
        self.source, self.model, self.tokenizer, self.adaptation = source, model, tokenizer, adaptation
        self.name = source.rsplit("/", 1)[-1]
        self.device = next(model.parameters()).device
        self.dtype = compute_dtype(self.device)
        self.ledger: Ledger | None = None
        self.meter: Meter | None = None
        self.trained_on: dict[tuple[str, str], None] = {}
        self._vllm = VllmEngine(self) if engine == "vllm" else None
        model.get_output_embeddings().register_forward_pre_hook(_contiguous)

    @classmethod
    def load(
        cls,
        source: str,
        *,
        adaptation: Adaptation | None,
        seed: int,
        device: torch.device | None = None,
        engine: EngineName = "transformers",
    ) -> Student:
        """Loads a base model and makes it trainable as `adaptation` says (None: read only, in the compute type).

        Args:
            source: an alias, "hub:", "file:" or "pypi:" source.
            seed: of the adapters' random initialisation.
        Raises:
            SourceError: the folder does not hold a causal language model that transformers can load from safetensors.
        """
        device = device or default_device()
        full = adaptation is not None and adaptation.kind == "full"
        model, tokenizer = _read(resolve(source), torch.float32 if full else compute_dtype(device))
        if adaptation is not None and adaptation.kind == "lora":
            from peft import get_peft_model

            with torch.random.fork_rng():
                torch.manual_seed(seed)
                model = get_peft_model(model, _lora_config(adaptation))
        return cls(source, model.to(device), tokenizer, adaptation, engine=engine)

    @property
    def engine(self) -> Engine:
        """What generates and scores."""
        return self._vllm or TransformersEngine(self)

    @property
    def body(self) -> nn.Module:
        """The transformer without its output head; adapters, being inside, stay active."""
        body = transformer_body(self.model)
        assert body is not None
        return body

    @property
    def trainable(self) -> list[nn.Parameter]:
        """The parameters that training may change."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def attach(self, ledger: Ledger) -> None:
        """Charges everything this student computes from now on to `ledger` (and to no other)."""
        if self.meter is not None:
            self.meter.detach()
        self.ledger, self.meter = ledger, meter(self.model, self.name, ledger)

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Computes in bf16 where the device has it, whatever the weights' type."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            yield

    @contextlib.contextmanager
    def as_loaded(self) -> Iterator[None]:
        """The student without what training has changed: adapters off. Only LoRA students can; a whole model must not have been trained."""
        with self.model.disable_adapter() if is_adapted(self.model) else contextlib.nullcontext():
            yield

    def render(self, conversation: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as the text the model reads. A tokenizer without a chat template gets plain "role: content" lines."""
        if self.tokenizer.chat_template is None:
            turns = "".join(f"{turn['role'].capitalize()}: {turn['content']}\n" for turn in conversation)
            return turns + ("Assistant:" if add_generation_prompt else "")
        text = self.tokenizer.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=add_generation_prompt)
        assert isinstance(text, str), type(text)
        return text

    def response_text(self, response: str) -> str:
        """A response as it stands after the generation prompt, end-of-turn token included."""
        return f" {response}{self.tokenizer.eos_token}" if self.tokenizer.chat_template is None else f"{response}{self.end_of_turn}"

    @cached_property
    def end_of_turn(self) -> str:
        """The token that the chat template ends a reply with if it ends generation too (Gemma's <end_of_turn>), else the end token."""
        reply = "reply"
        turns = [{"role": "user", "content": "request"}, {"role": "assistant", "content": reply}]
        after = self.encode(self.render(turns, add_generation_prompt=False).rpartition(reply)[2].lstrip())
        return str(self.tokenizer.convert_ids_to_tokens(after[0]) if after and after[0] in self.eos_ids else self.tokenizer.eos_token)

    def encode(self, text: str) -> list[int]:
        """Token ids of rendered text (special tokens are read from it, none are added)."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        n: int = 1,
        prefixes: Sequence[Sequence[Message]] | None = None,
        prefix_caches: PrefixCaches | None = None,
        stop: Sequence[str] = (),
    ) -> list[list[Completion]]:
        """Samples `n` replies to each conversation.

        Args:
            temperature: 0 is greedy (then n must be 1).
            prefixes: for each conversation the turns that stand before it (few-shot examples, may be empty); equal ones are computed once.
            prefix_caches: an empty dict at first, passed again at each call while the weights stay as they are: prefixes are then computed
                once for all calls.
            stop: a reply ends before the first of these strings.
        Returns:
            For each conversation, in order, its n completions.
        """
        before = [list(turns) for turns in prefixes] if prefixes is not None else [[] for _ in conversations]
        shared = [self.render(turns, add_generation_prompt=False) if turns else "" for turns in before]
        prompts = [self.render([*turns, *conversation]) for turns, conversation in zip(before, conversations, strict=True)]
        # A template that rewrites earlier turns cannot share them.
        shared = [text if prompt.startswith(text) else "" for text, prompt in zip(shared, prompts, strict=True)]
        return self.generate_text(
            [prompt[len(text) :] for text, prompt in zip(shared, prompts, strict=True)],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            n=n,
            prefixes=shared,
            prefix_caches=prefix_caches,
            stop=stop,
        )

    def generate_text(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        n: int = 1,
        prefixes: Sequence[str] | None = None,
        prefix_caches: PrefixCaches | None = None,
        stop: Sequence[str] = (),
    ) -> list[list[Completion]]:
        """As `generate`, on prompts that are already rendered."""
        assert temperature > 0 or n == 1, "greedy replies are all equal: n must be 1"
        if not prompts:
            return []
        replies_N_n = self.engine.generate_tokens(
            [self.encode(prompt) for prompt in prompts],
            prefixes=[self.encode(prefix) for prefix in prefixes] if prefixes is not None else [()] * len(prompts),
            n=n,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            prefix_caches=prefix_caches,
            stopped=(lambda ids: self._stop_at(ids, stop) is not None) if stop else None,
        )
        return [[self._completion(ids, stop) for ids in replies_n] for replies_n in replies_N_n]

    @property
    def eos_ids(self) -> list[int]:
        """Tokens that end a reply."""
        configured = self.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return sorted({i for i in [*ids, self.tokenizer.eos_token_id] if i is not None})

    @property
    def pad_id(self) -> int:
        """The padding token (the end token where the tokenizer has none)."""
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.eos_ids[0]

    def _completion(self, ids: list[int], stop: Sequence[str]) -> Completion:
        if self._stop_at(ids, stop) is None:
            return Completion(self._text(ids), len(ids), bool(ids) and ids[-1] in self.eos_ids, tuple(ids))
        # Nothing behind the first stop string counts: how many tokens follow it depends on when the engine looked.
        count = 1 + bisect_left(range(1, len(ids)), True, key=lambda length: self._stop_at(ids[:length], stop) is not None)
        kept = ids[:count]
        return Completion(self._text(kept)[: self._stop_at(kept, stop)], count, True, tuple(kept))

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _stop_at(self, ids: Sequence[int], stop: Sequence[str]) -> int | None:
        """Where in the reply's text its first stop string begins."""
        text = self._text(ids) if stop else ""
        return min((text.index(mark) for mark in stop if mark and mark in text), default=None)

    def frozen_body(self, *, trainable: bool = False) -> nn.Module:
        """A copy of the body as it is now, adapters included: a reference model, or (`trainable`) a reward model's start."""
        body = self._copied(self.body)
        if not trainable:
            body.requires_grad_(False)
        return body

    def frozen_head(self) -> nn.Module:
        """The output head as it is now: itself where training leaves it alone (LoRA), else a copy."""
        head = self.model.get_output_embeddings()
        assert isinstance(head, nn.Module), type(head)
        return self._copied(head).requires_grad_(False) if head.weight.requires_grad else head

    def _copied(self, module: nn.Module) -> nn.Module:
        if self.meter is not None:
            self.meter.detach()  # a hook would be copied with everything it holds
        copied = copy.deepcopy(module)
        if self.ledger is not None:
            self.attach(self.ledger)
        return copied

    def save(self, folder: Path) -> None:
        """Writes adapters (LoRA), or all weights and the tokenizer (full), as safetensors, and where the base is from."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder, safe_serialization=True)
        if self.adaptation is None or self.adaptation.kind == "full":
            self.tokenizer.save_pretrained(folder)
        about: dict[str, Any] = {"source": self.source, "adaptation": self.adaptation.model_dump() if self.adaptation else None}
        (folder / STUDENT_FILE).write_text(json.dumps(about, indent=1) + "\n")

    @classmethod
    def restore(
        cls,
        folder: Path,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        engine: EngineName = "transformers",
        source: str | None = None,
    ) -> Student:
        """Reads a saved student for inference: adapters are merged in fp32, then cast to `dtype` (default: the compute type).

        Args:
            source: where the weights that the adapters belong to are now, if not where they were.
        Raises:
            SpecError: `folder` was not written by `save`.
        """
        if not (folder / STUDENT_FILE).is_file():
            raise SpecError("expected a folder written by Student.save", file=folder, key=STUDENT_FILE)
        about = json.loads((folder / STUDENT_FILE).read_text())
        device = device or default_device()
        lora = about["adaptation"] is not None and about["adaptation"]["kind"] == "lora"
        if lora:
            from peft import PeftModel

            model, tokenizer = _read(resolve(source or about["source"]), torch.float32)
            model = PeftModel.from_pretrained(model, folder).merge_and_unload()
        else:
            model, tokenizer = _read(folder, torch.float32)
        return cls(about["source"], model.to(device, dtype or compute_dtype(device)), tokenizer, None, engine=engine)


def _contiguous(head: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Gives the output head a contiguous input.

    transformers hands it a slice (the last position of each row); torch's CPU matmul then copies the whole weight once a row: 12.7 s and
    3 GB instead of 0.03 s for 57 rows of SmolLM2 in bf16 (benchmarks/head_slice.py).
    """
    return tuple(arg.contiguous() for arg in args)


def _lora_config(adaptation: Adaptation) -> LoraConfig:
    from peft import LoraConfig

    return LoraConfig(
        r=adaptation.rank, lora_alpha=adaptation.alpha, lora_dropout=adaptation.dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def _read(folder: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet_progress():
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
            tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise SourceError(f"{folder}: not a causal language model with safetensors weights and a tokenizer: {error}") from error
    return model, tokenizer
