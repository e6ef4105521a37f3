"""The published system from training to answered corpus: train the policy, generate with it, answer what it generated.

The published code stops at the instructions; answering is the responder's, as in the corrected mode. One thing is never left out: an
instruction that overlaps an evaluation item is rejected whatever the quirks say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.core.budget import Ledger
from harness.core.records import Demonstration, Instruction
from harness.errors import BudgetExceeded
from selfteach.corpus import Entry, Reward
from selfteach.elimination import Context, Kept, Limits
from selfteach.evolve import Evolution
from selfteach.faithful.quirks import FaithfulConfig
from selfteach.faithful.sampler import Eliminator, generate_faithful
from selfteach.faithful.train import train_faithful
from selfteach.policy import save_policy
from selfteach.roles import Answer, Answerer, Executor, Floats, Reviewer, TextEncoder

TRAINING_SHARE = GENERATION_SHARE = 0.5
"""Of what is left for evolving: most that training, then generation, may spend. By rules both cost next to nothing."""
BATCH = 12
"""Instructions answered at a time."""


@dataclass(frozen=True)
class Players:
    """The roles of the published system."""

    executor: Executor
    reviewer: Reviewer
    answerer: Answerer
    encoder: TextEncoder


def evolve_faithfully(
    seeds: Sequence[Demonstration],
    seed_embeddings_N_D: Floats,
    players: Players,
    contaminated: Callable[[str], bool],
    limits: Limits,
    ledger: Ledger,
    config: FaithfulConfig,
    *,
    max_flops: float,
    attempt_flops: float,
    rng: np.random.Generator,
    out: Path,
) -> Evolution:
    """Trains, generates and answers within `max_flops`; writes the policy to `out`.

    Never raises BudgetExceeded: what was made until then is returned. Unanswered instructions are in the entries, not kept.

    Args:
        attempt_flops: an upper guess of what one applied operation costs.
    """
    stop_at = ledger.spent(ledger.account) + max_flops

    def left() -> float:
        return max(0.0, stop_at - ledger.spent(ledger.account))

    train_rng, generate_rng, answer_rng = rng.spawn(3)
    run = train_faithful(
        seeds,
        players.executor,
        players.reviewer,
        ledger,
        config,
        encoder=players.encoder,
        max_flops=TRAINING_SHARE * left(),
        rng=train_rng,
    )
    out.mkdir(parents=True, exist_ok=True)
    save_policy(run.policy, out / "policy.safetensors")
    kept = Kept()
    for seed, embedding in zip(seeds, seed_embeddings_N_D, strict=True):
        kept.add(seed.instruction.text, embedding)
    generated = generate_faithful(
        run.policy,
        seeds,
        players.executor,
        ledger,
        config,
        encoder=players.encoder,
        eliminator=Eliminator(players.encoder, Context(kept, limits, contaminated)),
        max_flops=GENERATION_SHARE * left(),
        attempt_flops=attempt_flops,
        rng=generate_rng,
    )
    entries = [
        replace(entry, kept=False, reject_reason="contaminated", reward=Reward())
        if entry.kept and contaminated(entry.instruction)
        else entry
        for entry in generated.entries
    ]
    entries, ended = _answered(entries, generated.instructions, players, ledger, left, answer_rng)
    ended = f"training: {run.ended}; generation: {generated.ended}; answering: {ended}"
    return Evolution(entries, len(run.rewards_T_B), ended)


def _answered(
    entries: list[Entry],
    instructions: dict[str, Instruction],
    players: Players,
    ledger: Ledger,
    left: Callable[[], float],
    rng: np.random.Generator,
) -> tuple[list[Entry], str]:
    """The entries with their answers, in the same order; answered in a random one, so that a short budget favours no seed."""
    places = [place for place, entry in enumerate(entries) if entry.kept]
    order = [places[index] for index in rng.permutation(len(places))]
    done = {place: _with_answer(entries[place], None) for place in places}
    ended = "all answered"
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        try:
            asked = [instructions[entries[place].id] for place in batch]
            embeddings_N_D = players.encoder.encode([instruction.text for instruction in asked])
            answers = players.answerer.answer(asked, embeddings_N_D=embeddings_N_D, max_flops=left(), rng=rng)
        except BudgetExceeded as refusal:
            ended = f"budget refused: {refusal}"
            break
        for place, instruction, embedding, answer in zip(batch, asked, embeddings_N_D, answers, strict=True):
            done[place] = _with_answer(entries[place], answer)
            if answer is not None and answer.response is not None:
                players.answerer.remember(instruction, answer.response, embedding)
        ledger.observe("corpus size", sum(entry.kept for entry in done.values()))
        if any(answer is None for answer in answers):
            ended = "share of the budget spent"
            break
    return [done.get(place, entry) for place, entry in enumerate(entries)], ended


def _with_answer(entry: Entry, answer: Answer | None) -> Entry:
    if answer is None:
        return replace(entry, kept=False, reject_reason="budget: not answered")
    accepted = answer.response is not None
    return replace(
        entry,
        response=answer.response,
        verified=accepted,
        verified_by=answer.verified_by,
        kept=accepted,
        reject_reason=None if accepted else f"no verified response: 0 of {answer.samples}",
        reward=replace(entry.reward, learnability=answer.learnability),
        samples=answer.samples,
        pass_rate=answer.pass_rate,
        rejected_samples=answer.rejected,
    )
