"""How alike perturbed texts are to the clean ones by embedding, and how alike texts are whose meaning was changed on purpose.

    python -m benchmarks.robustness.guard --items 150

For each task and each perturbation of its text: quantiles of the similarity, and what share the perturbation's own threshold rejects. Below
them the same for edits that do change the answer (a "not" put in, a number changed, another item's text): no threshold of similarity can be
better than the distance between the two.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.core.budget import Ledger
from harness.core.suite_spec import SuiteSpec
from harness.scoring.evaluate import load_tasks
from harness.scoring.guard import SimilarityGuard
from harness.scoring.items import sample_id
from harness.scoring.perturbations import PERTURBATIONS, perturb
from harness.scoring.suites import select

TASKS = {
    "complex_understanding": ("openbookqa", "siqa", "boolq", "mmlu"),
    "generation": ("reasoning_knights_knaves", "stacked_constraints"),
}
_AUXILIARY = re.compile(r"\b(is|are|was|were|can|will|does|do|should|would|has|have)\b")
_NUMBER = re.compile(r"\b\d+\b")


def negated(text: str, other: str) -> str:
    """With a "not" after the first auxiliary."""
    return _AUXILIARY.sub(lambda verb: f"{verb[0]} not", text, count=1)


def renumbered(text: str, other: str) -> str:
    """With the first number one higher."""
    return _NUMBER.sub(lambda number: str(int(number[0]) + 1), text, count=1)


def replaced(text: str, other: str) -> str:
    """Another item of the task."""
    return other


CONTROLS: tuple[Callable[[str, str], str], ...] = (negated, renumbered, replaced)


def main() -> None:
    """Prints both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=150, help="items of each task")
    items = parser.parse_args().items
    guard = SimilarityGuard(Ledger(account="eval"))
    texts = {
        (task, name): (_pairs(docs, name), PERTURBATIONS[name].min_similarity)
        for task, docs in _documents(items).items()
        for name in _textual()
    }
    for task, docs in _documents(items).items():
        clean = [_text(doc) for _, doc in docs]
        for control in CONTROLS:
            pairs = [(text, control(text, clean[index - 1])) for index, text in enumerate(clean)]
            texts[task, f"({control.__name__})"] = [pair for pair in pairs if pair[0] != pair[1]], 0.0
    print("| text | task | n | 1 % | 5 % | median | rejected |\n|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(name for _, name in texts):
        for task in dict.fromkeys(task for task, _ in texts):
            pairs, least = texts[task, name]
            if len(pairs) >= 10:
                found = np.array(guard.similarities(pairs))
                low, five, half = np.quantile(found, [0.01, 0.05, 0.5])
                rejected = f"{(found < least).mean():.1%}" if least else ""
                print(f"| {name} | {task} | {len(found)} | {low:.2f} | {five:.2f} | {half:.2f} | {rejected} |")


def _textual() -> list[str]:
    return [name for name, kind in PERTURBATIONS.items() if kind.apply and kind.scope == "text"]


def _documents(items: int) -> dict[str, list[tuple[list[str], dict[str, Any]]]]:
    """Per task the protected words and the document of each item."""
    found = {}
    for suite, names in TASKS.items():
        selections = select([SuiteSpec(name=suite, tasks=names, limit=items)])
        for selection, task in zip(selections, load_tasks(selections), strict=True):
            docs = [task.eval_docs[index] for index in range(min(items, len(task.eval_docs)))]
            found[selection.task.name] = [([*doc.get("protected", ()), *doc.get("choices", ())], doc) for doc in docs]
    return found


def _text(doc: dict[str, Any]) -> str:
    return str(doc.get("question") or doc["body"])


def _pairs(docs: list[tuple[list[str], dict[str, Any]]], name: str) -> list[tuple[str, str]]:
    pairs = [(_text(doc), perturb(_text(doc), name, sample_id=sample_id(doc), protected=protected)) for protected, doc in docs]
    return [pair for pair in pairs if pair[0] != pair[1]]


if __name__ == "__main__":
    main()
