"""Which of the seeds stand before an instruction, and how they are written down.

Zero-shot a small student hardly ever answers in a checkable form. Measured on a 135M student: two shots of the own family served about as
well as four, and better than one of every family; with one constraint, .19 pass zero-shot, .24 after any two shots, .38 after a matching
one (.65 where the seeds have one).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.core.records import Demonstration, Instruction, Message


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
