"""reasoning-gym's families as this project uses them: easiest settings, and how each grows harder.

Chosen for a student of 135M parameters: prompts under 150 tokens, answers of a few tokens with one exact solution, and training families in
which such a student visibly improves. Held-out families share a skill with some training family (letters, small counts, reading names from
short statements, arithmetic, deduction) and none of its wording.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """A generator and its difficulty knobs: each ladder is a row of settings from easy to hard, its first rung the default.

    `depth` raises the number of reasoning steps, `size` the amount of material; either may be missing.
    """

    name: str
    lead: str
    """How an answer in a full sentence begins."""
    fixed: Config
    depth: tuple[Config, ...] = ()
    size: tuple[Config, ...] = ()
    textual: bool = True
    """Whether answers have letters, so that case means something."""
    held_out: bool = False

    @property
    def easiest(self) -> Config:
        """The settings that instances start from."""
        return {**self.fixed, **(self.depth[0] if self.depth else {}), **(self.size[0] if self.size else {})}


def _ladder(low_name: str, high_name: str, *rungs: tuple[int, int]) -> tuple[Config, ...]:
    return tuple({low_name: low, high_name: high} for low, high in rungs)


_TRAIN = (
    Family(
        "letter_counting",
        "The letter count is",
        {},
        size=_ladder("min_words", "max_words", (3, 6), (6, 9), (10, 14), (15, 20)),
        textual=False,
    ),
    Family(
        "isomorphic_strings",
        "The verdict is",
        {},
        size=_ladder("min_string_length", "max_string_length", (2, 4), (4, 6), (6, 9), (9, 12)),
    ),
    Family(
        "syllogism",
        "The conclusion holds:",
        {},
        depth=tuple({"inversion_probability": share} for share in (0.0, 0.5, 1.0)),
        size=(
            {"allow_some": False, "allow_some_not": False},
            {"allow_some": True, "allow_some_not": False},
            {"allow_some": True, "allow_some_not": True},
        ),
    ),
    Family(
        "needle_haystack",
        "The person is",
        {},
        size=_ladder("min_num_statements", "max_num_statements", (2, 3), (4, 6), (7, 9), (10, 13)),
    ),
    Family(
        "gcd",
        "The greatest common divisor is",
        {},
        depth=_ladder("min_numbers", "max_numbers", (2, 2), (3, 3), (4, 4)),
        size=tuple({"max_value": value} for value in (20, 50, 100, 500)),
        textual=False,
    ),
    Family(
        "chain_sum",
        "The sum comes to",
        {},
        depth=_ladder("min_terms", "max_terms", (2, 2), (3, 3), (4, 4), (5, 6)),
        size=_ladder("min_digits", "max_digits", (1, 1), (1, 2), (2, 2), (3, 3)),
        textual=False,
    ),
    Family(
        "caesar_cipher",
        "The plain text is",
        {},
        depth=_ladder("min_rotation", "max_rotation", (1, 3), (1, 8), (1, 25)),
        size=_ladder("min_words", "max_words", (1, 2), (2, 3), (3, 4)),
    ),
    Family(
        "word_sequence_reversal",
        "The reversed list is",
        {},
        size=_ladder("min_words", "max_words", (2, 3), (4, 5), (6, 7)),
    ),
    Family(
        "products",
        "The product is",
        {},
        depth=_ladder("min_terms", "max_terms", (2, 2), (3, 3)),
        size=_ladder("min_digits", "max_digits", (1, 1), (1, 2), (2, 2)),
        textual=False,
    ),
)
_HELD_OUT = (
    Family(
        "ransom_note",
        "The verdict is",
        {},
        size=({"max_note_length": 4, "max_magazine_length": 8}, {"max_note_length": 8, "max_magazine_length": 16}),
        held_out=True,
    ),
    Family(
        "family_relationships",
        "The relation is",
        {},
        size=_ladder("min_family_size", "max_family_size", (4, 5), (6, 8)),
        held_out=True,
    ),
    Family("aiw", "The number is", {}, size=({"max_entities": 6}, {"max_entities": 12}), textual=False, held_out=True),
    Family("count_bits", "The number of bits is", {}, size=({"max_n": 255}, {"max_n": 4095}), textual=False, held_out=True),
    Family("lcm", "The least common multiple is", {}, size=({"max_value": 20}, {"max_value": 50}), textual=False, held_out=True),
    Family(
        "simple_equations",
        "The solution is",
        {"min_value": 1, "operators_weights": [0.5, 0.5, 0.0]},
        depth=_ladder("min_terms", "max_terms", (2, 2), (3, 3)),
        size=({"max_value": 9}, {"max_value": 50}),
        textual=False,
        held_out=True,
    ),
    Family("knights_knaves", "The solution is", {"n_people": 2}, held_out=True),
)
FAMILIES: dict[str, Family] = {family.name: family for family in (*_TRAIN, *_HELD_OUT)}
TRAIN_FAMILIES = tuple(family.name for family in _TRAIN)
EVAL_FAMILIES = tuple(family.name for family in _HELD_OUT)


def harder(family: str, config: Config, attribute: str) -> Config | None:
    """`config` one rung up the ladder "depth" or "size"; None where the family lacks the ladder or stands on its last rung.

    A config set by hand to values that are no rung counts as the first one.
    """
    assert attribute in ("depth", "size"), attribute
    ladder = FAMILIES[family].depth if attribute == "depth" else FAMILIES[family].size
    rung = next((index for index, step in enumerate(ladder) if all(config.get(key) == value for key, value in step.items())), 0)
    return {**config, **ladder[rung + 1]} if rung + 1 < len(ladder) else None
