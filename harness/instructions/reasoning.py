"""Instructions backed by a reasoning-gym generator: made from (family, config, seed, index) alone, checked by the generator itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Set
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from harness.core.records import Instruction
from harness.errors import SpecError
from harness.instructions.families import EVAL_FAMILIES, FAMILIES, TRAIN_FAMILIES, harder
from harness.instructions.render import compose

__all__ = ["EVAL_FAMILIES", "FAMILIES", "TRAIN_FAMILIES", "Split", "draw", "generate", "gold", "harder", "solves", "split_of"]

Split = Literal["train", "validation", "evaluation"]
POOL = "reasoning"
ANSWER_ONLY = "Reply with the answer only."
PASSED = 0.99
"""Generators score in [0, 1] with partial credit; from here on an answer counts as correct."""
_VALIDATION_SHARE = 5
"""One question in so many is kept for validation."""
_SPLIT_SEEDS: dict[Split, int] = {"train": 0, "validation": 10**9, "evaluation": 2 * 10**9}
_INDICES = 10**8
"""Generators seed each instance with seed + index, so split seeds lie further apart than indices reach."""
_ATTEMPTS = 60


class _SortedSet(frozenset[str]):
    """Two generators draw from `list(self.letters)`, a set: its order, and so every instance, would change with PYTHONHASHSEED."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__()))

    def __sub__(self, other: Any) -> _SortedSet:
        return _SortedSet(super().__sub__(frozenset(other)))


@lru_cache(maxsize=512)
def _dataset(family: str, config: str, seed: int) -> Any:
    # Imported here: reasoning_gym takes a second to import, and constraint instructions do without.
    import reasoning_gym

    dataset = reasoning_gym.create_dataset(family, seed=seed, size=1, **json.loads(config))
    if hasattr(dataset, "letters"):
        dataset.letters = _SortedSet(dataset.letters)
    return dataset


def _entry(family: str, config: dict[str, Any], seed: int, index: int) -> dict[str, Any]:
    entry: dict[str, Any] = _dataset(family, json.dumps(config, sort_keys=True), seed)[index]
    return entry


def check_config(family: str, config: dict[str, Any]) -> None:
    """Tries a generator's settings.

    Raises:
        SpecError: a setting is unknown or out of range.
    """
    import reasoning_gym

    known = vars(reasoning_gym.create_dataset(family).config).keys() - {"seed", "size"}
    for name in config:
        if name not in known:
            raise SpecError(f"expected a setting of reasoning-gym's {family}", value=name, valid=known)
    try:
        _entry(family, {**FAMILIES[family].easiest, **config}, 0, 0)
    except (AssertionError, TypeError, ValueError, IndexError) as error:
        raise SpecError(f"expected settings that reasoning-gym's {family} accepts ({error})", value=config) from error


def generate(family: str, config: dict[str, Any], seed: int, index: int) -> Instruction:
    """Instance `index` of a generator, the same on every machine and in every process.

    The payload holds generator, config, seed, index and gold answer.
    """
    assert family in FAMILIES, family
    entry = _entry(family, config, seed, index)
    return compose(
        pool=POOL,
        family=family,
        body=f"{entry['question'].strip()}\n{ANSWER_ONLY}",
        payload={"generator": family, "config": config, "seed": seed, "index": index, "gold": str(entry["answer"])},
    )


def split_of(body: str) -> Split:
    """The split that a training family's question belongs to, by a hash of its wording: small families repeat questions across seeds."""
    bucket = int.from_bytes(hashlib.blake2b(body.encode(), digest_size=4).digest(), "big") % _VALIDATION_SHARE
    return "validation" if bucket == 0 else "train"


def draw(
    family: str,
    config: dict[str, Any],
    split: Split,
    *,
    rng: np.random.Generator,
    exclude: Set[str] = frozenset(),
) -> Instruction | None:
    """A random instance of `split`; None where a small generator yields nothing outside `exclude`.

    Args:
        config: settings in place of the easiest ones.
        exclude: bodies not wanted again.
    """
    assert (split == "evaluation") == FAMILIES[family].held_out, (family, split)
    settings = {**FAMILIES[family].easiest, **config}
    for _ in range(_ATTEMPTS):
        index = int(rng.integers(_INDICES))
        instruction = generate(family, settings, _SPLIT_SEEDS[split], index)
        if instruction.body not in exclude and split in ("evaluation", split_of(instruction.body)):
            return instruction
    return None


def gold(instruction: Instruction) -> str:
    """The correct answer, generated anew."""
    return str(_regenerated(instruction)["answer"])


def solves(instruction: Instruction, answer: str, *, any_case: bool = False) -> bool:
    """Whether the generator accepts `answer`, give or take white space, an "Answer:" in front, a full stop or quotation marks.

    Args:
        any_case: also accept the answer in other letters' case (where a constraint dictates the case).
    """
    entry = _regenerated(instruction)
    payload = instruction.payload
    dataset = _dataset(payload["generator"], json.dumps(payload["config"], sort_keys=True), payload["seed"])
    readings = _readings(answer)
    if any_case and any(reading.casefold() == str(entry["answer"]).casefold() for reading in readings):
        return True
    return any(dataset.score_answer(reading, entry) >= PASSED for reading in readings if reading)


def _regenerated(instruction: Instruction) -> dict[str, Any]:
    payload = instruction.payload
    return _entry(payload["generator"], payload["config"], payload["seed"], payload["index"])


def _readings(answer: str) -> set[str]:
    text = answer.strip()
    bare = text[7:].strip() if text[:7].casefold() == "answer:" else text
    return {text, bare, bare.rstrip("."), bare.strip("\"'*` ").rstrip(".")}
