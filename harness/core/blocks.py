"""Blocks of a study: the methods that ran at one budget on one student. Within a block runs are compared and ranked, across blocks never.

A study without a sweep, or with one that varies neither budget nor student, is one block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.sweep_spec import SweepSpec

OWN = "the study's own"


@dataclass(frozen=True)
class Block:
    """Methods' labels that may be compared. `name` tells it from the others: "budget=2e12"."""

    name: str
    train_flops: float
    student: str
    methods: tuple[str, ...]


def blocks(study: Mapping[str, Any]) -> list[Block]:
    """The blocks of a study as study.json records it, the one at the study's own budget and student first."""
    methods = study.get("methods") or []
    own = (float((study.get("budget") or {}).get("train_flops", 0.0)), _student(study.get("student")))
    axes = varied(study)
    members: dict[str, list[str]] = {}
    places: dict[str, tuple[float, str]] = {}
    for method in methods:
        name = ", ".join(f"{axis}={(method.get('levels') or {}).get(axis)}" for axis in axes)
        at = method.get("at")
        places.setdefault(name, own if at is None else (float(at["train_flops"]), _student(at["student"])))
        members.setdefault(name, []).append(label(method))
    found = [Block(name or OWN, *places[name], tuple(labels)) for name, labels in members.items()]
    return found or [Block(OWN, *own, ())]


def varied(study: Mapping[str, Any]) -> list[str]:
    """Names of the sweep's axes that vary budget or student."""
    sweep = study.get("sweep")
    return SweepSpec.model_validate(sweep).of_study if sweep else []


def label(method: Mapping[str, Any]) -> str:
    """How tables call a method of study.json."""
    return f"{method['name']}:{method['variant']}" if method.get("variant") else str(method["name"])


def budgets(study: Mapping[str, Any]) -> dict[str, float]:
    """By label the training FLOPs of the methods that run at another budget than the study's own."""
    return {label(method): float(method["at"]["train_flops"]) for method in study.get("methods") or () if method.get("at")}


def student_of(study: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The student (`model`, `adaptation`, ...) that a method of study.json, by its label, starts from: a sweep may vary it."""
    places = [each["at"] for each in study.get("methods") or () if label(each) == method and each.get("at")]
    return dict(places[0]["student"] if places else study.get("student") or {})


def apart(study: Mapping[str, Any], first: str, second: str) -> str:
    """Why two methods must not be compared: the blocks they are in. Nothing where they share one, or the study does not list them."""
    of = {method: block.name for block in blocks(study) for method in block.methods}
    if of.get(first) == of.get(second) or first not in of or second not in of:
        return ""
    return f"{first} ran at {of[first]}, {second} at {of[second]}: runs at different budgets or on different students are never compared"


def _student(student: Any) -> str:
    return str(student.get("model", "")) if isinstance(student, Mapping) else str(student or "")
