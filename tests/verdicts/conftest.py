"""A made-up run with known truth, in the frames that verdicts read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

BUDGET = 1e13
TASKS: dict[str, dict[str, Any]] = {
    "siqa": {"metric": "acc", "chance": 1 / 3, "suite": "complex_understanding", "higher_is_better": True},
    "logiqa": {"metric": "acc", "chance": 0.25, "suite": "complex_understanding", "higher_is_better": True},
    "stacked": {"metric": "strict", "chance": 0.0, "suite": "generation", "higher_is_better": True},
    "pool": {"metric": "strict", "chance": 0.0, "suite": "pool_validation", "higher_is_better": True},
}
LABELS = {"base": (0, 0), "sft": (600, 0), "rlhf": (300, 400), "selfteach": (120, 0)}


def made_run(
    success: Mapping[str, float],
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    items: int = 200,
    seed_sd: float = 0.01,
    drop: Mapping[str, float] | float = 0.1,
    tasks: Sequence[str] = tuple(TASKS),
    spend: Mapping[str, float] | None = None,
    rng_seed: int = 0,
) -> SimpleNamespace:
    """Scores are 0/1 with success chance `success[method]` (+ checkpoint luck of SD seed_sd, − drop under "typos")."""
    rng = np.random.default_rng(rng_seed)
    samples, trials = [], []
    for method, share in success.items():
        for position, seed in enumerate(seeds):
            trained = method != "base"
            stage = f"{method}-{seed}" if trained else method
            demonstrations, comparisons = LABELS.get(method, (100, 0))
            flops = BUDGET * (spend or {}).get(method, 0.995 if trained else 0.0)
            trials.append({
                "trial_id": f"{method}-{seed}", "method": method, "variant": None, "seed": seed, "train_stage": f"train-{stage}",
                "score_stage": f"score-{stage}", "status": "finished", "device": "cpu", "wall_s": 60.0, "train_flops": flops,
                "budget_flops": BUDGET, "demonstrations": demonstrations, "comparisons": comparisons, "queries": 0, "verifications": 0,
                "cost_usd": 0.3 * comparisons + 0.1 * demonstrations + rng.random() / 100,
                "human_s": 37.0 * (demonstrations + comparisons),
                "generated_tokens_per_answer": 10.0,
            })  # fmt: skip
            luck = rng.normal(0, seed_sd) if trained else 0.0
            if not trained and position:
                samples += [row | {"seed": seed} for row in samples if row["method"] == method and row["seed"] == seeds[0]]
                continue
            for task in tasks:
                for view in ("clean", "typos"):
                    lost = (drop[method] if isinstance(drop, Mapping) else drop) if view == "typos" else 0.0
                    values = rng.random(items) < np.clip(share + luck - lost, 0, 1)
                    samples += [
                        {
                            "suite": TASKS[task]["suite"], "task": task, "perturbation": view, "sample_id": f"{task}-{item}",
                            "cluster": f"{task}-{item}", "metric": TASKS[task]["metric"], "value": float(value), "status": "scored",
                            "prompt": "", "target": "", "output": "", "generated_tokens": 3, "method": method, "seed": seed,
                        }
                        for item, value in enumerate(values)
                    ]  # fmt: skip
    none = pd.DataFrame()
    return SimpleNamespace(
        study={"tasks": TASKS}, trials=pd.DataFrame(trials), samples=pd.DataFrame(samples), folds=none, fold_samples=none
    )  # fmt: skip


@pytest.fixture(name="made_run")
def made_run_fixture() -> Callable[..., SimpleNamespace]:
    return made_run
