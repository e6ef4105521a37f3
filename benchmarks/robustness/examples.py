"""A text of our own evaluation tasks before and after each perturbation, as Markdown for docs/robustness.md.

    python -m benchmarks.robustness.examples

The texts are our own (stacked_constraints) and reasoning-gym's generated ones; of each perturbation the first that it changes is shown.
"""

from __future__ import annotations

from typing import Any

from harness.core.perturbation_spec import PerturbationSpec
from harness.core.suite_spec import SuiteSpec
from harness.scoring.evaluate import load_tasks
from harness.scoring.items import choose_items
from harness.scoring.perturbations import PERTURBATIONS
from harness.scoring.suites import select
from harness.scoring.twins import perturbed_twin

LONGEST = 230


def main() -> None:
    """Prints the table."""
    selections = select(
        [SuiteSpec(name="generation", tasks=("stacked_constraints", "reasoning_family_relationships", "reasoning_knights_knaves"))]
    )
    tasks = load_tasks(selections)
    for name, kind in PERTURBATIONS.items():
        shown = next((found for task in tasks if (found := _example(task, name))), None)
        if shown:
            print(f"**{name}**: {kind.summary}\n\n- before: {shown[0]}\n- after: {shown[1]}\n")


def _example(task: Any, name: str) -> tuple[str, str] | None:
    items = choose_items(task, 60)
    twin, _ = perturbed_twin(task, PerturbationSpec(name=name, min_similarity=0.0), items, similarities=lambda pairs: [1.0] * len(pairs))
    clean = {doc["id"]: doc for doc in task.eval_docs}
    for doc in twin.eval_docs:
        before, after = (task.fewshot_context(clean[doc["id"]], 0), twin.fewshot_context(doc, 0))
        if len(before) <= LONGEST:
            return before.replace("\n", " ⏎ "), after.replace("\n", " ⏎ ")
    return None


if __name__ == "__main__":
    main()
