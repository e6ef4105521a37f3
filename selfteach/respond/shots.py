"""Which verified examples stand before an instruction.

Zero-shot a small student hardly ever answers in a checkable form. Measured on a 135M student: two shots of the own family served about as
well as four, and better than one of every family; with one constraint, .19 pass zero-shot, .24 after any two shots, .38 after a matching
one (.65 where the seeds have one). The kinds of context are compared in benchmarks/responses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.core.records import Demonstration, Instruction, Message
from selfteach.language.telltale import normalise
from selfteach.respond.config import ResponderConfig
from selfteach.roles import Floats

_COSINE_DECIMALS = 5
"""Cosines are compared to so many decimals: matrix products differ in the last bits with the number of rows."""


def traits(instruction: Instruction) -> frozenset[str]:
    """What an example has to show: the puzzle family of a generator-backed instruction, and every kind of constraint."""
    kinds = {f"constraint {constraint.kind}" for constraint in instruction.constraints}
    return frozenset(kinds | {f"family {instruction.family}"} if "generator" in instruction.payload else kinds)


def demonstration_turns(demonstration: Demonstration) -> list[Message]:
    """A demonstration as two chat turns."""
    return [user_turn(demonstration.instruction), {"role": "assistant", "content": demonstration.response}]


def user_turn(instruction: Instruction) -> Message:
    """The instruction as the user's turn."""
    return {"role": "user", "content": instruction.text}


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


def matching(instruction: Instruction, seeds_by_length: Sequence[Demonstration], n: int) -> list[Demonstration]:
    """Seeds that together have the instruction's puzzle family and kinds of constraint.

    Greedy: each next one shows most of what none before it showed, with the least besides; equals by length, shortest first. Then seeds
    that show all of it. Where no seed shows anything, the shortest of the pool.
    """
    wanted = traits(instruction)
    useful = [seed for seed in seeds_by_length if traits(seed.instruction) & wanted]
    chosen: list[Demonstration] = []
    missing = wanted
    while useful and len(chosen) < n:
        best = min(useful, key=lambda seed: (-len(traits(seed.instruction) & missing), len(traits(seed.instruction) - wanted)))
        if not traits(best.instruction) & missing and not wanted <= traits(best.instruction):
            break
        chosen.append(best)
        useful.remove(best)
        missing = missing - traits(best.instruction)
    return chosen or [seed for seed in seeds_by_length if seed.instruction.pool == instruction.pool][:n]


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


def varied(seeds: Sequence[Demonstration], n: int, *, rng: np.random.Generator) -> list[Demonstration]:
    """`n` seeds drawn so that puzzles and constrained requests, and families among them, come up as evenly as they can."""
    left = [seeds[place] for place in rng.permutation(len(seeds))]
    chosen: list[Demonstration] = []

    def crowding(seed: Demonstration) -> tuple[int, int]:
        puzzle, family = "generator" in seed.instruction.payload, seed.instruction.family
        same_form = [shot for shot in chosen if ("generator" in shot.instruction.payload) == puzzle]
        return len(same_form), sum(shot.instruction.family == family for shot in same_form)

    while left and len(chosen) < n:
        chosen.append(min(left, key=crowding))
        left.remove(chosen[-1])
    return chosen
