"""What the stages of a trial share: their task, their random streams, and the files that they hand to one another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core import provenance
from harness.core.budget import Ledger, Observation
from harness.core.spec import StudySpec
from harness.core.store import Meta
from harness.core.suite_spec import SuiteSpec
from harness.errors import ExecutorError
from harness.scoring import suites as scoring
from harness.seeds import seed_from
from harness.study.plan import Stage

ITEM = ["suite", "task", "perturbation", "sample_id"]
"""One scored item: samples have a row for each of its metrics."""
LEDGER_COLUMNS = ("account", "phase", "model", "flops", "tokens", "padding", "calls", "wall_s", "energy_j")
CURVE_COLUMNS = tuple(Observation.__dataclass_fields__)
CHECKPOINTS = "checkpoints.json"
CHECKPOINT_MODELS = "checkpoints"
TRAINED_ON, HELD_OUT, TRAINED_ON_ROWS = "trained_on.jsonl", "held_out.jsonl", 512


@dataclass(frozen=True)
class StageTask:
    """A stage with what a worker needs to do it."""

    run_dir: Path
    study: StudySpec
    stage: Stage
    threads: int
    planned_items: int
    """Items that a score stage will score, for its progress bar; 0 where unknown."""
    report_to: tuple[str, ...] = ()
    """Trackers that training curves are reported to as well; no part of what determines a result."""

    def run(self) -> Meta:
        """Does the stage in this process and publishes it; returns its meta.json.

        Raises:
            ExecutorError: this machine is not what the stage was planned for, so its result would stand under a wrong id.
        """
        # Torch comes with these: a broken installation is a failed stage with a traceback, not a dead worker.
        from harness.study.plan import local_setting
        from harness.study.trial import run_stage

        here = {**asdict(local_setting(self.threads)), **provenance.versions()}
        planned = {**self.stage.content.get("setting", {}), **self.stage.content.get("versions", {})}
        other = [f"{name} is {here[name]}, not {value}" for name, value in planned.items() if here.get(name, value) != value]
        if other:
            raise ExecutorError(f"this machine differs from what the study was planned for: {'; '.join(other)}")
        return run_stage(self)


def score_seed() -> int:
    """The seed of perturbations and item subsets: one for all trials, or their samples would not be paired."""
    return torch_seed("score")


def write_accounts(ledger: Ledger, folder: Path) -> None:
    """Writes ledger.parquet and curves.parquet."""
    rows = pd.DataFrame(ledger.rows(), columns=list(LEDGER_COLUMNS)).astype({"energy_j": float})
    rows.to_parquet(folder / "ledger.parquet", index=False)
    curves = pd.DataFrame([asdict(point) for point in ledger.curves], columns=list(CURVE_COLUMNS))
    curves.to_parquet(folder / "curves.parquet", index=False)


def spent_by_account(ledger: Ledger) -> dict[str, float]:
    """FLOPs per account."""
    return {account: ledger.spent(account) for account in ("train", "tune", "eval")}


def evaluation_ngrams(suites: Sequence[SuiteSpec]) -> frozenset[int]:
    """Hashed 8-grams of the evaluation items, read once per worker."""
    return _ngrams(json.dumps([suite.model_dump() for suite in suites]))


@lru_cache(maxsize=1)
def _ngrams(suites_json: str) -> frozenset[int]:
    return scoring.evaluation_ngrams([SuiteSpec(**suite) for suite in json.loads(suites_json)])


def torch_seed(*names: object) -> int:
    """As `seed_from`, in the range that torch, numpy and lm-eval take."""
    return seed_from(*names) % 2**31


def write_pairs(path: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """Writes (prompt, response) pairs as JSON lines."""
    path.write_text("".join(json.dumps({"prompt": prompt, "response": response}) + "\n" for prompt, response in pairs), encoding="utf-8")


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """What `write_pairs` wrote; nothing where there is no such file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(row["prompt"], row["response"]) for row in map(json.loads, lines)]


def suite_spec(content: Mapping[str, Any]) -> SuiteSpec:
    """The suite that a stage's content describes."""
    return SuiteSpec(**{key: value for key, value in content.items() if key != "from"})
