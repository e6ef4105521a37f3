"""Plug-ins found through entry points: methods, pools, suites. Anyone's package can add one."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import metadata
from typing import Any, Literal, get_args

from harness.errors import SpecError

Kind = Literal["methods", "pools", "suites"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def names(kind: Kind) -> list[str]:
    """Names of the installed plug-ins of one kind, sorted; nothing is imported."""
    return list(_names(kind, tuple(sys.path)))


@lru_cache(maxsize=64)
def _names(kind: Kind, path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(metadata.entry_points(group=f"selfteach.{kind}").names))


@lru_cache(maxsize=64)
def _entries(kind: Kind, name: str, path: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    """The entry points of a name, looked up once as long as the module path stays: each look-up reads every installed distribution."""
    return tuple(metadata.entry_points(group=f"selfteach.{kind}", name=name))


def _found(kind: Kind, name: str) -> tuple[metadata.EntryPoint, ...]:
    return _entries(kind, name, tuple(sys.path))


def load(kind: Kind, name: str, *, file: object = None, key: str | None = None) -> Any:
    """The object that the entry point names: a class for methods and pools, a Suite for suites.

    Args:
        file, key: where the user wrote the name, for the message.
    Raises:
        SpecError: no such plug-in, or its module cannot be imported.
    """
    found = _found(kind, name)
    if not found:
        raise SpecError(f"unknown {kind.removesuffix('s')}", file=file, key=key, value=name, valid=names(kind))
    try:
        return _loaded(found[0], tuple(sys.path))
    except (ImportError, AttributeError) as error:
        raise SpecError(f"{kind.removesuffix('s')} {name!r} ({found[0].value}) cannot be imported: {error}", file=file, key=key) from error


@lru_cache(maxsize=64)
def _loaded(entry: metadata.EntryPoint, path: tuple[str, ...]) -> Any:
    return entry.load()


def package(kind: Kind, name: str) -> str:
    """The top-level package that provides a plug-in."""
    (entry, *_) = _found(kind, name)
    return entry.module.split(".")[0]


def distribution(kind: Kind, name: str) -> str:
    """ "name version" of the distribution that provides a plug-in."""
    return _distribution(kind, name, tuple(sys.path))


@lru_cache(maxsize=64)
def _distribution(kind: Kind, name: str, path: tuple[str, ...]) -> str:
    # Cached like the look-up itself: each access to a distribution's name or version parses its metadata file anew.
    (entry, *_) = _entries(kind, name, path)
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
