"""Which verified examples stand before an instruction: seeds, and what was verified since. The kinds of context are compared in
benchmarks/responses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.core.records import Demonstration, Instruction, Message
from harness.instructions.shots import demonstration_turns, matching, varied
from harness.instructions.telltale import normalise
from selfteach.respond.config import ResponderConfig
from selfteach.roles import Floats

_COSINE_DECIMALS = 5
"""Cosines are compared to so many decimals: matrix products differ in the last bits with the number of rows."""


class Examples:
    """Verified demonstrations, seeds at first, and the choice among them.

    Args:
        seed_embeddings_N_D: of the seeds' texts, unit norm; needed for the context "nearest".
        rng: draws the examples of the context "fixed"; needed for it.
    """

    def __init__(
        self,
        seeds: Sequence[Demonstration],
        *,
        config: ResponderConfig,
        seed_embeddings_N_D: Floats | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.config = config
        self._known = list(seeds)
        self._by_length = sorted(seeds, key=lambda seed: (len(seed.instruction.text) + len(seed.response), seed.instruction.id))
        self._fixed: list[Demonstration] = []
        if config.context == "fixed":
            assert rng is not None, "fixed examples are drawn: rng is needed"
            self._fixed = varied(seeds, config.shots, rng=rng)
        self._rows: list[Floats] = []
        if config.context == "nearest":
            assert seed_embeddings_N_D is not None, "nearest examples need the seeds' embeddings"
            assert len(seed_embeddings_N_D) == len(seeds), (len(seed_embeddings_N_D), len(seeds))
            self._rows = list(seed_embeddings_N_D)

    def remember(self, instruction: Instruction, response: str, embedding: Floats) -> None:
        """Adds a verified answer to what may be shown; only the context "nearest" shows more than seeds."""
        if self.config.context == "nearest":
            self._known.append(Demonstration(instruction, response))
            self._rows.append(embedding)

    def turns(self, instructions: Sequence[Instruction], embeddings_N_D: Floats | None) -> list[list[Message]]:
        """The chat turns that stand before each instruction."""
        return [[turn for shot in shots for turn in demonstration_turns(shot)] for shots in self.choose(instructions, embeddings_N_D)]

    def choose(self, instructions: Sequence[Instruction], embeddings_N_D: Floats | None) -> list[list[Demonstration]]:
        """The examples for each instruction.

        Args:
            embeddings_N_D: of the instructions' texts; only "nearest" needs them, and it knows those of what it may show.
        """
        shots = self.config.shots
        if self.config.context == "none" or shots == 0 or not self._known:
            return [[] for _ in instructions]
        if self.config.context == "fixed":
            return [self._fixed for _ in instructions]
        if self.config.context == "matching":
            return [matching(instruction, self._by_length, shots) for instruction in instructions]
        rows = self._own_rows(instructions) if embeddings_N_D is None else embeddings_N_D
        cosines_N_M = np.round(rows @ np.stack(self._rows).T, _COSINE_DECIMALS)
        return [
            [self._known[place] for place in nearest(instruction, self._known, cosines_M, shots)]
            for instruction, cosines_M in zip(instructions, cosines_N_M, strict=True)
        ]

    def _own_rows(self, instructions: Sequence[Instruction]) -> Floats:
        places = {demonstration.instruction.id: place for place, demonstration in enumerate(self._known)}
        unknown = [instruction.id for instruction in instructions if instruction.id not in places]
        assert not unknown, f"nearest examples need embeddings of {unknown[:3]}"
        return np.stack([self._rows[places[instruction.id]] for instruction in instructions])


def nearest(instruction: Instruction, known: Sequence[Demonstration], cosines_M: Floats, n: int) -> list[int]:
    """Places of the `n` known examples of greatest cosine, equals oldest first; never the instruction itself, no text twice.

    Returned oldest first, not nearest last: equal sets then make equal prefixes, which are computed once.
    """
    taken: set[str] = {normalise(instruction.text)}
    places: list[int] = []
    for place in np.argsort(-cosines_M, kind="stable").tolist():
        if len(places) == n:
            break
        text = normalise(known[place].instruction.text)
        if text not in taken and known[place].instruction.id != instruction.id:
            taken.add(text)
            places.append(place)
    return sorted(places)
