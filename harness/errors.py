"""The errors a user can cause or meet. One root; each is also the standard type it specialises.

The CLI prints `str(error)` as one message and exits with `exit_code`; anything else is a bug and shows a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHORT = 60
"""Characters of a list of valid names that is shown beside a guess."""


class SelfteachError(Exception):
    """Root of every error that is the user's or the machine's, not a bug."""

    exit_code = 1


class SpecError(SelfteachError, ValueError):
    """A study, claim or command-line value is wrong: names file, key, value, what was expected and the nearest valid name."""

    exit_code = 2

    def __init__(
        self,
        expected: str,
        *,
        file: object = None,
        key: str | None = None,
        value: object = None,
        valid: Iterable[str] = (),
    ) -> None:
        self.file, self.key, self.value, self.expected = file, key, value, expected
        self.valid = names = sorted(map(str, valid))
        near = difflib.get_close_matches(str(value if value is not None else key), names, n=1, cutoff=0.5)
        where = ": ".join(str(part) for part in (file, key) if part)
        got = f" (got {value!r})" if value is not None else ""
        listed = ", ".join(names)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        if names and (not near or (len(names) > 1 and len(listed) <= _SHORT)):
            hint += f" Valid: {listed}."
        end = "" if not got and expected.endswith((".", "?")) else "."
        super().__init__(f"{where + ': ' if where else ''}{expected}{got}{end}{hint}")


class SourceError(SelfteachError, OSError):
    """A model or data source could not be fetched or does not match its checksum."""

    exit_code = 3


class StoreError(SelfteachError, RuntimeError):
    """A run folder is locked by another run, full, or holds a damaged stage."""

    exit_code = 4


class StageFailed(SelfteachError, RuntimeError):
    """One or more stages of a study failed; the finished ones are kept."""

    exit_code = 5


class TrainingError(SelfteachError, ValueError):
    """Training cannot go on: the loss diverged, memory does not hold one example, or there is nothing to train on."""


class EngineError(SelfteachError, RuntimeError):
    """An inference engine is not installed, did not start, ended, or cannot hold a request."""


class ExecutorError(SelfteachError, RuntimeError):
    """The machines that stages should run on cannot be reached, refuse a stage, or are not what the study was planned for."""


class BudgetExceeded(SelfteachError, RuntimeError):
    """A charge was refused because it would overspend the ledger's budget. Methods catch it and stop."""


class CapReached(BudgetExceeded):
    """A charge or a label was refused by a cap beside the budget; a method that does not catch it ends with the student it has."""
