"""What methods that learn from preferences begin and end with: a supervised warm start, and supervised steps for what is left."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from baselines.config import PreferenceConfig
from baselines.preferences import Preferences
from baselines.sft import Example, demonstrations
from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Preference
from harness.errors import BudgetExceeded, CapReached, SpecError
from harness.models.finetune import finetune
from harness.models.student import Student
from harness.seeds import stream_from, stream_state

BOUGHT = "demonstrations.jsonl"
"""The demonstrations of the warm start, which `top_up` goes over again."""
STREAMS = "streams.json"
"""Where the random streams stand that a second part goes on with."""


def warm_start(
    student: Student, pool: TaskPool, ledger: Ledger, *, config: PreferenceConfig, budget: float, rng: np.random.Generator
) -> list[Example]:
    """Fine-tunes on demonstrations with `warm_share` of the budget; returns those that were bought.

    Raises:
        SpecError: that does not pay for one step.
    """
    examples = demonstrations(pool, rng, config.demonstrations)
    bought: list[Example] = examples if isinstance(examples, list) else []
    source = examples if isinstance(examples, list) else _remembered(examples, bought)
    finetune(student, source, ledger, config=config.finetune, rng=rng, max_flops=config.warm_share * budget, must_step=True)
    return bought


def top_up(student: Student, bought: list[Example], ledger: Ledger, *, config: PreferenceConfig, rng: np.random.Generator) -> None:
    """Spends what no further step of the method fits into on the demonstrations bought before (the mixing of Ouyang et al. 2022, "ptx").

    At a tenth of the warm start's rate: it completes the spend and is not another stage.
    """
    gentle = config.finetune.model_copy(update={"learning_rate": config.finetune.learning_rate / 10})
    finetune(student, bought, ledger, config=gentle, rng=rng, curve="ptx_loss")


def write_first_part(out: Path, bought: Sequence[Example], **streams: np.random.Generator) -> None:
    """Leaves in `out` what the second part needs of the first one, beside weights: the demonstrations, and where random streams stand."""
    rows = (json.dumps({"messages": turns, "response": response}) + "\n" for turns, response in bought)
    (out / BOUGHT).write_text("".join(rows), encoding="utf-8")
    write_json(out / STREAMS, {name: stream_state(rng) for name, rng in streams.items()})


def read_first_part(out: Path) -> tuple[list[Example], dict[str, np.random.Generator]]:
    """What `write_first_part` left."""
    rows = [json.loads(line) for line in (out / BOUGHT).read_text(encoding="utf-8").splitlines()]
    streams = json.loads((out / STREAMS).read_text(encoding="utf-8"))
    return [(row["messages"], row["response"]) for row in rows], {name: stream_from(state) for name, state in streams.items()}


@contextmanager
def paid_for(what: str, budget: float) -> Iterator[None]:
    """Names the part of a method that the budget does not pay for.

    Raises:
        SpecError: a charge inside the block was refused.
    """
    try:
        yield
    except CapReached:
        raise
    except BudgetExceeded as refused:
        raise SpecError(f"too small: {what}: {refused}", key="budget.train_flops", value=budget) from refused


def about_preferences(found: Preferences, pool: TaskPool) -> dict[str, Any]:
    """What to write of the pairs: how many, from whom, and how often their labels are those of the annotators without noise."""
    return {"source": found.source, "pairs": len(found.pairs), "dropped": found.dropped(), **label_agreement(found.pairs, pool)}


def label_agreement(pairs: list[Preference], pool: TaskPool) -> dict[str, Any]:
    """How often labels are those of the pool's annotators asked together and without noise; None where the pool has no such annotators."""
    judge = getattr(pool, "without_noise", None)
    if judge is None:
        return {"agreement_with_noise_free": None, "agreement_pairs": 0}
    verdicts = judge([(pair.instruction, pair.chosen, pair.rejected) for pair in pairs])
    decided = [verdict for verdict in verdicts if verdict is not None]
    return {"agreement_with_noise_free": float(np.mean(decided)) if decided else None, "agreement_pairs": len(decided)}


def clean_accuracy(held_out: Sequence[Preference], margins: Sequence[float], pool: TaskPool) -> float | None:
    """Share of held-out pairs that a reward model orders as the annotators together and without noise do; None where nobody can say."""
    judge = getattr(pool, "without_noise", None)
    if judge is None:
        return None
    verdicts = judge([(pair.instruction, pair.chosen, pair.rejected) for pair in held_out])
    hits = [(margin > 0) == verdict for margin, verdict in zip(margins, verdicts, strict=True) if verdict is not None]
    return float(np.mean(hits)) if hits else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes one JSON object (the stage's folder is published as a whole, when it is complete)."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _remembered(examples: Iterable[Example], into: list[Example]) -> Iterator[Example]:
    for example in examples:
        into.append(example)
        yield example
