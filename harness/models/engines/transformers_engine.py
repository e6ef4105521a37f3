"""The default engine: the student's own torch modules, metered by their hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from harness.models.engines.base import EngineName, PairScore
from harness.models.generation import PrefixCaches, generate_tokens

if TYPE_CHECKING:
    from harness.models.student import Student


class TransformersEngine:
    """Computes in this process, charged forward by forward."""

    name: EngineName = "transformers"

    def __init__(self, student: Student) -> None:
        self.student = student

    def generate_tokens(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        prefixes: Sequence[Sequence[int]],
        n: int,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        prefix_caches: PrefixCaches | None = None,
        stopped: Callable[[Sequence[int]], bool] | None = None,
    ) -> list[list[list[int]]]:
        """See `Engine`."""
        student = self.student
        student.model.eval()
        with student.autocast(), torch.inference_mode():
            return generate_tokens(
                student.model,
                prompts,
                prefixes=prefixes,
                n=n,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed,
                eos_ids=student.eos_ids,
                pad_id=student.pad_id,
                prefix_caches=prefix_caches,
                stopped=stopped,
            )

    def score_pairs(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[PairScore]:
        """See `Engine`. One forward a pair, without padding: the reference. harness.scoring.prefix shares contexts and batches."""
        self.student.model.eval()
        return [self._score(context, continuation) for context, continuation in pairs]

    def _score(self, context: Sequence[int], continuation: Sequence[int]) -> PairScore:
        ids = torch.tensor([[*context, *continuation[:-1]]], device=self.student.device)
        with self.student.autocast(), torch.inference_mode():
            logits = self.student.model(input_ids=ids, use_cache=False, logits_to_keep=len(continuation)).logits[0].float()
        target = torch.tensor(list(continuation), device=logits.device)
        logprob = logits.log_softmax(-1).gather(1, target[:, None]).double().sum()
        return PairScore(float(logprob), bool((logits.argmax(-1) == target).all()))

    def close(self) -> None:
        """See `Engine`; nothing was started."""
