"""What every reader of logs gives: the scores of one checkpoint on one task by one metric. Items and labels are Arrow strings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from harness.core.records import CLEAN
from harness.errors import SpecError

FloatArray = npt.NDArray[np.float64]
ALL_ITEMS = "all items"
"""The task of a log that names none."""
LARGEST_SCORE = 1e100
"""Squares of larger scores overflow."""
LONGEST_NAME = 120
"""Longer names of models, tasks and metrics are cut: they become table cells."""


@dataclass(frozen=True)
class ReadOptions:
    """What the user says of the logs' fields; None = found by their usual names.

    For tables the values are column names; for lm-eval they are fields of `doc`, for Inspect fields of a sample's metadata.
    """

    item: str | None = None
    score: str | None = None
    model: str | None = None
    seed: str | None = None
    task: str | None = None
    cluster: str | None = None
    perturbation: str = CLEAN


@dataclass(frozen=True)
class Cell:
    """One checkpoint × task × metric. Arrays share one order; a score is NaN where the log has an item without a score.

    Attributes:
        seed: the checkpoint's label, "" where the log names none.
        content_N: fingerprint of the question and its target, to notice that equal ids mean different items.
        prompt_N: fingerprint of the text the model was given.
        setup: what else should be equal in both logs (few-shot examples, task version, chat template).
        higher_is_better: None where the log does not say.
        secondary: compared only if its metric or task is asked for by name (a run's validation tasks and further metrics).
    """

    model: str
    seed: str
    task: str
    metric: str
    item_N: pa.Array
    score_N: FloatArray
    place: Path
    cluster_N: pa.Array | None = None
    content_N: pa.Array | None = None
    prompt_N: pa.Array | None = None
    setup: dict[str, str] = field(default_factory=dict)
    higher_is_better: bool | None = None
    secondary: bool = False


@dataclass
class Reading:
    """The cells of one path, and what its reader left out or averaged, in plain words."""

    cells: list[Cell] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def extend(self, other: Reading) -> None:
        """Adds another path's cells and notes."""
        self.cells += other.cells
        self.notes += [note for note in other.notes if note not in self.notes]


def name_of(value: object) -> str:
    """A name from a log as it can stand in a table: one line, not longer than LONGEST_NAME."""
    text = " ".join(str(value).encode("utf-8", "replace").decode("utf-8").split())
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def counted(count: int, noun: str) -> str:
    """ "1 item", "2 items"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class Shown(str):
    """Text that is quoted already: its repr is itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def shown(value: object) -> Shown:
    """A value from a log as it can stand in a message: quoted, at most 60 characters."""
    text = repr(value) if not isinstance(value, str) else repr(value[:80])
    return Shown(text if len(text) <= 60 else f"{text[:57]}...")


def strings(values: Any) -> pa.Array:
    """Values as an Arrow array of strings in one chunk; nulls stay."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if not isinstance(array, pa.Array):
        # A lone surrogate is legal in JSON but not in UTF-8; escaped, unequal ids stay unequal.
        texts = (None if value is None else str(value).encode("utf-8", "backslashreplace").decode() for value in array)
        array = pa.array(texts, pa.string())
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array if pa.types.is_string(array.type) else array.cast(pa.string())


def checked(cell: Cell, *, at: str = "", hint: str = "") -> Cell:
    """The cell, if it can be compared.

    Args:
        at: where in the file the cell lies, for messages.
        hint: what may help against duplicated items.
    Raises:
        SpecError: no item, an item without id, one twice, or an infinite score.
    """
    where = f"{cell.place}{f': {at}' if at else ''}"
    n_items = len(cell.item_N)
    if not n_items:
        raise SpecError("holds no items", file=where)
    if cell.item_N.null_count:
        raise SpecError(f"{cell.item_N.null_count} of {counted(n_items, 'row')} without an item id", file=where)
    extreme = np.abs(cell.score_N) > LARGEST_SCORE
    if extreme.any():
        item = cell.item_N[int(np.flatnonzero(extreme)[0])].as_py()
        text = f"{counted(int(extreme.sum()), 'score')} infinite or beyond ±{LARGEST_SCORE:g}, first of item {shown(item)}"
        raise SpecError(text, file=where, key=cell.metric)
    n_unique = pc.count_distinct(cell.item_N).as_py()
    if n_unique < n_items:
        counts = pc.value_counts(cell.item_N)
        most = int(pc.index(counts.field("counts"), pc.max(counts.field("counts"))).as_py())
        item, times = counts[most]["values"].as_py(), counts[most]["counts"].as_py()
        raise SpecError(
            f"{counted(n_items, 'row')} for {counted(n_unique, 'item')} of task {cell.task!r}, metric {cell.metric!r}: "
            f"item {shown(item)} stands {times} times. An item must stand once a checkpoint.{f' {hint}' if hint else ''}",
            file=where,
        )
    return cell


def averaged(item_N: pa.Array, score_N: FloatArray) -> tuple[pa.Array, FloatArray, npt.NDArray[np.int64]]:
    """Mean of the scored repeats of every item, the items in order of appearance, and the row where each appears first."""
    encoded = item_N.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    n_items = len(encoded.dictionary)
    scored = ~np.isnan(score_N)
    counts = np.bincount(codes[scored], minlength=n_items)
    sums = np.bincount(codes[scored], weights=score_N[scored], minlength=n_items)
    means = np.full(n_items, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return encoded.dictionary, means, np.unique(codes, return_index=True)[1]
