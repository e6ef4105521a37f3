"""How long stages take on this machine: rates from journals of earlier runs, or a stated default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core import provenance
from harness.core.journal import Event, Journal
from harness.core.spec import StudySpec
from harness.errors import StoreError
from harness.scoring.suites import select
from harness.study.plan import Plan, Stage

DEFAULT_TRAIN_FLOPS_PER_S = 3e10
"""One thread of a busy 2-core machine with bf16: LoRA on SmolLM2-135M, evolving and answering included (measured 3.1e10 and 3.4e10)."""
DEFAULT_SCORE_ITEMS_PER_S = 1.0
"""There, mostly generation, loading the student included."""
DEFAULT_ITEMS = 200
"""Assumed for a task that states no limit."""


@dataclass(frozen=True)
class Calibration:
    """Rates of one worker, by which stages' durations are predicted; `source` says where they come from."""

    train_flops_per_s: float
    score_items_per_s: float
    source: str

    def seconds(self, study: StudySpec, stage: Stage, spends: bool = True) -> float:
        """Predicted duration of a stage."""
        if stage.kind == "score":
            return planned_items(study) / self.score_items_per_s
        return study.budget.train_flops / self.train_flops_per_s if spends else 5.0


def calibrate(runs: Path, threads: int) -> Calibration:
    """Rates measured on this machine with this many threads a worker in any run under `runs`; defaults for what was never measured."""
    host = provenance.machine()["host"]
    events = [
        event
        for path in sorted(runs.glob("*/journal.jsonl"))
        for event in _readable(path)
        if event.get("event") == "stage_finished" and event.get("host") == host and event.get("threads") == threads
    ]
    train = _rate((event["flops"], event["wall_s"]) for event in events if event["kind"] == "train" and event["flops"] > 0)
    score = _rate((event["items"], event["wall_s"]) for event in events if event["kind"] == "score")
    if train and score:
        source = f"measured in {len(events)} stages on this machine"
    elif train or score:
        source = f"{'training' if train else 'scoring'} measured on this machine, the rest assumed"
    else:
        rates = f"{DEFAULT_TRAIN_FLOPS_PER_S:.0e} FLOP/s and {DEFAULT_SCORE_ITEMS_PER_S:g} items/s a worker"
        source = f"assumed, nothing measured here yet: {rates}"
    return Calibration(train or DEFAULT_TRAIN_FLOPS_PER_S, score or DEFAULT_SCORE_ITEMS_PER_S, source)


def _readable(path: Path) -> list[Event]:
    """A journal's events; none of one that cannot be read, which may be any run's that lies beside this one."""
    try:
        return Journal(path).events()
    except (OSError, StoreError):
        return []


def planned_items(study: StudySpec) -> int:
    """Items that one score stage scores: every task's limit, clean and under each perturbation."""
    return sum(selection.limit or DEFAULT_ITEMS for selection in select(study.suites)) * (1 + len(study.perturbations))


def predict(study: StudySpec, plan: Plan, calibration: Calibration) -> dict[str, float]:
    """Predicted seconds of every stage."""
    seedless = {trial.train_stage for trial in plan.trials if trial.seedless}
    return {stage.id: calibration.seconds(study, stage, stage.id not in seedless) for stage in plan.stages.values()}


def makespan_s(plan: Plan, seconds: Mapping[str, float], done: set[str], workers: int) -> float:
    """Predicted wall seconds of the stages not yet done, on `workers` workers: greedy, longest chain first."""
    free = [0.0] * workers
    chains = []
    for trial in {(trial.train_stage, trial.score_stage) for trial in plan.trials}:
        chains.append(sum(seconds[stage] for stage in trial if stage not in done))
    for chain in sorted(chains, reverse=True):
        free[free.index(min(free))] += chain
    return max(free)


def _rate(pairs: Iterable[tuple[float, float]]) -> float | None:
    amounts, times = zip(*pairs, strict=True) if (pairs := list(pairs)) else ((), ())
    return sum(amounts) / sum(times) if sum(times) > 0 and sum(amounts) > 0 else None
