"""Methods in two parts, so that variants which differ only in what comes later share what comes first.

A method class may have, beside `train`:
    begin(student, pool, ledger, *, rng, config, out)       the first part; what it made is in `out`, the student's weights and the ledger
    finish(student, pool, ledger, *, rng, config, out)      the rest, from those alone; returns the student
    later: tuple[str, ...]                                  dotted keys of the settings that only `finish` reads
    first_share(config) -> float                            (static) the share of the budget that `begin` is expected to spend
and `train` is `train_in_parts`. Both parts are given the trial's random stream from its start. Where `finish` goes on with a stream that
`begin` has drawn from, its state goes through a file in `out` (harness.seeds).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from harness.core.budget import Ledger
from harness.core.pool import TaskPool


def in_two_parts(method_class: Any) -> bool:
    """Whether a method has a first part of its own."""
    return hasattr(method_class, "begin")


def first_config(method_class: Any, config: BaseModel) -> BaseModel:
    """The configuration that `begin` is given: what only `finish` reads is at its default, so that the first part cannot depend on it."""
    settings = config.model_dump()
    for key in method_class.later:
        *outer, last = key.split(".")
        part = settings
        for name in outer:
            part = part[name]
        part.pop(last, None)  # settings that are left out of records where they are not used are not there
    first: BaseModel = type(config)(**settings)
    return first


def train_in_parts(
    method: Any, student: Any, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: BaseModel, out: Path
) -> Any:
    """Both parts, one after the other, as `train` of a method that has them; returns the student."""
    again = copy.deepcopy(rng)
    out.mkdir(parents=True, exist_ok=True)
    method.begin(student, pool, ledger, rng=rng, config=first_config(type(method), config), out=out)
    return method.finish(student, pool, ledger, rng=again, config=config, out=out)
