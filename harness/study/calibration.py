"""How long stages take on this machine: rates from journals of earlier runs, or a stated default."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from harness.core import provenance
from harness.core.journal import Event, Journal
from harness.core.spec import StudySpec
from harness.core.suite_spec import SuiteSpec
from harness.errors import StoreError
from harness.scoring.suites import select
from harness.study.plan import Plan, Stage, checkpoint_suites, needed

DEFAULT_TRAIN_FLOPS_PER_S = 3e10
"""One thread of a busy 2-core machine with bf16: LoRA on SmolLM2-135M, evolving and answering included (measured 3.1e10 and 3.4e10)."""
DEFAULT_SCORE_ITEMS_PER_S = 1.0
"""There, mostly generation, loading the student included."""
DEFAULT_ITEMS = 200
"""Assumed for a task that states no limit."""
FAMILY_ITEMS = 20
"""Assumed for one family of a task."""


@dataclass(frozen=True)
class Calibration:
    """Rates of one worker, by which stages' durations are predicted; `source` says where they come from."""

    train_flops_per_s: float
    score_items_per_s: float
    source: str

    def seconds(self, study: StudySpec, stage: Stage, spends: bool = True) -> float:
        """Predicted duration of a stage."""
        scoring_s = stage_items(study, stage) / self.score_items_per_s
        flops = float(stage.content.get("train_flops", 0.0)) * stage.budget_share
        training_s = flops / self.train_flops_per_s if spends else 5.0
        if stage.kind in ("train", "prepare"):
            cap_s = study.budget.caps.seconds
            return min(training_s, cap_s) if cap_s is not None else training_s
        return scoring_s + (training_s if stage.kind == "tune" else 0.0)


def calibrate(runs: Path, threads: int) -> Calibration:
    """Rates measured on this machine with this many threads a worker in any run under `runs`; defaults for what was never measured."""
    host = provenance.machine()["host"]
    events = [
        event
        for path in sorted(runs.glob("*/journal.jsonl"))
        for event in _readable(path)
        if event.get("event") == "stage_finished" and event.get("host") == host and event.get("threads") == threads
    ]
    train = _rate((event["flops"], event["wall_s"]) for event in events if event["kind"] in ("train", "prepare") and event["flops"] > 0)
    score = _rate((event["items"], event["wall_s"]) for event in events if event["kind"] in ("score", "checkpoints"))
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
    """Items that a trial's score stage scores: every task's limit, clean and under each perturbation."""
    return _items(study.suites) * (1 + len(study.perturbations))


def stage_items(study: StudySpec, stage: Stage) -> int:
    """Items that a stage scores; 0 for one that only trains."""
    if stage.kind == "tune":
        return _items(study.tune.suites) if study.tune is not None else 0
    if stage.kind == "checkpoints":
        shares = study.checkpoints.shares if study.checkpoints is not None else []
        return _items(checkpoint_suites(study)) * len(shares)
    if stage.kind == "score":
        suites = json.dumps([{key: value for key, value in suite.items() if key != "from"} for suite in stage.content["suites"]])
        return _items_of(suites) * (1 + len(stage.content["perturbations"]))
    return 0


def _items(suites: Sequence[SuiteSpec]) -> int:
    return _items_of(json.dumps([suite.model_dump(mode="json") for suite in suites]))


@lru_cache(maxsize=256)
def _items_of(suites: str) -> int:
    # By their text, because thousands of trials are scored on the same ones.
    return sum(
        FAMILY_ITEMS * len(selection.families) if selection.families is not None else selection.limit or DEFAULT_ITEMS
        for selection in select([SuiteSpec(**suite) for suite in json.loads(suites)])
    )


def predict(study: StudySpec, plan: Plan, calibration: Calibration) -> dict[str, float]:
    """Predicted seconds of every stage."""
    seedless = {trial.train_stage for trial in plan.trials if trial.seedless}
    return {stage.id: calibration.seconds(study, stage, stage.id not in seedless) for stage in plan.stages.values()}


def against_alone(plan: Plan, seconds: Mapping[str, float]) -> dict[str, float]:
    """Predicted training FLOPs and seconds of training and scoring: of the study, and summed over its trials as if each were run alone.

    Tuning, which a method's trials have in common in any case, is in neither.
    """
    found = {"train_flops": 0.0, "alone_train_flops": 0.0, "seconds": 0.0, "alone_seconds": 0.0}
    seedless = {trial.train_stage for trial in plan.trials if trial.seedless}
    for stage in plan.stages.values():
        if stage.kind == "tune":
            continue
        found["seconds"] += seconds[stage.id]
        if stage.kind in ("train", "prepare") and stage.id not in seedless:
            found["train_flops"] += float(stage.content["train_flops"]) * stage.budget_share
    for trial in plan.trials:
        first = plan.stages[trial.train_stage].prepared
        found["alone_seconds"] += sum(seconds[stage] for stage in (*trial.stages, *([first] if first else [])))
        found["alone_train_flops"] += 0.0 if trial.seedless else float(plan.stages[trial.train_stage].content["train_flops"])
    return found


def makespan_s(plan: Plan, seconds: Mapping[str, float], done: set[str], workers: int) -> float:
    """Predicted wall seconds of the stages not yet done, on `workers` workers: greedy, longest chain first."""
    free = [0.0] * workers
    chains = []
    for trial in {tuple(trial.stages) for trial in plan.trials}:
        chains.append(sum(seconds[stage] for stage in trial if stage not in done))
    # Candidates of one method, and first parts, are computed side by side, before the trials: a lower bound where few trials wait for them.
    chains += [seconds[stage.id] for stage in needed(plan.stages.values(), done) if stage.kind in ("tune", "prepare")]
    for chain in sorted(chains, reverse=True):
        free[free.index(min(free))] += chain
    return max(free)


def _rate(pairs: Iterable[tuple[float, float]]) -> float | None:
    amounts, times = zip(*pairs, strict=True) if (pairs := list(pairs)) else ((), ())
    return sum(amounts) / sum(times) if sum(times) > 0 and sum(amounts) > 0 else None
