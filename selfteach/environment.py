"""The corrected MDP: many lineages of instructions, evolved as one batch, rewarded for validity × novelty × learnability.

docs/method-card.md sums it up. State (float32, D = 32 + actions + 4): the current instruction's embedding through a fixed random projection
to 32 dimensions (a policy over all 384 would have more weights than it ever sees samples), operation counts and step as shares of the
horizon, the pass rate of the current instruction, the seed's recent pass rate, and whether the last operation led nowhere. Actions: the
executor's operations, and "stop", which earns nothing and starts a fresh seed in its place. An episode is `horizon` steps of every lineage.
A lineage moves on only to instructions that survive the elimination rules and that the responder answers at least once: what it never
solves cannot be taught from, and what is built on it even less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.core.records import Demonstration, Instruction
from harness.errors import SpecError
from harness.seeds import generator
from selfteach.attempt import Attempt, entry
from selfteach.corpus import Entry, LineageStep
from selfteach.elimination import Candidate, Context, Kept, Limits, eliminate
from selfteach.roles import Answer, Answerer, Executor, Floats, Outcome, Review, Reviewer, TextEncoder

STOP = "stop"
PROJECTED = 32
RECENT = 0.5
"""Weight of the newest pass rate in a seed's running mean."""
PRIOR_PASS_RATE = 0.5
"""Of a seed whose descendants nobody has answered yet."""

RewardTerm = Literal["validity", "novelty", "learnability"]
Integers = npt.NDArray[np.int64]


class EnvironmentConfig(BaseModel):
    """Shape of an episode and thresholds of its rewards and rejections."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lineages: int = Field(default=8, ge=1)
    horizon: int = Field(default=3, ge=1)
    reward_terms: tuple[RewardTerm, ...] = Field(default=("validity", "novelty", "learnability"), min_length=1)
    """What is multiplied into the reward that the policy learns from; the corpus logs all terms and their full product in any case."""
    novelty_scale: float = Field(default=0.3, gt=0)
    """Cosine distance from everything kept at which novelty is 1."""
    max_words: int = Field(default=200, ge=1)
    rouge_l: float = Field(default=0.7, gt=0, le=1)
    cosine: float = Field(default=0.97, gt=0, le=1)

    @field_validator("reward_terms")
    @classmethod
    def _terms_differ(cls, terms: tuple[RewardTerm, ...]) -> tuple[RewardTerm, ...]:
        if len(set(terms)) < len(terms):
            raise SpecError("expected each term once", value=list(terms))
        return terms

    def limits(self, *, must_verify: bool) -> Limits:
        """Thresholds of the elimination rules."""
        return Limits(max_words=self.max_words, rouge_l=self.rouge_l, cosine=self.cosine, must_verify=must_verify)


@dataclass
class Lineage:
    """Where a lineage stands: its seed, its last solved instruction and how it came there.

    `counts` (A,) are of operations tried; `rejected` tells whether the last one led nowhere.
    """

    seed: Demonstration
    current: Instruction
    embedding: Floats
    steps: list[LineageStep]
    counts: npt.NDArray[np.float32]
    pass_rate: float
    rejected: bool = False


@dataclass(frozen=True)
class Step:
    """What one step of all lineages came to.

    `entries` has a corpus entry per applied operation. `complete` is False when compute ran short before every survivor was answered: then
    rewards are not what they should have been.
    """

    states_B_D: Floats
    rewards_B: Floats
    entries: list[Entry]
    complete: bool


@dataclass
class Environment:
    """Evolves seeds under a policy's actions.

    Args:
        seeds: where lineages start; drawn in shuffled rounds, so that all serve equally often.
        operations: what the executor knows, "stop" excluded.
        contaminated: whether a text overlaps evaluation items.
        reviewer: asked, beside the rules, whether a child says something new; None where rules suffice.
        must_verify: reject what no rule can check; False where answers may be accepted by self-consistency.
        seed_embeddings_N_D: of the seeds' texts, where they are known already.
    """

    seeds: Sequence[Demonstration]
    operations: Sequence[str]
    executor: Executor
    encoder: TextEncoder
    answerer: Answerer
    contaminated: Callable[[str], bool]
    config: EnvironmentConfig
    reviewer: Reviewer | None = None
    must_verify: bool = True
    seed_embeddings_N_D: Floats | None = None
    _pass_rates: dict[str, float] = field(default_factory=dict)
    _deck: list[int] = field(default_factory=list)
    _made: int = 0

    def __post_init__(self) -> None:
        assert self.seeds, "no seeds"
        assert STOP not in self.operations, self.operations
        self.actions = (*self.operations, STOP)
        if self.seed_embeddings_N_D is None:
            self.seed_embeddings_N_D = self.encoder.encode([seed.instruction.text for seed in self.seeds])
        embeddings_N_D = self._seed_embeddings = self.seed_embeddings_N_D
        # The same for every trial, so that a saved policy keeps its meaning.
        self._projection = generator("selfteach", "state-projection").normal(size=(embeddings_N_D.shape[1], PROJECTED))
        self._context = Context(Kept(), self.config.limits(must_verify=self.must_verify), self.contaminated)
        for seed, embedding in zip(self.seeds, embeddings_N_D, strict=True):
            self._context.kept.add(seed.instruction.text, embedding)
        self.lineages: list[Lineage] = []
        self._time = 0

    @property
    def state_size(self) -> int:
        """D, the length of a state."""
        return PROJECTED + len(self.actions) + 4

    def reset(self, lineages: int, *, rng: np.random.Generator) -> Floats:
        """Starts an episode with `lineages` fresh seeds; returns their states (B, D)."""
        self.lineages = [self._fresh(rng) for _ in range(lineages)]
        self._time = 0
        return self._states()

    def step(self, actions_B: Integers, *, update: int, max_flops: float, rng: np.random.Generator) -> Step:
        """Applies one operation to every lineage, eliminates, has the survivors answered, and moves on to those that were solved.

        Args:
            update: the number of the policy update that the corpus entries belong to.
            max_flops: what answering may cost.
        Raises:
            BudgetExceeded: not even embedding was affordable; nothing is recorded.
        """
        attempts = self._attempts(actions_B, rng)
        self._review([attempt for attempt in attempts if attempt.reason is None], rng)
        survivors = [attempt for attempt in attempts if attempt.reason is None]
        answers = self._answers(survivors, max_flops=max_flops, rng=rng)
        answered = {attempt.id: answer for attempt, answer in zip(survivors, answers, strict=True)}
        rewards_B = np.zeros(len(self.lineages), dtype=np.float32)
        entries = []
        for attempt in attempts:
            answer = answered.get(attempt.id)
            entries.append(entry(attempt, answer, update))
            rewards_B[attempt.lineage] = math.prod(getattr(entries[-1].reward, term) for term in self.config.reward_terms)
            if answer is not None:
                self._move(attempt, answer)
        self._time += 1
        return Step(self._states(), rewards_B, entries, complete=all(answer is not None for answer in answers))

    def _fresh(self, rng: np.random.Generator) -> Lineage:
        if not self._deck:
            self._deck = rng.permutation(len(self.seeds)).tolist()
        index = self._deck.pop()
        seed = self.seeds[index]
        start = LineageStep("seed", seed.instruction.text)
        counts = np.zeros(len(self.actions), dtype=np.float32)
        return Lineage(seed, seed.instruction, self._seed_embeddings[index], [start], counts, self._recent(seed))

    def _attempts(self, actions_B: Integers, rng: np.random.Generator) -> list[Attempt]:
        """Carries out the operations as one batch; "stop" starts a fresh seed."""
        going = []
        for index, action in enumerate(actions_B):
            if self.actions[action] == STOP:
                self.lineages[index] = self._fresh(rng)
            else:
                going.append((index, self.actions[action]))
        parents = [self.lineages[index].current for index, _ in going]
        outcomes = self.executor.apply_batch(parents, [operation for _, operation in going], rng=rng) if going else []
        return [self._attempt(index, operation, outcome) for (index, operation), outcome in zip(going, outcomes, strict=True)]

    def _answers(self, survivors: list[Attempt], *, max_flops: float, rng: np.random.Generator) -> list[Answer | None]:
        if not survivors:
            return []
        embeddings_N_D = np.stack([attempt.embedding for attempt in survivors if attempt.embedding is not None])
        instructions = [attempt.made for attempt in survivors]
        answers = self.answerer.answer(instructions, embeddings_N_D=embeddings_N_D, max_flops=max_flops, rng=rng)
        for instruction, embedding, answer in zip(instructions, embeddings_N_D, answers, strict=True):
            if answer is not None and answer.response is not None:
                self.answerer.remember(instruction, answer.response, embedding)
        return answers

    def _attempt(self, index: int, operation: str, outcome: Outcome) -> Attempt:
        lineage = self.lineages[index]
        lineage.counts[self.actions.index(operation)] += 1
        lineage.rejected = True
        instruction, path = None, tuple(lineage.steps)
        self._made += 1
        name, seed_id = f"evolved-{self._made:06d}", lineage.seed.instruction.id
        if outcome.instruction is not None:
            instruction = replace(
                outcome.instruction,
                id=name,
                seed_id=seed_id,
                parent_id=lineage.current.id,
                operation=operation,
                step=len(lineage.steps),
            )
            path = (*path, LineageStep(operation, instruction.text))
        reason = None if instruction is not None else f"executor: {outcome.reason or 'no result'}"
        return Attempt(name, index, seed_id, lineage.current, operation, instruction, reason, path, reply=outcome.reply)

    def _review(self, attempts: list[Attempt], rng: np.random.Generator) -> None:
        """Embeds new instructions, applies the elimination rules and the reviewer, and measures the novelty of what survives."""
        if not attempts:
            return
        for attempt, embedding in zip(attempts, self.encoder.encode([attempt.made.text for attempt in attempts]), strict=True):
            instruction = attempt.made
            ancestors = tuple(step.text for step in attempt.path[:-1])
            candidate = Candidate(instruction, attempt.parent, embedding, reply=attempt.reply or instruction.text, ancestors=ancestors)
            attempt.reason = eliminate(candidate, self._context)
            if attempt.reason is None:
                # Parent and seeds are among the kept; so are siblings, those of this step as far as they came before.
                distance = 1 - self._context.kept.cosines(embedding).max()
                attempt.novelty = float(np.clip(distance / self.config.novelty_scale, 0, 1))
                attempt.embedding = embedding
                self._context.kept.add(instruction.text, embedding)
        survivors = [attempt for attempt in attempts if attempt.reason is None]
        if self.reviewer is not None and survivors:
            # After the rules, which are cheaper. What the reviewer rejects stays among the kept: the next child must differ from it too.
            pairs = [(attempt.parent, attempt.made) for attempt in survivors]
            for attempt, review in zip(survivors, self.reviewer.review(pairs, rng=rng), strict=True):
                attempt.reason = _objection(review)
                if attempt.reason is not None:
                    attempt.novelty = 0.0

    def _move(self, attempt: Attempt, answer: Answer) -> None:
        lineage = self.lineages[attempt.lineage]
        self._pass_rates[attempt.seed_id] = (1 - RECENT) * self._recent(lineage.seed) + RECENT * answer.pass_rate
        if answer.response is not None:
            assert attempt.embedding is not None, attempt
            lineage.current, lineage.embedding = attempt.made, attempt.embedding
            lineage.pass_rate, lineage.rejected = answer.pass_rate, False
            lineage.steps.append(attempt.path[-1])

    def _states(self) -> Floats:
        horizon = self.config.horizon
        rows = [
            np.concatenate(
                [
                    lineage.embedding @ self._projection,
                    lineage.counts / horizon,
                    [self._time / horizon, lineage.pass_rate, self._recent(lineage.seed), float(lineage.rejected)],
                ]
            )
            for lineage in self.lineages
        ]
        return np.stack(rows).astype(np.float32)

    def _recent(self, seed: Demonstration) -> float:
        return self._pass_rates.get(seed.instruction.id, PRIOR_PASS_RATE)


def _objection(review: Review) -> str | None:
    """Why a reviewer's judgement ends a child's way; a reviewer that could not be had is no judgement, and lets nothing pass."""
    if review.gain:
        return None
    return "no information gain: reviewer" if review.reply.strip() else "reviewer: no reply"
