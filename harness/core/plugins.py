"""Plug-ins found through entry points: methods, pools, suites. Anyone's package can add one."""

from __future__ import annotations

from importlib import metadata
from typing import Any, Literal, get_args

from harness.errors import SpecError

Kind = Literal["methods", "pools", "suites"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def names(kind: Kind) -> list[str]:
    """Names of the installed plug-ins of one kind, sorted; nothing is imported."""
    return sorted(metadata.entry_points(group=f"selfteach.{kind}").names)


def load(kind: Kind, name: str, *, file: object = None, key: str | None = None) -> Any:
    """The object that the entry point names: a class for methods and pools, a Suite for suites.

    Args:
        file, key: where the user wrote the name, for the message.
    Raises:
        SpecError: no such plug-in, or its module cannot be imported.
    """
    found = list(metadata.entry_points(group=f"selfteach.{kind}", name=name))
    if not found:
        raise SpecError(f"unknown {kind.removesuffix('s')}", file=file, key=key, value=name, valid=names(kind))
    try:
        return found[0].load()
    except (ImportError, AttributeError) as error:
        raise SpecError(f"{kind.removesuffix('s')} {name!r} ({found[0].value}) cannot be imported: {error}", file=file, key=key) from error


def package(kind: Kind, name: str) -> str:
    """The top-level package that provides a plug-in."""
    (entry, *_) = metadata.entry_points(group=f"selfteach.{kind}", name=name)
    return entry.module.split(".")[0]


def distribution(kind: Kind, name: str) -> str:
    """ "name version" of the distribution that provides a plug-in."""
    (entry, *_) = metadata.entry_points(group=f"selfteach.{kind}", name=name)
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
