"""Language models in a role of the self-teaching system: the student's own frozen starting checkpoint, or another local model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from harness.core.budget import Ledger
from harness.core.records import Completion, Message
from harness.errors import SpecError
from harness.models.generation import BoundedPrefixCaches
from harness.models.meter import Meter
from harness.models.student import Student
from selfteach.config import STUDENT
from selfteach.language.endpoint import Endpoint, EndpointConfig
from selfteach.roles import TextModel

PREFIX_TOKENS = 8_192
"""Tokens of leading turns whose keys and values are kept from call to call: those of all operations are a third of it."""


class _Prefixes:
    """Splits conversations into leading turns and the last one, and keeps what the leading turns came to."""

    def __init__(self) -> None:
        self.caches = BoundedPrefixCaches(PREFIX_TOKENS)

    def complete(
        self, student: Student, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int, temperature: float, seed: int, n: int
    ) -> list[list[Completion]]:
        """All but the last turn of each conversation is its prefix: equal ones run through the model once for all calls."""
        return student.generate(
            [list(turns[-1:]) for turns in conversations],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            n=n,
            prefixes=[list(turns[:-1]) for turns in conversations],
            prefix_caches=self.caches,
        )


class StudentModel:
    """The student as `TextModel`: no external help, so no queries are counted.

    Args:
        frozen: as it was loaded, whatever training has changed since (self-taught roles); False is the student as it is now, whose prefixes
            are computed anew at each call, because its weights may have changed.
    """

    def __init__(self, student: Student, ledger: Ledger, *, frozen: bool = True) -> None:
        if student.ledger is not ledger:
            student.attach(ledger)
        self.name, self.frozen = student.name, frozen
        self._student, self._prefixes = student, _Prefixes()

    def complete(
        self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[Completion]]:
        """See `selfteach.roles.TextModel`; compute is charged to the phase the caller is in."""
        prefixes = self._prefixes if self.frozen else _Prefixes()
        with self._student.as_loaded() if self.frozen else contextlib.nullcontext():
            return prefixes.complete(self._student, conversations, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, n=n)


class LocalModel:
    """Another model on this machine, an external expert: its compute is charged, and each reply counted as a query.

    Args:
        source: what `harness.models.sources.resolve` finds.
    Raises:
        SourceError: the source is unknown or does not hold a model.
    """

    def __init__(self, source: str, ledger: Ledger) -> None:
        self._student = Student.load(source, adaptation=None, seed=0)
        self._student.name = f"expert {self._student.name}"
        self._student.attach(ledger)
        self.name, self._ledger, self._prefixes = self._student.name, ledger, _Prefixes()

    @property
    def meter(self) -> Meter | None:
        """What charges it."""
        return self._student.meter

    def complete(
        self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[Completion]]:
        """See `selfteach.roles.TextModel`; compute is charged to the phase the caller is in."""
        self._ledger.count("queries", n * len(conversations))
        return self._prefixes.complete(self._student, conversations, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, n=n)


def open_model(choice: str | EndpointConfig, student: Student, ledger: Ledger) -> TextModel:
    """The model a study names for a role: "student", the source of a local model, or an endpoint.

    Raises:
        SourceError: a local model cannot be had.
        SpecError: the endpoint's settings are wrong.
    """
    if isinstance(choice, EndpointConfig):
        return Endpoint(choice, ledger)
    if not choice.strip():
        raise SpecError(f'expected "{STUDENT}", the source of a model, or an endpoint', value=choice)
    return StudentModel(student, ledger) if choice == STUDENT else LocalModel(choice, ledger)
