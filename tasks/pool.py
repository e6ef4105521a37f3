"""The mixed task pool: our own instructions under checkable constraints, and reasoning-gym's training families.

Three splits that share nothing: seeds are divided by a hash of their id, training and validation questions by a hash of their wording;
evaluation has constraint kinds and generator families of its own. Methods meet the pool (`MixedPool`); evaluation tasks are built from
`constraint_items` and `reasoning_items`, which no method is given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core.budget import Ledger
from harness.core.records import Constraint, Demonstration, Instruction, Preference, Verification
from harness.errors import SpecError
from harness.instructions.constraints import EVAL_KINDS, TRAIN_KINDS, sample_stack
from harness.instructions.demonstrate import demonstration
from harness.instructions.ngrams import ngram_hashes
from harness.instructions.reasoning import EVAL_FAMILIES, FAMILIES, TRAIN_FAMILIES, Split, check_config, draw
from harness.instructions.render import compose, without_answers
from harness.instructions.texts import between, pick
from harness.instructions.verify import verify
from harness.seeds import generator
from tasks.agreement import Pair, agreement_report
from tasks.annotators import EVEN, Annotators, AnnotatorsConfig

SEEDS_FILE = Path(__file__).parent / "seeds" / "instructions.jsonl"
POOL = "instructions"
_SPLIT_SHARES: tuple[tuple[Split, int], ...] = (("train", 60), ("validation", 75), ("evaluation", 100))
"""Cumulative percentages of seeds."""
_TRAIN_STACK = (1, 3)
"""Fewest and most constraints of a training instruction; evaluation stacks up to five."""
_ATTEMPTS = 200


@dataclass(frozen=True)
class SeedInstruction:
    """One hand-written request with its author's response."""

    id: str
    topic: str
    form: str
    instruction: str
    response: str


@lru_cache(maxsize=1)
def _all_seeds() -> tuple[SeedInstruction, ...]:
    return tuple(SeedInstruction(**json.loads(line)) for line in SEEDS_FILE.read_text(encoding="utf-8").splitlines())


def seed_split(seed_id: str) -> Split:
    """The split of a seed: 60 % train, 15 % validation, 25 % evaluation, by a hash of its id."""
    percent = int.from_bytes(hashlib.blake2b(seed_id.encode(), digest_size=4).digest(), "big") % 100
    return next(split for split, share in _SPLIT_SHARES if percent < share)


def seed_instructions(split: Split) -> tuple[SeedInstruction, ...]:
    """The hand-written seeds of a split."""
    return tuple(seed for seed in _all_seeds() if seed_split(seed.id) == split)


def _constrained(seed: SeedInstruction, constraints: Sequence[Constraint]) -> Instruction:
    payload = {"reference": seed.response}
    return compose(pool=POOL, family=seed.topic, body=seed.instruction, constraints=constraints, payload=payload, seed_id=seed.id)


def _draw_constrained(split: Split, k: int, rng: np.random.Generator) -> Instruction:
    """A seed of the split under `k` constraints that its reference response can be made to satisfy: so no stack is contradictory."""
    kinds = EVAL_KINDS if split == "evaluation" else TRAIN_KINDS
    seeds = seed_instructions(split)
    for _ in range(_ATTEMPTS):
        stack = sample_stack(k, kinds, rng=rng)
        instruction = _constrained(pick(rng, seeds), stack)
        if len(stack) == k and demonstration(instruction) is not None:
            return instruction
    raise AssertionError(f"no satisfiable stack of {k} constraints in {_ATTEMPTS} attempts")


def constraint_items(split: Split, n: int, k_range: tuple[int, int] = (1, 5), seed: int = 0) -> list[Instruction]:
    """`n` different constrained instructions of a split, k cycling through `k_range`; payloads hold the reference response.

    Evaluation items use held-out constraint kinds only, and seeds of their own.
    """
    low, high = k_range
    assert n > 0, n
    assert 1 <= low <= high <= 5, k_range
    rng = generator("constraint_items", split, seed)
    items: dict[str, Instruction] = {}
    while len(items) < n:
        item = _draw_constrained(split, low + len(items) % (high - low + 1), rng)
        items[item.id] = item
    return list(items.values())


def reasoning_items(split: Split, families: Sequence[str], n_per_family: int, seed: int = 0) -> list[Instruction]:
    """Different questions of each family, gold answers in the payload; fewer where a small generator runs dry.

    Raises:
        SpecError: a family is unknown or not of that split (evaluation has the held-out families, the others the training ones).
    """
    assert n_per_family > 0, n_per_family
    valid = EVAL_FAMILIES if split == "evaluation" else TRAIN_FAMILIES
    items: list[Instruction] = []
    for family in families:
        if family not in valid:
            raise SpecError(f"expected a family of the {split} split", key="families", value=family, valid=valid)
        rng = generator("reasoning_items", split, family, seed)
        taken: set[str] = set()
        while len(taken) < n_per_family and (item := draw(family, {}, split, rng=rng, exclude=taken)) is not None:
            taken.add(item.body)
            items.append(item)
    return items


def _easiest() -> dict[str, dict[str, Any]]:
    return {name: {} for name in TRAIN_FAMILIES}


class MixedPoolConfig(BaseModel):
    """What the pool offers.

    `families` names reasoning-gym training families: a list of names, or a mapping of names to settings in place of the easiest ones.
    A family that is unknown or held out, or settings that its generator refuses, are a mistake of the study file (SpecError).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    families: dict[str, dict[str, Any]] = Field(default_factory=_easiest)
    constraint_share: float = Field(default=0.5, ge=0, le=1)
    """Share of constrained instructions; the rest are reasoning questions."""
    seed_demonstrations: int = Field(default=24, ge=1, le=200)
    annotators: AnnotatorsConfig = AnnotatorsConfig()

    @field_validator("families", mode="before")
    @classmethod
    def _names_to_mapping(cls, families: Any) -> Any:
        named = isinstance(families, list) and all(isinstance(name, str) for name in families)
        return {name: {} for name in families} if named else families

    @field_validator("families")
    @classmethod
    def _training_families(cls, families: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        # Here and not in the pool, so that a study file with a wrong family is refused before anything runs.
        for family, settings in families.items():
            if family not in TRAIN_FAMILIES:
                held_out = "; this one is held out for evaluation" if family in FAMILIES else ""
                raise SpecError(f"expected a training family{held_out}", value=family, valid=TRAIN_FAMILIES)
            if settings:
                check_config(family, settings)
        return families

    @model_validator(mode="after")
    def _something_to_draw(self) -> MixedPoolConfig:
        if not self.families and self.constraint_share < 1:
            raise SpecError("expected a constraint_share of 1 where no families are named", value=self.constraint_share)
        return self


class MixedPool:
    """harness.core.pool.TaskPool over constrained instructions and reasoning questions.

    Args:
        ngrams: hashed 8-grams of every evaluation item (harness.scoring.suites.evaluation_ngrams).
    """

    Config = MixedPoolConfig
    family_task = ("pool_validation", "validation_reasoning")
    """Suite and task whose items say which training family they are of: what leave-one-family-out training is scored on."""

    @staticmethod
    def families(config: MixedPoolConfig) -> list[str]:
        """The families that training can be left without, one at a time."""
        return list(config.families)

    @staticmethod
    def without(config: MixedPoolConfig, family: str) -> MixedPoolConfig:
        """The configuration less one family."""
        return config.model_copy(update={"families": {name: settings for name, settings in config.families.items() if name != family}})

    def __init__(self, config: MixedPoolConfig, *, ledger: Ledger, rng: np.random.Generator, ngrams: frozenset[int]) -> None:
        self.config, self._ledger, self._ngrams = config, ledger, ngrams
        self.annotators = Annotators(config.annotators)
        self._families = list(config.families)
        self._handed_out: set[str] = set()
        """Bodies of questions and whole texts of constrained requests, whose bodies recur."""
        self._seeds = self._draw_seeds(rng)
        self._seeds_counted = False
        self._compared: list[tuple[Pair, Preference]] = []

    def seeds(self) -> list[Demonstration]:
        """The seed demonstrations, equal at every call and counted at the first."""
        if not self._seeds_counted:
            self._ledger.count("demonstrations", len(self._seeds))
            self._seeds_counted = True
        return list(self._seeds)

    def demonstrations(self, n: int, *, rng: np.random.Generator) -> list[Demonstration]:
        """`n` labelled training examples, each counted; new ones as long as small generators have any left."""
        found = [self._labelled(self._draw(rng)) for _ in range(n)]
        self._ledger.count("demonstrations", n)
        return found

    def prompts(self, n: int, *, rng: np.random.Generator) -> list[Instruction]:
        """`n` training instructions without answers, free of charge."""
        return [without_answers(self._draw(rng)) for _ in range(n)]

    def preferences(self, pairs: Sequence[tuple[Instruction, str, str]], *, rng: np.random.Generator) -> list[Preference]:
        """Labels pairs of responses by the simulated annotators, each counted as one comparison."""
        labelled = [self.annotators.label(instruction, first, second, rng=rng) for instruction, first, second in pairs]
        self._ledger.count("comparisons", len(labelled))
        self._compared += zip(pairs, labelled, strict=True)
        return labelled

    def verify(self, instruction: Instruction, response: str) -> Verification:
        """Checks a response by rule, counted as one verification."""
        self._ledger.count("verifications")
        return verify(instruction, response)

    def contaminated(self, text: str) -> bool:
        """Whether `text` shares an 8-gram of words with any evaluation item."""
        return not self._ngrams.isdisjoint(ngram_hashes(text))

    def held_out(self, n: int, *, rng: np.random.Generator) -> list[Demonstration]:
        """`n` demonstrations like those that the pool hands out, none of them handed out before. Not counted: for measurements only.

        Fewer where small generators run dry.
        """
        found: dict[str, Demonstration] = {}
        for _ in range(_ATTEMPTS + 2 * n):
            if len(found) == n:
                break
            if not self._families or rng.random() < self.config.constraint_share:
                item: Instruction | None = _draw_constrained("train", between(rng, *_TRAIN_STACK), rng)
            else:
                family = pick(rng, self._families)
                item = draw(family, self.config.families[family], "train", rng=rng, exclude=self._handed_out)
            if item is not None and item.body not in self._handed_out and item.text not in self._handed_out:
                found.setdefault(item.text, self._labelled(item))
        return list(found.values())

    def without_noise(self, pairs: Sequence[tuple[Instruction, str, str]]) -> list[bool | None]:
        """Whether the annotators together prefer the first response: by their mean worth, without noise; None where it is even.

        Not counted: for measurements of labels and reward models, not for methods to learn from.
        """
        if not pairs:
            return []
        return [bool(gain > 0) if abs(gain) > EVEN else None for gain in self.annotators.gains(pairs).mean(0)]

    def reports(self) -> dict[str, Any]:
        """annotators.json, if comparisons were bought: who judged, and how far they agree (tasks.agreement)."""
        if not self._compared:
            return {}
        pairs, labels = zip(*self._compared, strict=True)
        return {"annotators.json": agreement_report(self.annotators, pairs, labels, rng=generator("annotators", "panel"))}

    def state(self) -> dict[str, Any]:
        """What has been handed out, counted and compared, as JSON."""
        compared = [{"pair": [asdict(pair[0]), *pair[1:]], "label": asdict(label)} for pair, label in self._compared]
        return {"handed_out": sorted(self._handed_out), "seeds_counted": self._seeds_counted, "compared": compared}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Brings a new pool of this configuration and seed to where `state` was taken."""
        self._handed_out, self._seeds_counted = set(state["handed_out"]), state["seeds_counted"]
        self._compared = [
            ((Instruction.from_row(row["pair"][0]), *row["pair"][1:]), Preference.from_row(row["label"])) for row in state["compared"]
        ]

    def _draw_seeds(self, rng: np.random.Generator) -> list[Demonstration]:
        """Families in turn and different requests, so that few seeds cover much."""
        total = self.config.seed_demonstrations
        constrained = round(total * self.config.constraint_share) if self._families else total
        order = rng.permutation(len(self._families))
        drawn = [self._draw_question(self._families[order[index % len(order)]], rng) for index in range(total - constrained)]
        bodies: set[str] = set()
        while len(drawn) < total:
            item = _draw_constrained("train", between(rng, *_TRAIN_STACK), rng)
            if item.body not in bodies or len(bodies) >= len(seed_instructions("train")):
                bodies.add(item.body)
                self._handed_out.add(item.text)
                drawn.append(item)
        return [self._labelled(drawn[index]) for index in rng.permutation(total)]

    def _draw(self, rng: np.random.Generator) -> Instruction:
        if not self._families or rng.random() < self.config.constraint_share:
            item = _draw_constrained("train", between(rng, *_TRAIN_STACK), rng)
            self._handed_out.add(item.text)
            return item
        return self._draw_question(pick(rng, self._families), rng)

    def _draw_question(self, family: str, rng: np.random.Generator) -> Instruction:
        config = self.config.families[family]
        item = draw(family, config, "train", rng=rng, exclude=self._handed_out) or draw(family, config, "train", rng=rng)
        assert item is not None, (family, config)
        self._handed_out.add(item.body)
        return item

    def _labelled(self, instruction: Instruction) -> Demonstration:
        response = demonstration(instruction)
        assert response is not None, instruction
        return Demonstration(without_answers(instruction), response)
