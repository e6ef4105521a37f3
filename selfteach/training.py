"""What the self-teaching methods do when they train: evolve a corpus and answer it, then fine-tune on what was kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.budget import Ledger
from harness.core.corpus import CORPUS
from harness.core.pool import TaskPool
from harness.core.records import Demonstration, Message
from harness.errors import BudgetExceeded, SpecError
from harness.instructions.shots import demonstration_turns
from harness.models.embed import Embedder
from harness.models.finetune import finetune
from harness.models.student import Student
from selfteach.cast import Cast
from selfteach.config import GRPO_LM, EvolConfig, SelfTeachConfig
from selfteach.corpus import Entry, manifest, read_corpus, write_corpus, write_manifest
from selfteach.environment import Environment
from selfteach.evolve import Evolution, evolve
from selfteach.faithful.evolve import Players, evolve_faithfully
from selfteach.policies.make import make
from selfteach.policy import save_policy
from selfteach.respond.responder import Responder
from selfteach.roles import Floats

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class _Stage:
    """What evolving works with: the roles opened, the seeds embedded, the compute it may spend."""

    config: SelfTeachConfig
    student: Student
    pool: TaskPool
    ledger: Ledger
    seeds: list[Demonstration]
    embedder: Embedder
    seed_embeddings_N_D: Floats
    cast: Cast
    max_flops: float
    out: Path

    @property
    def must_verify(self) -> bool:
        """Whether an instruction that no rule can check is of no use."""
        return self.config.responder.verification == "rule"


def evolve_corpus(
    config: SelfTeachConfig, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, out: Path
) -> None:
    """The first part: writes corpus.jsonl, manifest.json and the policy."""
    started_at, budget = ledger.spent(ledger.account), ledger.remaining()
    assert np.isfinite(budget), "self-teaching needs a budget"
    if student.ledger is not ledger:
        student.attach(ledger)
    evolve_rng, _ = _streams(rng)
    seeds = pool.seeds()
    if not seeds:
        raise SpecError("expected a pool with seed demonstrations", key="pool")
    cast = Cast(config, student, pool, ledger, seeds)
    embedder = Embedder.load(config.embedder)
    embedder.attach(ledger)
    out.mkdir(parents=True, exist_ok=True)
    try:
        seed_embeddings_N_D = embedder.encode([seed.instruction.text for seed in seeds])
    except BudgetExceeded as refusal:
        evolution = Evolution(ended=f"budget refused: {refusal}")
    else:
        max_flops = config.evolve_share * budget - (ledger.spent(ledger.account) - started_at)
        stage = _Stage(config, student, pool, ledger, seeds, embedder, seed_embeddings_N_D, cast, max_flops, out)
        evolution = _evolve_faithfully(stage, evolve_rng) if config.mdp == "faithful" else _evolve(stage, evolve_rng)
    write_corpus(evolution.entries, out / CORPUS)
    write_manifest(_manifest(config, cast, evolution, ledger, seeds=len(seeds)), out / MANIFEST)


def finetune_on_corpus(
    config: EvolConfig, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, out: Path
) -> Student:
    """The second part: what is left of the budget, on the seeds and what was kept; completes manifest.json."""
    if student.ledger is not ledger:
        student.attach(ledger)
    _, finetune_rng = _streams(rng)
    seeds = pool.seeds()
    entries = drawn(read_corpus(out / CORPUS), config.corpus_size, rng=finetune_rng.spawn(1)[0])
    examples = training_examples(seeds, entries)
    note = "nothing was accepted: fine-tuned on the seeds alone" if len(examples) == len(seeds) else None
    evolved = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    write_manifest({**evolved, "training_examples": len(examples), "note": note}, out / MANIFEST)
    finetune(student, examples, ledger, config=config.finetune, rng=finetune_rng, must_step=True)
    return student


def _streams(rng: np.random.Generator) -> list[np.random.Generator]:
    """The streams of evolving and of fine-tuning."""
    return rng.spawn(2)


def _evolve(stage: _Stage, rng: np.random.Generator) -> Evolution:
    """The corrected MDP."""
    config, ledger = stage.config, stage.ledger
    policy_rng, responder_rng, loop_rng = rng.spawn(3)
    responder = stage.cast.responder(stage.seed_embeddings_N_D, rng=responder_rng)
    environment = Environment(
        stage.seeds,
        config.operations,
        stage.cast.executor(),
        stage.embedder,
        responder,
        stage.pool.contaminated,
        config.environment,
        reviewer=None if config.reviewer == "rules" else stage.cast.reviewer(),
        must_verify=stage.must_verify,
        seed_embeddings_N_D=stage.seed_embeddings_N_D,
    )
    if config.policy == GRPO_LM:
        # Here and not above: TRL takes seconds to import.
        from selfteach.grpo_lm.evolve import evolve_by_language

        return evolve_by_language(
            environment, stage.student, ledger, config=config.grpo, max_flops=stage.max_flops, rng=loop_rng, out=stage.out
        )
    policy = make(config.policy, state_size=environment.state_size, actions=environment.actions, rng=policy_rng)
    policy.attach(ledger)
    evolution = evolve(environment, policy, ledger, max_flops=stage.max_flops, attempt_flops=_attempt_flops(stage, responder), rng=loop_rng)
    save_policy(policy, stage.out / "policy.safetensors")
    return evolution


def _evolve_faithfully(stage: _Stage, rng: np.random.Generator) -> Evolution:
    """The published system."""
    responder_rng, loop_rng = rng.spawn(2)
    responder = stage.cast.responder(stage.seed_embeddings_N_D, rng=responder_rng)
    return evolve_faithfully(
        stage.seeds,
        stage.seed_embeddings_N_D,
        Players(stage.cast.executor(), stage.cast.reviewer(), responder, stage.embedder),
        stage.pool.contaminated,
        stage.config.environment.limits(must_verify=stage.must_verify),
        stage.ledger,
        stage.config.faithful,
        max_flops=stage.max_flops,
        attempt_flops=stage.cast.executor_flops(),
        rng=loop_rng,
        out=stage.out,
    )


def _attempt_flops(stage: _Stage, responder: object) -> float:
    """An upper guess of what one applied operation and its answers cost; an expert's part is learnt as it goes."""
    answering = (
        responder.bound_flops([seed.instruction for seed in stage.seeds]) / len(stage.seeds) if isinstance(responder, Responder) else 0.0
    )
    return answering + stage.cast.executor_flops()


def training_examples(seeds: list[Demonstration], entries: list[Entry]) -> list[tuple[list[Message], str]]:
    """What the student is fine-tuned on: the seeds' own demonstrations, and every kept entry with its accepted response."""
    examples = [([demonstration_turns(seed)[0]], seed.response) for seed in seeds]
    for entry in entries:
        if entry.kept and entry.response is not None:
            examples.append(([{"role": "user", "content": entry.instruction}], entry.response))
    return examples


def drawn(entries: list[Entry], size: int | None, *, rng: np.random.Generator) -> list[Entry]:
    """At most `size` of the kept entries, in their order; all of them where `size` is None."""
    kept = [entry for entry in entries if entry.kept and entry.response is not None]
    if size is None or size >= len(kept):
        return kept
    return [kept[index] for index in sorted(rng.permutation(len(kept))[:size].tolist())]


def _manifest(config: SelfTeachConfig, cast: Cast, evolution: Evolution, ledger: Ledger, *, seeds: int) -> dict[str, Any]:
    phases = {
        f"{row['phase']}:{row['model']}": {"flops": row["flops"], "tokens": row["tokens"], "calls": row["calls"]}
        for row in ledger.rows()
        if row["account"] == ledger.account and row["calls"]
    }
    players = cast.report() | ({"executor": GRPO_LM} if config.policy == GRPO_LM else {})
    return {
        "mdp": config.mdp,
        "policy": "faithful" if config.mdp == "faithful" else config.policy,
        "policy_updates": evolution.updates,
        "ended": evolution.ended,
        "cast": players,
        "endpoints": cast.endpoints(),
        "verification": config.responder.verification,
        "context": config.responder.context,
        "seeds": seeds,
        **manifest(evolution.entries),
        "counters": dict(ledger.counters),
        "phases": phases,
    }
