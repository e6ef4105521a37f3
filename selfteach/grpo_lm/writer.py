"""The policy's language model: the student's starting checkpoint under adapters of its own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import is_triton_available

from harness.core.budget import Ledger
from harness.core.flops import linear_flops
from harness.core.records import Completion, Message
from harness.core.spec import Adaptation
from harness.models.generation import generate_tokens
from harness.models.student import Student


@dataclass(frozen=True)
class Written:
    """Replies to P prompts, G each: token ids, and what they say."""

    prompts_P: list[list[int]]
    replies_P_G: list[list[list[int]]]
    completions_P_G: list[list[Completion]]

    @property
    def width(self) -> int:
        """Tokens of a padded row of an update: the longest prompt and the longest reply."""
        return max(map(len, self.prompts_P)) + max(len(reply) for replies_G in self.replies_P_G for reply in replies_G)


class Writer:
    """Writes replies and is trained, while `student` stays as it is: base weights are shared and frozen, the adapters are its own.

    Metered under "policy <student>"; what TRL's fused output head computes past the meter's hooks is charged here.

    Args:
        rank: of the adapters, which start without effect.
        rng: of their initialisation.
    """

    def __init__(self, student: Student, ledger: Ledger, *, rank: int, rng: np.random.Generator) -> None:
        adaptation = Adaptation(rank=rank, alpha=2 * rank)
        config = LoraConfig(r=adaptation.rank, lora_alpha=adaptation.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
        with torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**31)))
            model = get_peft_model(_sharing_copy(student), config)
        self.student = Student(student.source, model.to(student.device), copy.deepcopy(student.tokenizer), adaptation)
        self.student.name = f"policy {student.name}"
        self.student.attach(ledger)
        self.ledger = ledger
        model.register_forward_pre_hook(self._before_fused_head, with_kwargs=True)

    def write(
        self, conversations: Sequence[Sequence[Message]], *, n: int, max_new_tokens: int, temperature: float, rng: np.random.Generator
    ) -> Written:
        """Samples `n` replies to each conversation; the model is left in evaluation mode.

        Raises:
            BudgetExceeded: the ledger refused.
        """
        student = self.student
        prompts_P = [student.encode(student.render(conversation)) for conversation in conversations]
        student.model.eval()
        with student.autocast(), torch.inference_mode():
            replies_P_G = generate_tokens(
                student.model,
                prompts_P,
                prefixes=[()] * len(prompts_P),
                n=n,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=int(rng.integers(2**31)),
                eos_ids=student.eos_ids,
                pad_id=student.pad_id,
            )
        return Written(prompts_P, replies_P_G, [[self._completion(ids) for ids in replies_G] for replies_G in replies_P_G])

    def write_bound_flops(self, conversations: Sequence[Sequence[Message]], *, n: int, max_new_tokens: int) -> float:
        """The most that `write` can be charged."""
        meter = self.student.meter
        assert meter is not None
        width, rows = self._longest(conversations), n * len(conversations)
        prompts = meter.body_flops(len(conversations), width) + meter.head_flops(len(conversations))
        return prompts + max_new_tokens * (meter.body_flops(rows, 1, past_tokens=width + max_new_tokens) + meter.head_flops(rows))

    def update_bound_flops(self, conversations: Sequence[Sequence[Message]], *, n: int, max_new_tokens: int, reference: bool) -> float:
        """The most that an update on replies to these conversations can be charged."""
        return self.update_flops(n * len(conversations), self._longest(conversations) + max_new_tokens, reference=reference)

    def update_flops(self, rows: int, width: int, *, reference: bool) -> float:
        """The most that an update on `rows` sequences padded to `width` tokens is charged: forward, backward, reference's forward."""
        meter, positions = self.student.meter, rows * (width - 1)
        assert meter is not None
        cost = meter.body_flops(rows, width, grad=True) + self._fused_head_flops(positions, grad=True)
        return cost + (meter.body_flops(rows, width) + self._fused_head_flops(positions, grad=False) if reference else 0.0)

    def _longest(self, conversations: Sequence[Sequence[Message]]) -> int:
        return max(len(self.student.encode(self.student.render(conversation))) for conversation in conversations)

    def _completion(self, ids: list[int]) -> Completion:
        text = self.student.tokenizer.decode(ids, skip_special_tokens=True)
        return Completion(text, len(ids), ids[-1] in self.student.eos_ids, tuple(ids))

    def _before_fused_head(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Charges the head that TRL 1.16 multiplies by hand: all positions but the last; only those that count where Triton is used."""
        if not kwargs.get("fused_lm_head"):
            return
        labels_B_T = kwargs["labels"][:, 1:]
        counted = is_triton_available() and labels_B_T.device.type in ("cuda", "xpu")
        positions = int((labels_B_T != -100).sum()) if counted else labels_B_T.numel()
        self.ledger.charge(self.student.name, self._fused_head_flops(positions, grad=torch.is_grad_enabled()), 0)

    def _fused_head_flops(self, positions: int, *, grad: bool) -> float:
        """The head's forward; with `grad` its repetition in the backward, and the gradient of its input (its weight is frozen)."""
        weight = self.student.model.get_output_embeddings().weight
        assert not weight.requires_grad
        return linear_flops(weight.numel(), positions, input_grad=grad) + (linear_flops(weight.numel(), positions) if grad else 0.0)


def _sharing_copy(student: Student) -> PreTrainedModel:
    """The student's starting checkpoint as a model of its own, frozen, whose weights lie where the student's lie."""
    ledger, model = student.ledger, student.model
    if student.meter is not None:
        student.meter.detach()  # a hook would be copied with everything it holds
    shared: dict[int, Any] = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in model.parameters()}
    try:
        copied = copy.deepcopy(model, shared)
    finally:
        if ledger is not None:
            student.attach(ledger)
    base = copied.unload() if isinstance(copied, PeftModel) else copied
    assert isinstance(base, PreTrainedModel), type(base)
    return base
