"""The published MDP: the state is the last action, the reward is 1 where the reviewer answers "Not Equal", an episode is six steps.

See docs/method-card.md. Lineages are stepped as one batch. There is no elimination: whatever the executor makes is the next instruction.
Where it makes none (only rules can fail so) the reward is 0 and the instruction stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.core.budget import Ledger
from harness.core.records import Demonstration, Instruction
from harness.seeds import generator
from selfteach.faithful.quirks import FaithfulConfig
from selfteach.roles import Executor, Floats, Review, Reviewer, TextEncoder

PROJECTED = 32
NOT_EQUAL = "Not Equal"


class StateEncoder:
    """The policy's states: one-hot of the last action, and with `blind_state` off the instruction's projected embedding and the step.

    Args:
        encoder: embeds instructions; needed where the state is not blind.
    """

    def __init__(self, n_actions: int, config: FaithfulConfig, encoder: TextEncoder | None) -> None:
        assert config.quirks.blind_state or encoder is not None, "a state that sees the text needs an encoder"
        self._n_actions, self._horizon = n_actions, config.horizon
        self._encoder = None if config.quirks.blind_state else encoder
        self.size = n_actions if self._encoder is None else n_actions + PROJECTED + 1

    def __call__(self, last_actions: Sequence[int | None], instructions: Sequence[Instruction], time: int) -> Floats:
        """States (B, D) after `time` steps of the episode; no last action is zeros."""
        one_hot_B_A = np.zeros((len(instructions), self._n_actions), dtype=np.float32)
        for row, action in zip(one_hot_B_A, last_actions, strict=True):
            if action is not None:
                row[action] = 1
        if self._encoder is None:
            return one_hot_B_A
        embeddings_B_E = self._encoder.encode([instruction.text for instruction in instructions])
        # The same for every trial, so that a saved policy keeps its meaning; as in selfteach.environment.
        projection_E_P = generator("selfteach", "state-projection").normal(size=(embeddings_B_E.shape[1], PROJECTED))
        time_B_1 = np.full((len(instructions), 1), time / self._horizon)
        return np.concatenate([one_hot_B_A, embeddings_B_E @ projection_E_P, time_B_1], axis=1).astype(np.float32)


class SeedDeck:
    """Seeds in shuffled rounds, so that all serve equally often."""

    def __init__(self, seeds: Sequence[Demonstration]) -> None:
        assert seeds, "no seeds"
        self._seeds = seeds
        self._deck: list[int] = []

    def draw(self, rng: np.random.Generator) -> Instruction:
        """The next seed's instruction."""
        if not self._deck:
            self._deck = rng.permutation(len(self._seeds)).tolist()
        return self._seeds[self._deck.pop()].instruction


class FaithfulEnvironment:
    """The training environment; `instructions` are where the lineages stand."""

    def __init__(
        self,
        seeds: Sequence[Demonstration],
        operations: Sequence[str],
        executor: Executor,
        reviewer: Reviewer,
        ledger: Ledger,
        config: FaithfulConfig,
        *,
        encoder: TextEncoder | None = None,
    ) -> None:
        self.operations = tuple(operations)
        self.states = StateEncoder(len(self.operations), config, encoder)
        self.instructions: list[Instruction] = []
        self._executor, self._reviewer, self._ledger, self._config = executor, reviewer, ledger, config
        self._deck = SeedDeck(seeds)
        self._time = 0
        self._made = 0

    def reset(self, *, rng: np.random.Generator) -> Floats:
        """Starts an episode of every lineage; where lineages persist, at what the last episode left."""
        if not self.instructions or not self._config.quirks.persistent_lineage:
            self.instructions = [self._deck.draw(rng) for _ in range(self._config.episodes_per_update)]
        self._time = 0
        return self.states([None] * len(self.instructions), self.instructions, 0)

    def step(self, actions_B: Sequence[int], *, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Applies an operation to every lineage; returns states (B, D) and rewards (B,).

        Raises:
            BudgetExceeded: a role could not be paid; the lineages stand where they stood.
        """
        names = [self.operations[action] for action in actions_B]
        with self._ledger.use_phase("execute"):
            outcomes = self._executor.apply_batch(self.instructions, names, rng=rng)
        going = [(index, outcome.instruction) for index, outcome in enumerate(outcomes) if outcome.instruction is not None]
        with self._ledger.use_phase("review"):
            reviews = self._reviewer.review([(self.instructions[index], child) for index, child in going], rng=rng) if going else []
        rewards_B = np.zeros(len(names), dtype=np.float32)
        for (index, child), review in zip(going, reviews, strict=True):
            rewards_B[index] = self._reward(review)
            self._made += 1
            # A lineage that persists for ever would carry ever longer ids otherwise.
            self.instructions[index] = replace(child, id=f"faithful-{self._made:06d}")
        self._time += 1
        return self.states(list(actions_B), self.instructions, self._time), rewards_B

    def _reward(self, review: Review) -> float:
        """1 for the exact words, or for the judgement where words do not matter or a rule, which has none, made it."""
        if self._config.quirks.exact_reply and review.reply:
            return float(review.reply == NOT_EQUAL)
        return float(review.gain)
