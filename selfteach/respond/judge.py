"""What of k samples is accepted: by rule, or by their agreement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.pool import TaskPool
from harness.core.records import Completion, Instruction, Message
from harness.instructions.consistency import largest_group
from harness.instructions.faults import fault
from selfteach.language.telltale import leak
from selfteach.respond.config import ResponderConfig
from selfteach.roles import Answer, VerifiedBy

MIN_AGREEING = 2
"""One sample agrees with itself: that is no evidence."""


@dataclass(frozen=True)
class Judge:
    """Turns samples into an answer; `pool.verify` is called only where the settings say that a rule decides."""

    pool: TaskPool
    config: ResponderConfig

    def judge(self, instruction: Instruction, completions: Sequence[Completion], context: Sequence[Message]) -> Answer:
        """One instruction's samples, judged.

        By rule: the pass rate is the share of all samples that verify, the response the shortest of them. By agreement: the share of the
        largest group, its medoid; nothing is accepted (pass rate 0, so that disagreement is not taken for something to learn) unless the
        group has at least two samples and the share of all k that `config.agreement` asks.

        Args:
            context: the turns that stood before the instruction.
        """
        rejected: Counter[str] = Counter()
        texts = []
        limit = self.config.max_new_tokens(instruction)
        for completion in completions:
            reason = fault(instruction, completion, context, max_new_tokens=limit, leak=leak)
            if reason is None and self.pool.contaminated(completion.text):
                # An expert may know evaluation items by heart.
                reason = "contaminated"
            if reason is None:
                texts.append(completion.text.strip())
            else:
                rejected[reason] += 1
        if self._by_rule(instruction):
            accepted, reason = self._verified(instruction, texts)
            response = min(accepted, key=lambda text: (len(text), text), default=None)
        else:
            accepted, reason = self._agreeing(texts, len(completions))
            response = accepted[0] if accepted else None
        rejected[reason] += len(texts) - len(accepted)
        by: VerifiedBy = "rule" if self._by_rule(instruction) else "consistency"
        return Answer(len(completions), len(accepted), response, by, dict(sorted((+rejected).items())))

    def _by_rule(self, instruction: Instruction) -> bool:
        return self.config.verification == "rule" or (self.config.verification == "either" and instruction.verifiable)

    def _verified(self, instruction: Instruction, texts: Sequence[str]) -> tuple[list[str], str]:
        if not instruction.verifiable:
            return [], "no rule"
        return [text for text in texts if self.pool.verify(instruction, text).passed], "not verified"

    def _agreeing(self, texts: Sequence[str], samples: int) -> tuple[list[str], str]:
        group = largest_group(texts)
        agreed = len(group) >= max(MIN_AGREEING, self.config.agreement * samples)
        return (group, "disagrees") if agreed else ([], "no agreement")
