"""What verdicts and reports read: a run's files as tidy frames. No torch, no training code, any machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.blocks import budgets
from harness.core.corpus import CORPUS, read_rows
from harness.core.published import with_texts
from harness.core.records import CLEAN, SAMPLE_COLUMNS
from harness.core.store import META, RunStore, find_run, read_json
from harness.errors import StoreError

__all__ = ["RunResults", "find_run", "load_run"]

TRIAL_COLUMNS = (
    "trial_id",
    "method",
    "variant",
    "seed",
    "train_stage",
    "score_stage",
    "status",
    "device",
    "wall_s",
    "energy_j",
    "train_flops",
    "budget_flops",
    "demonstrations",
    "comparisons",
    "queries",
    "verifications",
    "cost_usd",
    "human_s",
    "generated_tokens_per_answer",
    "tokens",
    "checkpoint_stage",
    "ended_by",
    "budget_tokens",
    "budget_labels",
    "budget_s",
    "budget_usd",
)
_READ = ("ledger.parquet", "samples.parquet", "curves.parquet", "checkpoints.json", CORPUS)
_CAPS = {"tokens": "budget_tokens", "labels": "budget_labels", "seconds": "budget_s", "usd": "budget_usd"}
CHECKPOINT_COLUMNS = (
    "trial_id", "method", "seed", "share", "train_flops", "tokens", "wall_s", "demonstrations", "comparisons", "queries", "verifications",
    "cost_usd", "human_s",
)  # fmt: skip
CHECKPOINT_SAMPLE_COLUMNS = ("suite", "task", "sample_id", "cluster", "metric", "value", "status", "method", "seed", "share")
LEDGER_COLUMNS = ("trial_id", "method", "seed", "account", "phase", "model", "flops", "tokens", "padding", "calls", "wall_s", "energy_j")
CURVE_COLUMNS = ("trial_id", "method", "seed", "curve", "step", "train_flops", "wall_s", "value")


@dataclass(frozen=True)
class RunResults:
    """Everything of one run. `method` in the frames is the trial's label; trials without randomness appear once for every seed.

    Attributes:
        study: study.json: the resolved study, its plan and provenance.
        trials: one row per method × seed; `status` is "finished", "failed", "pending" or "damaged" (see `damaged`). wall_s, energy_j and
            cost are those of training; energy is NaN where no counter was read.
        samples: SAMPLE_COLUMNS + method, seed, of finished trials.
        ledger: every phase of training and scoring.
        curves: training curves on the spend axis.
        corpora: rows of corpus.jsonl by trial_id, for trials that wrote one.
        checkpoints: what each trial had spent at each of its kept and scored students; the final one has share 1.
        checkpoint_samples: scores of the kept students (the final ones' are in `samples`), unperturbed, without texts.
        folds: as `trials`, of trials that were trained without the family `fold` and scored on it alone.
        fold_samples: as `samples` with a column `fold`, of those trials.
        tuned: tuned.json, of a study that searched settings.
        damaged: by stage what is wrong with its files, where `load_run` was to go on without it. No frame has anything of such a stage.
    """

    run_dir: Path
    study: dict[str, Any]
    trials: pd.DataFrame
    samples: pd.DataFrame
    ledger: pd.DataFrame
    curves: pd.DataFrame
    corpora: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    leaderboard: dict[str, Any] = field(default_factory=dict)
    checkpoints: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CHECKPOINT_COLUMNS)))
    checkpoint_samples: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CHECKPOINT_SAMPLE_COLUMNS)))
    folds: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*TRIAL_COLUMNS, "fold"]))
    tuned: dict[str, Any] = field(default_factory=dict)
    fold_samples: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*SAMPLE_COLUMNS, "method", "seed", "fold"]))
    damaged: dict[str, str] = field(default_factory=dict)


def load_run(run_dir: Path | str, *, conclusions: bool = True, without_damaged: bool = False) -> RunResults:
    """Reads the folder of a run, finished or not.

    Every file that is read of a stage is compared with its checksum first: one with a flipped bit may well be readable.

    Args:
        conclusions: read verdicts and leaderboard too; who writes them anew need not, and damaged ones are then no obstacle.
        without_damaged: leave out stages with a damaged or changed file, and say so in `damaged`, instead of refusing the run; for who
            tells apart what rests on them and what does not.
    Raises:
        SpecError: the folder is not a run's.
        StoreError: a file in it is damaged.
    """
    store = RunStore(Path(run_dir))
    study = store.study()
    reader = _Reader(store, study, _failed(store), without_damaged)
    for trial in study["plan"]["trials"]:
        for seed in study["seeds"] if trial["seedless"] else [trial["seed"]]:
            reader.read_trial(trial, seed)
    return RunResults(
        run_dir=store.root,
        study=study,
        trials=pd.DataFrame(reader.trials, columns=list(TRIAL_COLUMNS)),
        samples=_concat(reader.samples, (*SAMPLE_COLUMNS, "method", "seed")),
        ledger=_concat(reader.ledgers, LEDGER_COLUMNS),
        curves=_concat(reader.curves, CURVE_COLUMNS),
        corpora=reader.corpora,
        verdicts=read_json(store.root / "verdicts.json", []) if conclusions else [],
        leaderboard=read_json(store.root / "leaderboard.json", {}) if conclusions else {},
        checkpoints=pd.DataFrame(reader.checkpoints, columns=list(CHECKPOINT_COLUMNS)),
        checkpoint_samples=_concat(reader.checkpoint_samples, CHECKPOINT_SAMPLE_COLUMNS),
        folds=pd.DataFrame(reader.folds, columns=[*TRIAL_COLUMNS, "fold"]),
        tuned=read_json(store.root / "tuned.json", {}),
        fold_samples=_concat(reader.fold_samples, (*SAMPLE_COLUMNS, "method", "seed", "fold")),
        damaged=reader.damaged,
    )


class _Reader:
    """Collects the frames trial by trial; a stage's files are read once however many seeds share it."""

    def __init__(self, store: RunStore, study: dict[str, Any], failed: set[str], without_damaged: bool) -> None:
        self.store, self.study, self.failed, self.without_damaged = store, study, failed, without_damaged
        self.damaged: dict[str, str] = {}
        self._sound: set[str] = set()
        # By name, because prices are declared a layer above this one.
        self.pricing = import_module("harness.scoring.cost")
        self.prices = self.pricing.Prices(**study["prices"])
        self.budgets = budgets(study)
        self.trials: list[dict[str, Any]] = []
        self.samples: list[pd.DataFrame] = []
        self.ledgers: list[pd.DataFrame] = []
        self.curves: list[pd.DataFrame] = []
        self.corpora: dict[str, list[dict[str, Any]]] = {}
        self.checkpoints: list[dict[str, Any]] = []
        self.checkpoint_samples: list[pd.DataFrame] = []
        self.folds: list[dict[str, Any]] = []
        self.fold_samples: list[pd.DataFrame] = []
        self._cache: dict[Path, pd.DataFrame] = {}

    def read_trial(self, trial: dict[str, Any], seed: int) -> None:
        """Adds one trial's rows to every frame."""
        train, score, label, fold = trial["train_stage"], trial["score_stage"], trial["label"], trial.get("fold")
        trial_id = f"{label}-{seed}" + (f"-without-{fold}" if fold else "")
        names = {"trial_id": trial_id, "method": label, "seed": seed}
        stages = [stage for stage in (train, score) if self._is_sound(stage)]
        row: dict[str, Any] = {**names, "variant": trial["variant"], "train_stage": train, "score_stage": score}
        state = "damaged" if {train, score} & self.damaged.keys() else "failed" if {train, score} & self.failed else "pending"
        row["status"] = "finished" if len(stages) == 2 else state
        row["budget_flops"] = self.budgets.get(label, float(self.study["budget"]["train_flops"]))
        row |= {_CAPS[name]: cap for name, cap in (self.study["budget"].get("caps") or {}).items()}
        row["checkpoint_stage"] = trial.get("checkpoint_stage")
        if train in stages:
            row |= self._training(train)
            ledger = self._ledger(train)
            row["energy_j"] = ledger.loc[ledger["account"] == "train", "energy_j"].sum(min_count=1)
            row["tokens"] = int(ledger.loc[ledger["account"] == "train", "tokens"].sum())
        if score in stages:
            samples = self._frame(score, "samples.parquet")
            answers = samples[(samples["perturbation"] == CLEAN) & (samples["generated_tokens"] > 0)].drop_duplicates(["task", "sample_id"])
            row["generated_tokens_per_answer"] = float(answers["generated_tokens"].mean()) if len(answers) else None
            if train in stages:
                mine = samples.assign(method=label, seed=seed)
                self.fold_samples.append(mine.assign(fold=fold)) if fold else self.samples.append(mine)
        if fold:
            self.folds.append(row | {"fold": fold})
            return
        if len(stages) == 2 and row["checkpoint_stage"] and self._is_sound(row["checkpoint_stage"]):
            self._read_checkpoints(names, train, row["checkpoint_stage"])
            stages.append(row["checkpoint_stage"])
        for stage in stages:
            self.ledgers.append(self._ledger(stage).assign(**names))
        if train in stages:
            self.curves.append(self._frame(train, "curves.parquet").assign(**names))
            corpus = self.store.folder(train) / CORPUS
            if corpus.exists():
                self.corpora[trial_id] = read_rows(corpus)
        self.trials.append(row)

    def _read_checkpoints(self, names: dict[str, Any], train: str, scored: str) -> None:
        path = self.store.folder(train) / "checkpoints.json"
        for kept in read_json(path, []):
            price = self.pricing.cost(kept, kept["wall_s"], self.prices)
            self.checkpoints.append({**names, **kept, "cost_usd": price.total_usd, "human_s": price.human_s})
        self.checkpoint_samples.append(self._frame(scored, "samples.parquet").assign(**names))

    def _training(self, stage: str) -> dict[str, Any]:
        meta = self.store.meta(stage)
        if not {"counters", "wall_s", "device", "spent"} <= set(meta):
            raise StoreError(f"{self.store.folder(stage) / META} is damaged; run the study again to make it anew")
        price = self.pricing.cost(meta["counters"], meta["wall_s"], self.prices)
        return {
            "device": meta["device"],
            "wall_s": meta["wall_s"],
            "train_flops": meta["spent"]["train"],
            **meta["counters"],
            "cost_usd": price.total_usd,
            "human_s": price.human_s,
            "ended_by": meta.get("ended_by"),
        }

    def _ledger(self, stage: str) -> pd.DataFrame:
        """A stage's ledger; one written before energy was counted has none."""
        ledger = self._frame(stage, "ledger.parquet")
        return ledger.astype({"energy_j": float}) if "energy_j" in ledger else ledger.assign(energy_j=float("nan"))

    def _frame(self, stage: str, name: str) -> pd.DataFrame:
        path = self.store.folder(stage) / name
        if path not in self._cache:
            try:
                self._cache[path] = with_texts(pd.read_parquet(path), self.store.root)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise StoreError(f"{path} cannot be read ({reason}); run the study again to make it anew") from error
        return self._cache[path]

    def _is_sound(self, stage: str) -> bool:
        """Whether the stage is finished and what is read of it is what was sealed; each stage is checked once."""
        if stage in self.damaged or not self.store.finished(stage):
            return False
        if stage not in self._sound:
            try:
                self.store.verify(stage, _READ)
            except StoreError as error:
                if not self.without_damaged:
                    raise StoreError(f"{error}; run the study again to make it anew") from error
                self.damaged[stage] = str(error)
                return False
            self._sound.add(stage)
        return True


def _concat(frames: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    filled = [frame[list(columns)] for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(columns))


def _failed(store: RunStore) -> set[str]:
    """Stages whose last attempt failed."""
    last: dict[str, str] = {}
    for event in store.journal.events():
        if event["event"].startswith("stage_"):
            last[event["stage"]] = event["event"]
    return {stage for stage, event in last.items() if event == "stage_failed"}
