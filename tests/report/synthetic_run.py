"""A made-up run to draw the report from: plausible shapes and sizes, no meaning. Used by the report's tests only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.core.records import SAMPLE_COLUMNS
from harness.core.results import RunResults
from harness.verdicts.frames import Scores
from harness.verdicts.front import cost_quality_front

METHODS = ("base", "sft", "rlhf", "evol_instruct", "selfteach")
GAIN = {"base": 0.0, "sft": 0.09, "rlhf": 0.06, "evol_instruct": 0.07, "selfteach": 0.11}
TASKS = {"logiqa": 0.25, "openbookqa": 0.25, "siqa": 1 / 3, "rg_isomorphic": 0.5, "stacked_constraints": None}
PERTURBATIONS = ("clean", "typos", "option_order")
BUDGET = 2.4e14
WORDS = ["the", "a", "model", "answer", "because", "option", "reason", "we", "think", "river", "green", "seven", "letter", "count"]
HOSTILE = "<script>alert(1)</script></script><img src=x onerror=alert(2)>\u2028\x1b[31mred\x00 {{ 7*7 }} $\\frac{1}{0}$ &lt; \u202eoverride"


def gain(method: str) -> float:
    """What training brings; methods that have no entry get something between."""
    return GAIN.get(method, 0.02 + len(method) % 7 / 100)


def study(seeds: int, hostile: str, methods: Sequence[str] = METHODS) -> dict[str, Any]:
    return {
        "name": "quickstart",
        "title": "Quickstart: five ways to spend the same compute" + hostile,
        "question": "At the same compute, is a language model that teaches itself better than SFT and RLHF?",
        "notes": ["Prices are assumptions." + hostile],
        "student": {"model": "smollm2-135m-instruct", "adaptation": {"kind": "lora", "rank": 16}},
        "budget": {"train_flops": BUDGET},
        "seeds": list(range(seeds)),
        "methods": [{"name": name} for name in methods],
        "tasks": {
            task: {"metric": "exact_match", "suite": "complex_understanding", "chance": chance, "higher_is_better": True}
            for task, chance in TASKS.items()
        }
        | {"pool_mixed": {"metric": "exact_match", "suite": "pool_validation", "chance": None, "higher_is_better": True}},
        "plan": {"trials": [], "setting": {"device": "cpu", "precision": "bfloat16", "threads": 1}},
        "provenance": {
            "machine": {"processor": "AMD EPYC", "cores": 2, "memory_gib": 23.4},
            "versions": {"torch": "2.13.0", "transformers": "5.23.0", "lm-eval": "0.4.13"},
        },
    }


def samples(rng: np.random.Generator, seeds: int, items: int, text_length: int, hostile: str, methods: Sequence[str]) -> pd.DataFrame:
    words = np.array(WORDS)
    rows: list[tuple[Any, ...]] = []
    suites = [("complex_understanding", task, PERTURBATIONS) for task in TASKS] + [("pool_validation", "pool_mixed", ("clean",))]
    for suite, task, perturbations in suites:
        difficulty = rng.normal(0, 0.25, items)
        for perturbation in perturbations:
            drop = 0.0 if perturbation == "clean" else 0.06
            for item in range(items):
                prompt = f"{hostile}Question {item} of {task} ({perturbation}): " + " ".join(rng.choice(words, text_length // 6))
                for method in methods:
                    for seed in range(seeds):
                        chance = TASKS.get(task) or 0.1
                        brought = gain(method) * (3 if suite == "pool_validation" else 1)
                        value = float(rng.random() < np.clip(chance + brought + difficulty[item] - drop, 0.02, 0.98))
                        output = hostile + " ".join(rng.choice(words, text_length // 6))
                        status = "unparsed" if rng.random() < 0.01 else "scored"
                        fields = (
                            suite,
                            task,
                            perturbation,
                            f"{task}-{item}",
                            f"{task}-{item}",
                            "exact_match",
                            value if status == "scored" else None,
                            status,
                            prompt,
                            f"{hostile}answer {item}",
                            output,
                            40,
                        )
                        rows.append((*fields, method, seed))
    return pd.DataFrame(rows, columns=[*SAMPLE_COLUMNS, "method", "seed"])


def trials(rng: np.random.Generator, seeds: int, failed: str | None, methods: Sequence[str]) -> pd.DataFrame:
    rows = []
    for method in methods:
        for seed in range(seeds):
            trained = method != "base"
            label = method if method != "selfteach" or seed else "selfteach"
            rows.append(
                {
                    "trial_id": f"{label}-{seed}",
                    "method": method,
                    "variant": "",
                    "seed": seed,
                    "train_stage": f"t-{method}-{seed if trained else 'all'}",
                    "score_stage": f"s-{method}-{seed if trained else 'all'}",
                    "status": "failed" if f"{method}-{seed}" == failed else "finished",
                    "device": "cpu",
                    "wall_s": 95.0 + rng.normal(0, 4) if trained else 0.0,
                    "train_flops": BUDGET * (1 - rng.random() * 0.01) if trained else 0.0,
                    "budget_flops": BUDGET,
                    "demonstrations": {"sft": 640, "rlhf": 220}.get(method, 12 if trained else 0),
                    "comparisons": 180 if method == "rlhf" else 0,
                    "queries": 0,
                    "verifications": 900 if method in ("selfteach", "evol_instruct") else 0,
                    "cost_usd": {"base": 0, "sft": 64.02, "rlhf": 76.02}.get(method, 1.22),
                    "human_s": 6600.0 if method == "rlhf" else 0.0,
                    "generated_tokens_per_answer": 41.5,
                }
            )
    return pd.DataFrame(rows)


def ledger(rng: np.random.Generator, frame: pd.DataFrame) -> pd.DataFrame:
    shares = {
        "sft": {"update": 1.0},
        "rlhf": {"update": 0.45, "generate": 0.3, "reward": 0.15, "reference": 0.1},
        "evol_instruct": {"generate": 0.35, "embed": 0.05, "update": 0.6},
        "selfteach": {"generate": 0.4, "execute": 0.08, "embed": 0.05, "policy": 0.01, "update": 0.46},
    }
    rows = []
    for trial in frame.itertuples():
        for phase, share in shares.get(trial.method, {} if trial.method == "base" else {"generate": 0.3, "update": 0.7}).items():
            flops = trial.train_flops * share
            fields = {"trial_id": trial.trial_id, "method": trial.method, "seed": trial.seed, "account": "train", "phase": phase}
            rows.append(
                fields
                | {"model": "student", "flops": flops, "tokens": int(flops / 8e8), "padding": int(flops / 9e9), "calls": 90, "wall_s": 0.0}
            )
            rows.append(fields | {"model": "", "flops": 0.0, "tokens": 0, "padding": 0, "calls": 0, "wall_s": 90 * share})
    return pd.DataFrame(rows).assign(energy_j=float("nan"))


def curves(rng: np.random.Generator, frame: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for trial in frame[frame.method != "base"].itertuples():
        names = ["loss", *{"rlhf": ["reward"], "selfteach": ["policy_reward"], "evol_instruct": ["policy_reward"]}.get(trial.method, [])]
        for name in names:
            for step in range(1, 400):
                level = 2.2 * np.exp(-step / 120) + 1 if name == "loss" else 0.5 * (1 - np.exp(-step / 100)) * (1 + gain(trial.method))
                rows.append(
                    {
                        "trial_id": trial.trial_id,
                        "method": trial.method,
                        "seed": trial.seed,
                        "curve": name,
                        "step": step,
                        "train_flops": trial.train_flops * step / 400,
                        "wall_s": step / 5,
                        "value": level + rng.normal(0, 0.08),
                    }
                )
    return pd.DataFrame(rows)


def corpora(rng: np.random.Generator, seeds: int, hostile: str) -> dict[str, list[dict[str, Any]]]:
    operations = ("breadth", "add_constraint", "deepen", "concretise", "reasoning", "complicate")
    reasons = ("near duplicate: ROUGE-L 0.81", "over length: 93 words", "no information gain", "8-gram overlap with an evaluation item")
    found: dict[str, list[dict[str, Any]]] = {}
    for method in ("evol_instruct", "selfteach"):
        for seed in range(seeds):
            rows = []
            for index in range(60):
                picked = [str(name) for name in rng.choice(operations, int(rng.integers(1, 4)))]
                lineage = [{"operation": "seed", "text": f"{hostile}Name three rivers."}] + [
                    {"operation": name, "text": f"Name three rivers{hostile}, step {depth} by {name}."} for depth, name in enumerate(picked)
                ]
                kept = bool(rng.random() < 0.6)
                rows.append(
                    {
                        "id": f"i{index}",
                        "seed_id": f"seed-{index % 9}",
                        "parent_id": f"i{index - 1}",
                        "lineage": lineage,
                        "operation": picked[-1],
                        "family": "constraints",
                        "instruction": lineage[-1]["text"],
                        "constraints": [{"kind": "word_count", "params": {"max": 40}}],
                        "response": f"Rhine, Po, Ebro {hostile}" if kept else None,
                        "verified": True if kept else None,
                        "kept": kept,
                        "reject_reason": None if kept else str(rng.choice(reasons)),
                        "reward": {"validity": 1.0, "novelty": 0.4, "learnability": 0.75, "total": 0.3},
                        "samples": 4,
                        "pass_rate": 0.25,
                        "step": index,
                    }
                )
            found[f"{method}-{seed}"] = rows
    return found


def verdicts(seeds: int) -> list[dict[str, Any]]:
    def verdict(claim: str, sentence: str, outcome: str, effect: float | None, **more: Any) -> dict[str, Any]:
        fields = {
            "claim_id": claim,
            "sentence": sentence,
            "source": "literature review of TeaMs-RL, 2024",
            "reading": "relative, vs sft",
            "primary": True,
            "treatment": "selfteach",
            "comparator": "sft",
            "estimand": "relative difference",
            "unit": "share",
            "metric_text": "macro accuracy over 5 tasks",
            "threshold": 0.2,
            "direction": "higher",
            "verdict": outcome,
            "why": "the interval holds the threshold and zero",
            "effect": effect,
            "interval": [effect - 0.1, effect + 0.1] if effect is not None else None,
            "level": 0.95,
            "p_value": 0.02,
            "p_holm": 0.08,
            "n_seeds": seeds,
            "n_items": 500,
            "mde": 0.14,
            "needed": "9 seeds × 500 items",
            "components": {"seed": 1e-4, "item": 2e-2, "residual": 0.1},
            "baseline_value": 0.34,
            "treatment_value": 0.36,
            "evidence": ["ab12cd34", "ef56ab78"],
            "undefined_in_source": ["which conventional methods", "whether relative or absolute"],
        }
        return fields | more

    return [
        verdict("understanding", "Complex understanding improves by 20 % over base and conventional methods.", "inconclusive", 0.06),
        verdict(
            "understanding",
            "Complex understanding improves by 20 % over base and conventional methods.",
            "met",
            0.31,
            reading="absolute, vs base",
            primary=False,
            comparator="base",
            estimand="absolute difference",
        ),
        verdict("generation", "Text-generation accuracy rises by 25 %.", "positive but short", 0.12, p_holm=0.01),
        verdict(
            "cost",
            "Training costs 40 % less than RLHF.",
            "met",
            0.02,
            estimand="cost ratio at equal quality",
            threshold=0.6,
            direction="lower",
        ),
        verdict("robustness", "Robustness in cross-validation rises by 15 %.", "contradicted", -0.11),
        verdict(
            "human",
            "Human intervention falls by 30 %.",
            "not testable here",
            None,
            why="no human ever intervened in this run",
            p_value=None,
            p_holm=None,
            mde=None,
            needed=None,
        ),
    ]


def leaderboard(frame: pd.DataFrame, seeds: int, methods: Sequence[str]) -> dict[str, Any]:
    main = frame[(frame.suite == "complex_understanding") & (frame.status == "scored")]
    rows = []
    for method in methods:
        own = main[main.method == method]
        clean = own[own.perturbation == "clean"].groupby("task").value.mean()
        macro = float(clean.mean())
        robustness = {}
        for name in PERTURBATIONS[1:]:
            value = float(own[own.perturbation == name].groupby("task").value.mean().mean())
            robustness[name] = {"value": value, "drop": macro - value, "interval": [macro - value - 0.02, macro - value + 0.02]}
        per_task = {
            task: {
                "value": float(clean[task]),
                "interval": [clean[task] - 0.05, clean[task] + 0.05],
                "n": 100,
                "chance": chance,
                "at_chance": bool(chance and abs(clean[task] - chance) < 0.05),
            }
            for task, chance in TASKS.items()
        }
        rows.append(
            {
                "method": method,
                "value": macro,
                "interval": [macro - 0.03, macro + 0.03],
                "n_seeds": seeds,
                "n_items": 500,
                "rank": 0,
                "rank_interval": [1, 3],
                "tied_with_best": method in ("sft", "selfteach"),
                "per_task": per_task,
                "robustness": robustness,
                "train_flops": 0.0 if method == "base" else BUDGET,
                "wall_s": 95.0,
                "cost_usd": {"base": 0, "sft": 64.0, "rlhf": 76.0}.get(method, 1.2),
                "demonstrations": 640 if method == "sft" else 12,
                "comparisons": 180 if method == "rlhf" else 0,
            }
        )
    rows.sort(key=lambda row: -row["value"])
    for rank, row in enumerate(rows, 1):
        row["rank"] = rank
    return {"metric_text": "macro accuracy over 5 tasks", "rows": rows, "matched": True, "match_spread": 0.011, "notes": []}


def synthetic_run(
    *,
    seeds: int = 3,
    items: int = 40,
    text_length: int = 120,
    failed: str | None = None,
    hostile: str = "",
    rng_seed: int = 0,
    methods: Sequence[str] = METHODS,
) -> RunResults:
    """A run as `harness.core.results.load_run` returns it. `items` counts each task; `hostile` is put into every free text."""
    rng = np.random.default_rng(rng_seed)
    frame = samples(rng, seeds, items, text_length, hostile, methods)
    trial_frame = trials(rng, seeds, failed, methods)
    run = RunResults(
        run_dir=Path("results/runs/quickstart"),
        study=study(seeds, hostile, methods),
        trials=trial_frame,
        samples=frame,
        ledger=ledger(rng, trial_frame),
        curves=curves(rng, trial_frame),
        corpora=corpora(rng, seeds, hostile),
        verdicts=verdicts(seeds),
        leaderboard=leaderboard(frame, seeds, methods),
    )
    front = cost_quality_front(run, Scores(run), list(TASKS))
    return dataclasses.replace(run, leaderboard=run.leaderboard | {"front": front, "tracks": score_tracks_of(rng, run, methods)})


def score_tracks_of(rng: np.random.Generator, run: RunResults, methods: Sequence[str]) -> dict[str, Any]:
    """Scores at the start, the middle and the end of each run, as `harness.verdicts.front.score_tracks` gives them."""
    start = 0.3
    rows = []
    for method in methods[1:]:
        points = []
        for share in (0.0, 0.5, 1.0):
            value = start + share * gain(method)
            half = abs(rng.normal(0.02, 0.004))
            points.append({"train_flops": BUDGET * share, "value": value, "interval": [value - half, value + half] if share else None})
        rows.append({"method": method, "points": points})
    return {"rows": rows, "n_seeds": run.trials["seed"].nunique(), "n_items": 120, "tasks": ["openbookqa", "siqa"], "why": ""}
