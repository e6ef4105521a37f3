"""What a frozen leaderboard says it lacks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from harness.verdicts.frozen import _unperturbed


def test_tasks_without_a_perturbed_version_are_told_once_and_not_for_every_method() -> None:
    versions = {("a", "typos"), ("b", "typos"), ("a", "case")}
    scores: Any = SimpleNamespace(perturbations=["typos", "case", "noise"], has=lambda task, perturbation: (task, perturbation) in versions)
    assert _unperturbed(scores, [("", ["a", "b"], ["sft", "dpo"])], "") == [
        "rows */mean@case are without b, which has no such version",
        "rows */mean@noise: no task has such a version",
    ]
    of_blocks = _unperturbed(scores, [("small", ["a", "b", "c"], ["sft"]), ("large", ["a"], ["sft"])], "run:")
    assert of_blocks == [
        "rows run:*/mean@typos at small are without c, which has no such version",
        "rows run:*/mean@case at small are without b, c, which have no such version",
        "rows run:*/mean@noise at small: no task has such a version",
        "rows run:*/mean@noise at large: no task has such a version",
    ]
