"""Examples drawn in windows of batches: as few as the budget lasts, because each draw may buy a label."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from harness.core.records import Message
from harness.models.examples import TokenizedExample, tokenize, update_flops
from harness.models.student import Student

Example = tuple[Sequence[Message], str]


class Stream:
    """Windows of up to `WINDOW` batches; `by_length`: a window's examples are sorted by length, cut, and the batches shuffled.

    Attributes:
        usable, too_long, empty: examples drawn (of the first epoch, for a sequence): kept, longer than `max_tokens`, without a response.
    """

    WINDOW = 8

    def __init__(
        self,
        student: Student,
        examples: Iterable[Example],
        batch_size: int,
        max_tokens: int,
        rng: np.random.Generator,
        left_flops: Callable[[], float],
        *,
        by_length: bool,
    ) -> None:
        self.student, self.examples, self.batch_size, self.max_tokens = student, examples, batch_size, max_tokens
        self.rng, self.left_flops, self.by_length = rng, left_flops, by_length
        self.usable = self.too_long = self.empty = 0
        self._counting = True

    def __iter__(self) -> Iterator[list[list[TokenizedExample]]]:
        if not isinstance(self.examples, Sequence):
            yield from self._epoch(iter(self.examples), self.left_flops)
            return
        while True:
            order = self.rng.permutation(len(self.examples))
            yield from self._epoch((self.examples[i] for i in order), lambda: math.inf)
            self._counting = False
            if not self.usable:
                return

    def _epoch(self, examples: Iterator[Example], left_flops: Callable[[], float]) -> Iterator[list[list[TokenizedExample]]]:
        size = self.batch_size
        while (window := self._window(examples, left_flops())) is not None:
            if not self.usable and left_flops() < math.inf:
                return  # nothing fits, and every further draw may cost a label
            if self.by_length:
                window.sort(key=lambda example: len(example.ids))
            batches = [window[start : start + size] for start in range(0, len(window), size)]
            yield [batches[index] for index in self.rng.permutation(len(batches))]

    def _window(self, examples: Iterator[Example], left_flops: float) -> list[TokenizedExample] | None:
        """The usable ones of the next examples, drawn a batch at a time up to `WINDOW` batches or `left_flops`; None at the end."""
        window: list[TokenizedExample] = []
        price = 0.0
        for lot in range(self.WINDOW):
            drawn = list(islice(examples, self.batch_size))
            if not drawn:
                return window if lot else None
            said = [(conversation, response) for conversation, response in drawn if response.strip()]
            tokenized = [tokenize(self.student, conversation, response) for conversation, response in said]
            kept = [example for example in tokenized if len(example.ids) <= self.max_tokens]
            if self._counting:
                self.empty += len(drawn) - len(said)
                self.too_long += len(tokenized) - len(kept)
                self.usable += len(kept)
            window += kept
            price += update_flops(self.student, kept) if kept else 0.0
            if price >= left_flops:
                break
        return window
