"""The self-instruct RL system as a method: a policy evolves instructions, the student answers, verified answers train it.

Instructor: the policy (selfteach.policy, selfteach.policies, selfteach.grpo_lm). Who plays executor, reviewer and responder is the cast's
matter (selfteach.cast); by default rules, rules, and the student before training. `evol_instruct` is the same with operations drawn at
random: the control that the published work lacked. `mdp: faithful` is the published system (selfteach.faithful).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field, field_validator, model_validator

from harness.core.budget import Ledger
from harness.core.corpus import CORPUS
from harness.core.parts import train_in_parts
from harness.core.pool import TaskPool
from harness.core.records import Demonstration, Message
from harness.errors import BudgetExceeded, SpecError
from harness.instructions.shots import demonstration_turns
from harness.models.embed import DEFAULT_EMBEDDER, Embedder
from harness.models.finetune import FinetuneConfig, finetune
from harness.models.student import Student
from selfteach.cast import RULES, Cast, CastConfig, check_source
from selfteach.corpus import Entry, manifest, read_corpus, write_corpus, write_manifest
from selfteach.environment import STOP, Environment, EnvironmentConfig
from selfteach.evolve import Evolution, evolve
from selfteach.faithful.evolve import Players, evolve_faithfully
from selfteach.faithful.quirks import FaithfulConfig
from selfteach.grpo_lm.config import GrpoConfig
from selfteach.operations import OPERATIONS
from selfteach.policies import check_policy_name, make
from selfteach.policy import save_policy
from selfteach.respond import Responder
from selfteach.roles import Floats

GRPO_LM = "grpo_lm"
MANIFEST = "manifest.json"


class EvolConfig(CastConfig):
    """Settings that the self-instruct RL system shares with its control."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    evolve_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the budget for evolving and answering; the rest fine-tunes."""
    operations: tuple[str, ...] = Field(default=OPERATIONS, min_length=1)
    """What the policy may choose from, besides "stop"."""
    embedder: str = DEFAULT_EMBEDDER
    environment: EnvironmentConfig = EnvironmentConfig()
    corpus_size: int | None = Field(default=None, ge=1, exclude_if=lambda size: size is None)
    """Most kept entries that fine-tuning learns from, drawn at random of all that evolving kept, a smaller draw's among a larger one's;
    None is every one. The seeds' own demonstrations come on top."""
    finetune: FinetuneConfig = FinetuneConfig()

    @field_validator("embedder")
    @classmethod
    def _known_embedder(cls, embedder: str) -> str:
        return check_source(embedder, kind="embedder")

    @field_validator("operations")
    @classmethod
    def _known_operations(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        for operation in operations:
            if operation not in OPERATIONS:
                raise SpecError("expected an operation", value=operation, valid=OPERATIONS)
        if len(set(operations)) < len(operations):
            raise SpecError("expected each operation once", value=list(operations))
        return operations


class SelfTeachConfig(EvolConfig):
    """Settings of the self-instruct RL system."""

    policy: str = "ppo"
    """ppo, trpo, bandit, random, fixed:<operation>, schedule:<operation>,..., or grpo_lm: the language model writes the instructions."""
    mdp: Literal["corrected", "faithful"] = "corrected"
    """faithful: the published system; its policy is its own."""
    faithful: FaithfulConfig = FaithfulConfig()
    grpo: GrpoConfig = GrpoConfig()

    @model_validator(mode="after")
    def _policy_fits(self) -> SelfTeachConfig:
        check_policy_name(self.policy, (*self.operations, STOP), others=(GRPO_LM,))
        if self.policy == GRPO_LM and self.responder.verification == "rule":
            raise SpecError(
                'expected "consistency" or "either" where the language model writes the instructions: they have no verifier',
                key="responder.verification",
                value=self.responder.verification,
            )
        if self.policy == GRPO_LM and self.executor != RULES:
            raise SpecError("expected no executor where the policy itself writes the instructions", key="executor")
        if self.mdp == "faithful" and self.operations != OPERATIONS:
            raise SpecError("the faithful MDP has all six operations", key="operations", value=list(self.operations))
        if self.mdp == "faithful" and self.policy != type(self).model_fields["policy"].default:
            raise SpecError("expected no policy: the faithful MDP has its own", key="policy", value=self.policy)
        # Settings that nothing would read are a mistake, not a wish.
        if self.mdp != "faithful" and self.faithful != FaithfulConfig():
            raise SpecError('expected "mdp: faithful" beside settings of the faithful MDP', key="faithful")
        if self.policy != GRPO_LM and self.grpo != GrpoConfig():
            raise SpecError(f'expected "policy: {GRPO_LM}" beside its settings', key="grpo")
        return self


class SelfTeach:
    """Reinforcement learning picks the operations."""

    name = "selfteach"
    summary = "RL picks the operations that evolve instructions; the student answers, verified answers fine-tune it"
    Config = SelfTeachConfig
    grid: ClassVar[dict[str, list[float]]] = {"finetune.learning_rate": [3e-4, 1e-3], "evolve_share": [0.3, 0.5]}

    later: ClassVar[tuple[str, ...]] = ("finetune", "corpus_size")

    @staticmethod
    def first_share(config: EvolConfig) -> float:
        """Share of the budget that evolving and answering is given."""
        return config.evolve_share

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: SelfTeachConfig, out: Path
    ) -> Student:
        """Trains the student in place; writes corpus.jsonl, manifest.json and the policy to `out`."""
        trained: Student = train_in_parts(self, student, pool, ledger, rng=rng, config=config, out=out)
        return trained

    def begin(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: SelfTeachConfig, out: Path
    ) -> None:
        """Evolves and answers: corpus.jsonl, manifest.json, the policy; the student stays as it is."""
        _evolve_corpus(config, student, pool, ledger, rng=rng, out=out)

    def finish(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: SelfTeachConfig, out: Path
    ) -> Student:
        """Fine-tunes on the corpus in `out`."""
        return _finetune_on_corpus(config, student, pool, ledger, rng=rng, out=out)


class EvolInstruct:
    """The control: operations drawn at random, all else equal."""

    name = "evol_instruct"
    summary = "the same with operations drawn at random: Evol-Instruct, the control for the RL claim"
    Config = EvolConfig
    grid: ClassVar[dict[str, list[float]]] = {"finetune.learning_rate": [3e-4, 1e-3], "evolve_share": [0.3, 0.5]}

    later: ClassVar[tuple[str, ...]] = SelfTeach.later
    first_share = staticmethod(SelfTeach.first_share)

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: EvolConfig, out: Path
    ) -> Student:
        """As `SelfTeach.train`."""
        trained: Student = train_in_parts(self, student, pool, ledger, rng=rng, config=config, out=out)
        return trained

    def begin(self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: EvolConfig, out: Path) -> None:
        """As `SelfTeach.begin`."""
        _evolve_corpus(SelfTeachConfig(**config.model_dump(), policy="random"), student, pool, ledger, rng=rng, out=out)

    def finish(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: EvolConfig, out: Path
    ) -> Student:
        """As `SelfTeach.finish`."""
        return _finetune_on_corpus(config, student, pool, ledger, rng=rng, out=out)


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


def _evolve_corpus(
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


def _finetune_on_corpus(
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
