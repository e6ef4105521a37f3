"""The student's starting checkpoint as the annotator of pairs (RLAIF)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from baselines.logprobs import MicroBatches, Parts, frozen_parts
from harness.core.budget import Ledger
from harness.core.records import Instruction, Preference
from harness.models.examples import TokenizedExample, padded, response_logits
from harness.models.student import Student

QUESTION = """Two assistants answered the same request. Which response is better: does what the request asks, and reads well?

Request:
{request}

Response A:
{first}

Response B:
{second}

Answer with A or B only."""
ROWS_AT_ONCE = 16


class SelfJudge:
    """The student's starting checkpoint as the annotator of pairs. Make it before the student is trained."""

    def __init__(self, student: Student, ledger: Ledger) -> None:
        self.student, self.ledger = student, ledger
        # Adapters can be switched off; a model that is trained as a whole must be copied.
        whole = student.adaptation is None or student.adaptation.kind == "full"
        self.parts: Parts | None = frozen_parts(student, ledger, "judge") if whole else None
        self.batches = MicroBatches(ledger, ROWS_AT_ONCE)

    def label(self, pairs: Sequence[tuple[Instruction, str, str]], *, rng: np.random.Generator) -> list[Preference]:
        """The preferred response of each pair; a coin decides between equals. Charged to phase "review", counted as nobody's comparison."""
        leads = self.leads(pairs)
        wins = [lead > 0 or (lead == 0 and bool(rng.random() < 0.5)) for lead in leads]
        return [
            Preference(instruction, *((first, second) if win else (second, first)), annotator="self")
            for (instruction, first, second), win in zip(pairs, wins, strict=True)
        ]

    def leads(self, pairs: Sequence[tuple[Instruction, str, str]]) -> list[float]:
        """By how many nats the first response is preferred, the mean over both orders."""
        asked = [(pair[0].text, *order) for pair in pairs for order in ((pair[1], pair[2]), (pair[2], pair[1]))]
        examples = [self._asked(*texts) for texts in asked]
        rows = sorted(range(len(examples)), key=lambda row: len(examples[row].ids))

        def compute() -> torch.Tensor:
            return torch.cat([self._lead_of_a([examples[row] for row in part]) for part in self.batches.split(rows)])

        self.student.model.eval()
        with self.ledger.use_phase("review"), torch.no_grad(), self.student.as_loaded():
            lead_of = dict(zip(rows, self.batches.attempt(compute, len(rows)).tolist(), strict=True))
        return [(lead_of[row] - lead_of[row + 1]) / 2 for row in range(0, len(examples), 2)]

    def _asked(self, request: str, first: str, second: str) -> TokenizedExample:
        """The question up to where "A" and "B" part, and one token in place of the verdict."""
        rendered = self.student.render([{"role": "user", "content": QUESTION.format(request=request, first=first, second=second)}])
        before = (*self.student.encode(rendered), *self._verdicts()[0])
        return TokenizedExample((*before, self._verdicts()[1]), len(before))

    def _verdicts(self) -> tuple[list[int], int, int]:
        """What the replies "A" and "B" have in common, and the tokens in which they differ."""
        a, b = (self.student.encode(self.student.response_text(letter)) for letter in "AB")
        common = next(index for index, (one, other) in enumerate(zip(a, b, strict=False)) if one != other)
        return a[:common], a[common], b[common]

    def _lead_of_a(self, examples: Sequence[TokenizedExample]) -> torch.Tensor:
        """log P("A") - log P("B") of each question (B,)."""
        ids_B_T, mask_B_T, target_B_T = padded(examples, self.student.pad_id, self.student.device)
        _, a, b = self._verdicts()
        with self.student.autocast():
            logits_B_V = response_logits(self.student, ids_B_T, mask_B_T, target_B_T, reference=self.parts)
        return logits_B_V[:, a] - logits_B_V[:, b]
