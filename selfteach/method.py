"""The self-instruct RL system as a method: a policy evolves instructions, the student answers, verified answers train it.

Instructor: the policy (selfteach.policy). Executor: rules (selfteach.operations). Reviewer: elimination rules, and the pool's verifier.
Responder: the student before training, prompted few-shot (selfteach.respond). `evol_instruct` is the same with operations drawn at
random: the control that the published work lacked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Demonstration, Message
from harness.errors import BudgetExceeded, SpecError
from harness.models.embed import DEFAULT_EMBEDDER, Embedder
from harness.models.finetune import FinetuneConfig, finetune
from harness.models.student import Student
from selfteach.corpus import Entry, manifest, write_corpus, write_manifest
from selfteach.environment import Environment, EnvironmentConfig
from selfteach.evolve import Evolution, evolve
from selfteach.operations import OPERATIONS, RuleExecutor
from selfteach.policy import LearnedPolicy, Policy, RandomPolicy, improve_by_ppo, save_policy
from selfteach.respond import Responder, ResponderConfig, demonstration_turns
from selfteach.trpo import improve_by_trpo

PolicyName = Literal["ppo", "trpo", "random"]


class EvolConfig(BaseModel):
    """Settings that the self-instruct RL system shares with its control."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    evolve_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the budget for evolving and answering; the rest fine-tunes."""
    embedder: str = DEFAULT_EMBEDDER
    environment: EnvironmentConfig = EnvironmentConfig()
    responder: ResponderConfig = ResponderConfig()
    finetune: FinetuneConfig = FinetuneConfig()


class SelfTeachConfig(EvolConfig):
    """Settings of the self-instruct RL system."""

    policy: PolicyName = "ppo"


class SelfTeach:
    """Reinforcement learning picks the operations."""

    name = "selfteach"
    summary = "RL picks the operations that evolve instructions; the student answers, verified answers fine-tune it"
    Config = SelfTeachConfig

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: SelfTeachConfig, out: Path
    ) -> Student:
        """Trains the student in place; writes corpus.jsonl, manifest.json and policy.safetensors to `out`."""
        return _train(config.policy, student, pool, ledger, rng=rng, config=config, out=out)


class EvolInstruct:
    """The control: operations drawn at random, all else equal."""

    name = "evol_instruct"
    summary = "the same with operations drawn at random: Evol-Instruct, the control for the RL claim"
    Config = EvolConfig

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: EvolConfig, out: Path
    ) -> Student:
        """As `SelfTeach.train`."""
        return _train("random", student, pool, ledger, rng=rng, config=config, out=out)


def make_policy(name: PolicyName, state_size: int, n_actions: int, *, rng: np.random.Generator) -> Policy:
    """A fresh policy by name."""
    if name == "random":
        return RandomPolicy(n_actions)
    improve = improve_by_ppo if name == "ppo" else improve_by_trpo
    return LearnedPolicy(state_size, n_actions, improve=improve, rng=rng)


def _train(
    policy_name: PolicyName, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: EvolConfig, out: Path
) -> Student:
    started_at, budget = ledger.spent(ledger.account), ledger.remaining()
    assert np.isfinite(budget), "self-teaching needs a budget"
    if student.ledger is not ledger:
        student.attach(ledger)
    policy_rng, evolve_rng, finetune_rng = rng.spawn(3)
    seeds = pool.seeds()
    if not seeds:
        raise SpecError("expected a pool with seed demonstrations", key="pool")
    embedder = Embedder.load(config.embedder)
    embedder.attach(ledger)
    policy, evolution = _evolve(policy_name, student, pool, ledger, seeds, embedder, budget, policy_rng, evolve_rng, config)
    out.mkdir(parents=True, exist_ok=True)
    write_corpus(evolution.entries, out / "corpus.jsonl")
    if policy is not None:
        save_policy(policy, out / "policy.safetensors")
    examples = training_examples(seeds, evolution.entries)
    write_manifest(_manifest(policy_name, evolution, ledger, seeds=len(seeds), examples=len(examples)), out / "manifest.json")
    left = budget - (ledger.spent(ledger.account) - started_at)
    finetune(student, examples, ledger, config=config.finetune, rng=finetune_rng, max_flops=left)
    return student


def _evolve(
    policy_name: PolicyName,
    student: Student,
    pool: TaskPool,
    ledger: Ledger,
    seeds: list[Demonstration],
    embedder: Embedder,
    budget: float,
    policy_rng: np.random.Generator,
    evolve_rng: np.random.Generator,
    config: EvolConfig,
) -> tuple[Policy | None, Evolution]:
    """The evolve phase; no policy and no entries when not even the seeds' embeddings were affordable."""
    started_at = ledger.spent(ledger.account)
    responder = Responder(student, pool, ledger, seeds, config=config.responder)
    try:
        environment = Environment(
            seeds,
            OPERATIONS,
            RuleExecutor([seed.instruction for seed in seeds]),
            embedder,
            responder,
            pool.contaminated,
            config.environment,
        )
    except BudgetExceeded as refusal:
        return None, Evolution(ended=f"budget refused: {refusal}")
    policy = make_policy(policy_name, environment.state_size, len(environment.actions), rng=policy_rng)
    policy.attach(ledger)
    evolution = evolve(
        environment,
        policy,
        ledger,
        max_flops=config.evolve_share * budget - (ledger.spent(ledger.account) - started_at),
        attempt_flops=responder.bound_flops([seed.instruction for seed in seeds]) / len(seeds),
        rng=evolve_rng,
    )
    return policy, evolution


def training_examples(seeds: list[Demonstration], entries: list[Entry]) -> list[tuple[list[Message], str]]:
    """What the student is fine-tuned on: the seeds' own demonstrations, and every kept entry with its verified response."""
    examples = [([demonstration_turns(seed)[0]], seed.response) for seed in seeds]
    for entry in entries:
        if entry.kept and entry.response is not None:
            examples.append(([{"role": "user", "content": entry.instruction}], entry.response))
    return examples


def _manifest(policy_name: PolicyName, evolution: Evolution, ledger: Ledger, *, seeds: int, examples: int) -> dict[str, Any]:
    note = "nothing was verified: fine-tuned on the seeds alone" if examples == seeds else None
    phases = {
        f"{row['phase']}:{row['model']}": {"flops": row["flops"], "tokens": row["tokens"], "calls": row["calls"]} for row in ledger.rows()
    }
    return {
        "policy": policy_name,
        "policy_updates": evolution.updates,
        "ended": evolution.ended,
        "seeds": seeds,
        "training_examples": examples,
        "note": note,
        **manifest(evolution.entries),
        "counters": dict(ledger.counters),
        "phases": phases,
    }
