"""A pool over the user's own data: demonstrations, preferences and prompts from files or hub sets, in TRL's formats.

What shares an 8-gram of words with an evaluation item is never handed out. Demonstrations are counted when first handed out and come round
again, not counted again, once all have been given; a preference is given once. There are no annotators here: preferences are those of the
file (`given_preferences`), and pairs that a method makes cannot be compared.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core.budget import Ledger
from harness.core.records import Demonstration, Instruction, Preference, Verification
from harness.errors import SpecError
from harness.instructions.consistency import answer_key
from harness.instructions.ngrams import ngram_hashes
from harness.instructions.render import compose
from harness.instructions.telltale import normalise
from harness.instructions.verify import verify_constraints
from tasks.tables import check_source, read_rows
from tasks.trl_formats import COLUMNS, Item, Kind, Parsed, parse

POOL = "dataset"
KINDS: tuple[Kind, ...] = get_args(Kind)
NOT_VERIFIABLE = "not verifiable"
T = TypeVar("T")


class TableConfig(BaseModel):
    """One table of the pool."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str
    """file:PATH (.jsonl, .json, .csv, .parquet; relative to the study file) or hub:org/name[@revision]."""
    split: str = "train"
    """Of a hub set."""
    subset: str | None = None
    """Of a hub set that has several (what `datasets` calls its configuration)."""
    columns: dict[str, str] = {}
    """Our column → the table's, where they differ: {prompt: instruction, completion: output}."""
    skip_bad: bool = False
    """Leave out rows that cannot be used, and count them, instead of refusing the table."""

    @field_validator("source")
    @classmethod
    def _known_form(cls, source: str) -> str:
        return check_source(source)


class DatasetPoolConfig(BaseModel):
    """What the pool reads."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    demonstrations: TableConfig
    """prompt + completion, or messages."""
    preferences: TableConfig | None = None
    """prompt + chosen + rejected, or chosen + rejected; needed by rlhf and dpo."""
    prompts: TableConfig | None = None
    """prompt; without it, the demonstrations' prompts."""
    seed_demonstrations: int = Field(default=24, ge=1)

    @model_validator(mode="after")
    def _known_columns(self) -> DatasetPoolConfig:
        for kind, table in self.tables().items():
            for name in table.columns:
                if name not in COLUMNS[kind]:
                    raise SpecError(f"expected columns of {kind}", key=f"{kind}.columns", value=name, valid=COLUMNS[kind])
        return self

    def tables(self) -> dict[Kind, TableConfig]:
        """The tables that are named, by what they hold."""
        return {kind: table for kind in KINDS if (table := getattr(self, kind)) is not None}

    @classmethod
    def anchored(cls, config: dict[str, Any], folder: Path) -> dict[str, Any]:
        """The same settings as written in a study file of `folder`: paths made absolute.

        Raises:
            SpecError: there is no such file.
        """
        return {key: _anchored(key, value, folder) if key in KINDS and isinstance(value, dict) else value for key, value in config.items()}

    def fingerprint(self) -> dict[str, Any]:
        """The tables' contents, for a stage's id: the sha256 of what can be used of each.

        Raises:
            SpecError, SourceError: a table cannot be read or used.
        """
        return {kind: load(kind, table).sha256 for kind, table in self.tables().items()}


def _anchored(kind: str, table: dict[str, Any], folder: Path) -> dict[str, Any]:
    source = table.get("source")
    if not isinstance(source, str) or not source.startswith("file:"):
        return table
    path = Path(os.path.normpath(folder.absolute() / Path(source.removeprefix("file:")).expanduser()))
    if not path.is_file():
        home = folder.absolute()
        near = [f"file:{other.relative_to(home)}" for other in path.parent.glob("*") if other.is_relative_to(home)]
        raise SpecError("no such file (paths are relative to the study file)", key=f"{kind}.source", value=source, valid=near[:20])
    # Relative to the working directory where it can be: a run's folder should not name the machine's.
    here = Path.cwd()
    return {**table, "source": f"file:{path.relative_to(here) if path.is_relative_to(here) else path}"}


_LOADED: dict[str, Parsed] = {}
"""Tables read by this process, by settings and, of files, size and time of change: plan and stages ask for the same ones."""


def load(kind: Kind, table: TableConfig) -> Parsed:
    """The usable rows of a table.

    Raises:
        SpecError: the table cannot be read or used (see tasks.tables, tasks.trl_formats).
        SourceError: the hub cannot be reached.
    """
    path = Path(table.source.removeprefix("file:"))
    state = [path.stat().st_size, path.stat().st_mtime_ns] if table.source.startswith("file:") and path.is_file() else None
    known = json.dumps([kind, table.model_dump(), state], sort_keys=True)
    if known not in _LOADED:
        key = f"pool.config.{kind}"
        rows = read_rows(table.source, split=table.split, subset=table.subset)
        source = table.source.removeprefix("file:")
        _LOADED[known] = parse(rows, kind, columns=table.columns, skip_bad=table.skip_bad, key=key, source=source)
    return _LOADED[known]


class _Deck(Generic[T]):
    """Deals items in random order, each once; then, if it may, all again."""

    def __init__(self, items: Sequence[T], *, again: bool) -> None:
        self._items, self._again = list(items), again
        self._left = list(range(len(items)))
        self.first_round = True

    def never_dealt(self) -> list[T]:
        """What was not dealt yet."""
        return [self._items[place] for place in self._left] if self.first_round else []

    def deal(self, n: int, *, rng: np.random.Generator) -> tuple[list[T], int]:
        """Up to `n` items, and how many of them were never dealt before."""
        dealt: list[T] = []
        fresh = 0
        while len(dealt) < n and self._items:
            if not self._left:
                if not self._again:
                    break
                self._left, self.first_round = list(range(len(self._items))), False
            place = int(rng.integers(len(self._left)))
            self._left[place], self._left[-1] = self._left[-1], self._left[place]
            dealt.append(self._items[self._left.pop()])
            fresh += self.first_round
        return dealt, fresh

    def state(self) -> dict[str, Any]:
        """Where the deck stands, as JSON."""
        return {"left": self._left, "first_round": self.first_round}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Brings an equal deck to where `state` was taken."""
        self._left, self.first_round = list(state["left"]), state["first_round"]


class DatasetPool:
    """harness.core.pool.TaskPool over the user's tables.

    Args:
        ngrams: hashed 8-grams of every evaluation item (harness.scoring.suites.evaluation_ngrams).
    Raises:
        SpecError, SourceError: a table cannot be read or used, or nothing of it is clear of the evaluation items.
    """

    Config = DatasetPoolConfig

    def __init__(self, config: DatasetPoolConfig, *, ledger: Ledger, rng: np.random.Generator, ngrams: frozenset[int]) -> None:
        self.config, self._ledger, self._ngrams = config, ledger, ngrams
        self._answers: dict[str, str] = {}
        self._tables: dict[str, dict[str, int]] = {}
        labelled = self._clean("demonstrations", config.demonstrations)
        order = rng.permutation(len(labelled))
        seeds, rest = order[: config.seed_demonstrations], order[config.seed_demonstrations :]
        self._seeds = [self._demonstration(labelled[place]) for place in seeds]
        # A table no larger than the seeds has nothing else to give, so these come round again.
        self._demonstrations = _Deck([self._demonstration(labelled[place]) for place in (rest if len(rest) else seeds)], again=True)
        self._demonstrations.first_round = len(rest) > 0
        asked = self._clean("prompts", config.prompts) if config.prompts else labelled
        self._prompts = _Deck([self._instruction(item) for item in asked], again=True)
        compared = self._clean("preferences", config.preferences) if config.preferences else []
        self._preferences = _Deck([self._preference(item) for item in compared], again=False)
        self._seeds_counted = False

    def seeds(self) -> list[Demonstration]:
        """The seed demonstrations, equal at every call and counted at the first."""
        if not self._seeds_counted:
            self._ledger.count("demonstrations", len(self._seeds))
            self._seeds_counted = True
        return list(self._seeds)

    def demonstrations(self, n: int, *, rng: np.random.Generator) -> list[Demonstration]:
        """`n` demonstrations, none twice before all have been given; each counted once."""
        found, fresh = self._demonstrations.deal(n, rng=rng)
        self._ledger.count("demonstrations", fresh)
        return found

    def prompts(self, n: int, *, rng: np.random.Generator) -> list[Instruction]:
        """`n` prompts without answers, none twice before all have been given, free of charge."""
        return self._prompts.deal(n, rng=rng)[0]

    def held_out(self, n: int, *, rng: np.random.Generator) -> list[Demonstration]:
        """Up to `n` demonstrations that were not handed out; none once all have been. Not counted: for measurements, not for methods."""
        left = self._demonstrations.never_dealt()
        return [left[place] for place in rng.permutation(len(left))[:n]]

    def given_preferences(self, n: int, *, rng: np.random.Generator) -> list[Preference]:
        """Up to `n` preferences of the table, none twice, each counted as a comparison; fewer, at last none, when it runs out.

        Raises:
            SpecError: the pool has no table of preferences.
        """
        if self.config.preferences is None:
            self._refuse_comparisons()
        found, _ = self._preferences.deal(n, rng=rng)
        self._ledger.count("comparisons", len(found))
        return found

    def preferences(self, pairs: Sequence[tuple[Instruction, str, str]], *, rng: np.random.Generator) -> list[Preference]:
        """Nobody here can compare new pairs.

        Raises:
            SpecError: always.
        """
        self._refuse_comparisons()

    def verify(self, instruction: Instruction, response: str) -> Verification:
        """Exact match with the table's answer; counted as one verification.

        What an operation has made of an instruction has no answer any more, and is checked by its constraints. Answers are equal as
        harness.instructions.consistency has it: case, white space and outer punctuation do not count, numbers are equal in value, and
        "the answer is" may stand before them.
        """
        self._ledger.count("verifications")
        answer = self._answers.get(instruction.id)
        if answer is None and not instruction.constraints:
            return Verification(False, 0.0, NOT_VERIFIABLE)
        if answer is None:
            return verify_constraints(instruction, response)
        passed = _same(answer, response)
        return Verification(passed, float(passed), "" if passed else "failed: answer")

    def contaminated(self, text: str) -> bool:
        """Whether `text` shares an 8-gram of words with any evaluation item."""
        return not self._ngrams.isdisjoint(ngram_hashes(text))

    def reports(self) -> dict[str, Any]:
        """pool.json: of each table the rows that can be used, those left out as bad, and those too near to an evaluation item."""
        return {"pool.json": {"pool": POOL, "tables": self._tables, "seeds": len(self._seeds)}}

    def state(self) -> dict[str, Any]:
        """What has been dealt and counted, as JSON."""
        return {"seeds_counted": self._seeds_counted, "decks": [deck.state() for deck in self._decks()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Brings a new pool of this configuration and seed to where `state` was taken."""
        self._seeds_counted = state["seeds_counted"]
        for deck, dealt in zip(self._decks(), state["decks"], strict=True):
            deck.restore(dealt)

    def _decks(self) -> tuple[_Deck[Any], ...]:
        return self._demonstrations, self._prompts, self._preferences

    def _clean(self, kind: Kind, table: TableConfig) -> list[Item]:
        parsed = load(kind, table)
        clean = [item for item in parsed.items if not any(self.contaminated(text) for text in item.texts)]
        contaminated = len(parsed.items) - len(clean)
        self._tables[kind] = {"rows": len(clean), "bad": parsed.skipped, "contaminated": contaminated}
        if not clean:
            raise SpecError(f"all {contaminated} usable rows share 8 words in a row with an evaluation item", key=f"pool.config.{kind}")
        for count, why in ((contaminated, "share 8 words in a row with an evaluation item"), (parsed.skipped, "cannot be used")):
            if count:
                self._ledger.note(f"pool: {count} of {len(parsed.items) + parsed.skipped} {kind} {why} and were left out")
        return clean

    def _instruction(self, item: Item) -> Instruction:
        # Only that there is an answer may be seen, not the answer.
        payload = {"checked_by": "answer"} if item.answer is not None else {}
        instruction = compose(pool=POOL, family=POOL, body=item.prompt, payload=payload)
        if item.answer is not None:
            self._answers[instruction.id] = item.answer
        return instruction

    def _demonstration(self, item: Item) -> Demonstration:
        assert item.completion is not None, item
        return Demonstration(self._instruction(item), item.completion)

    def _preference(self, item: Item) -> Preference:
        assert item.chosen is not None, item
        assert item.rejected is not None, item
        return Preference(self._instruction(item), item.chosen, item.rejected)

    def _refuse_comparisons(self) -> NoReturn:
        raise SpecError(
            "this pool has no annotators: name a table of preferences (prompt, chosen, rejected), which rlhf and dpo take theirs from",
            key="pool.config.preferences",
        )


def _same(answer: str, response: str) -> bool:
    expected = answer_key(answer)
    return normalise(answer) == normalise(response) if expected is None else expected == answer_key(response)
