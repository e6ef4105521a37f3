"""What the language-model policy is asked, and what its children earn: groups of siblings, judged by the environment of all policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from harness.core.records import Completion, Message
from selfteach.corpus import Entry
from selfteach.environment import Environment
from selfteach.language.executor import LanguageExecutor
from selfteach.language.prompts import OPERATION_PROMPTS
from selfteach.roles import Floats

SHOTS = 1
"""Worked examples before the request. Each makes every child dearer: an update reads the whole prompt once a child."""


@dataclass(frozen=True)
class Judgement:
    """Rewards of P groups of G siblings and their corpus entries, in order.

    `complete` is False when compute ran short before every survivor was answered: then rewards are not what they should have been.
    """

    rewards_P_G: Floats
    entries: list[Entry]
    complete: bool


class Judge(Protocol):
    """Sets the tasks of a language-model policy and rewards what it writes."""

    def prompts(self, parents: int, *, rng: np.random.Generator) -> list[list[Message]]:
        """As many conversations, each of which asks for a child of one instruction."""
        ...

    def judge(self, replies_P_G: Sequence[Sequence[Completion]], *, update: int, max_flops: float, rng: np.random.Generator) -> Judgement:
        """Rewards the replies to the last prompts.

        Args:
            update: the number of the policy update that the corpus entries belong to.
            max_flops: what answering may cost.
        Raises:
            BudgetExceeded: not even embedding was affordable; nothing is recorded.
        """
        ...


class EnvironmentJudge:
    """Judges by `environment.step`: the elimination rules, novelty, the reviewer and the responder are those of every other policy.

    The operation is drawn at random, as in Evol-Instruct, and asked for in the language-model executor's words: what differs from a random
    policy with that executor is that the writer learns. Siblings start from one instruction; the lineage goes on with one of those that
    were solved, drawn at random, and starts afresh after `horizon` steps.
    """

    def __init__(self, environment: Environment, *, max_new_tokens: int) -> None:
        unknown = set(environment.operations) - OPERATION_PROMPTS.keys()
        assert not unknown, unknown
        self.environment = environment
        self._dictation = _Dictation()
        self._executor = LanguageExecutor(self._dictation, max_new_tokens=max_new_tokens)
        self._step = 0
        self._actions_P = np.zeros(0, dtype=np.int64)

    def prompts(self, parents: int, *, rng: np.random.Generator) -> list[list[Message]]:
        if self._step % self.environment.config.horizon == 0:
            self.environment.reset(parents, rng=rng)
        self._actions_P = rng.integers(len(self.environment.operations), size=parents)
        texts = [lineage.current.text for lineage in self.environment.lineages]
        return [_prompt(self.environment.actions[action], text) for action, text in zip(self._actions_P, texts, strict=True)]

    def judge(self, replies_P_G: Sequence[Sequence[Completion]], *, update: int, max_flops: float, rng: np.random.Generator) -> Judgement:
        group = len(replies_P_G[0])
        self._dictation.replies = [reply for replies_G in replies_P_G for reply in replies_G]
        self._fork(group)
        usual, self.environment.executor = self.environment.executor, self._executor
        try:
            step = self.environment.step(np.repeat(self._actions_P, group), update=update, max_flops=max_flops, rng=rng)
        finally:
            self.environment.executor = usual
        self._join(group, rng)
        self._step += 1
        return Judgement(step.rewards_B.reshape(-1, group), step.entries, step.complete)

    def _fork(self, group: int) -> None:
        """Every lineage once for each sibling, next to one another."""
        self.environment.lineages = [
            replace(lineage, steps=list(lineage.steps), counts=lineage.counts.copy())
            for lineage in self.environment.lineages
            for _ in range(group)
        ]

    def _join(self, group: int, rng: np.random.Generator) -> None:
        """One lineage of each group of siblings: one that was solved, where there is one."""
        lineages = self.environment.lineages
        kept = []
        for start in range(0, len(lineages), group):
            siblings = lineages[start : start + group]
            solved = [lineage for lineage in siblings if not lineage.rejected]
            kept.append(solved[rng.integers(len(solved))] if solved else siblings[0])
        self.environment.lineages = kept


class _Dictation:
    """A `TextModel` that says what has been written before, in order."""

    name = "dictation"

    def __init__(self) -> None:
        self.replies: list[Completion] = []

    def complete(
        self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[Completion]]:
        assert n == 1, n
        return [[reply] for _, reply in zip(conversations, self.replies, strict=True)]


def _prompt(operation: str, text: str) -> list[Message]:
    whole = OPERATION_PROMPTS[operation]
    return replace(whole, shots=whole.shots[:SHOTS]).conversation(text)
