"""How many instructions a second the rule executor makes: `python benchmarks/evolve/rules.py` (one thread, no model).

Over all operations and all training seeds of the mixed pool, in chains of three operations and batches of 64: the executor alone, and
executor and elimination rules against everything kept before. Embeddings are random unit vectors, because computing real ones is not the
rules' work. Prints each run, median, least and most.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from harness.core.budget import Ledger
from harness.core.records import Instruction
from harness.seeds import generator
from selfteach.elimination import Candidate, Context, Kept, Limits, eliminate
from selfteach.operations import OPERATIONS, RuleExecutor
from tasks.pool import MixedPool, MixedPoolConfig

RUNS = 7
BATCH = 64
BATCHES = 40
CHAIN = 3
EMBEDDING_SIZE = 384


def main() -> None:
    pool = MixedPool(MixedPoolConfig(), ledger=Ledger(), rng=generator("benchmark", "pool"), ngrams=frozenset())
    seeds = [seed.instruction for seed in pool.seeds()]
    executor = RuleExecutor(seeds)
    evolve(executor, seeds, run=-1)  # imports the generators
    alone, ruled = [], []
    for run in range(RUNS):
        seconds, pairs, tried = evolve(executor, seeds, run=run)
        alone.append(len(pairs) / seconds)
        eliminated_s, kept = elimination(pairs, seeds)
        ruled.append(len(pairs) / (seconds + eliminated_s))
        print(f"run {run}: {len(pairs)} of {tried} operations gave an instruction, {kept} were kept", end="; ")
        print(f"executor {alone[-1]:,.0f}/s, with elimination {ruled[-1]:,.0f}/s")
    for name, rates in (("executor alone", alone), ("executor and elimination", ruled)):
        print(f"{name}: median {statistics.median(rates):,.0f}/s, least {min(rates):,.0f}, most {max(rates):,.0f} (n = {RUNS})")


def evolve(executor: RuleExecutor, seeds: list[Instruction], *, run: int) -> tuple[float, list[tuple[Instruction, Instruction]], int]:
    """Seconds in the executor, (parent, child) made, and operations tried."""
    rng = generator("benchmark", "rules", run)
    seconds, tried = 0.0, 0
    pairs: list[tuple[Instruction, Instruction]] = []
    for _ in range(BATCHES):
        batch = [seeds[index] for index in rng.integers(len(seeds), size=BATCH)]
        for _ in range(CHAIN):
            operations = [OPERATIONS[index] for index in rng.integers(len(OPERATIONS), size=BATCH)]
            started = time.perf_counter()
            outcomes = executor.apply_batch(batch, operations, rng=rng)
            seconds += time.perf_counter() - started
            tried += len(batch)
            pairs += [(parent, item.instruction) for parent, item in zip(batch, outcomes, strict=True) if item.instruction is not None]
            batch = [item.instruction or parent for parent, item in zip(batch, outcomes, strict=True)]
    return seconds, pairs, tried


def elimination(pairs: list[tuple[Instruction, Instruction]], seeds: list[Instruction]) -> tuple[float, int]:
    """Seconds in the rules, and instructions kept; each is compared with all kept before it."""
    rng = generator("benchmark", "embeddings")
    embeddings = rng.normal(size=(len(pairs), EMBEDDING_SIZE)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    context = Context(Kept(), Limits(), contaminated=lambda text: False)
    for seed in seeds:
        context.kept.add(seed.text, embeddings[0])
    before = len(context.kept.tokens)
    started = time.perf_counter()
    for (parent, child), embedding in zip(pairs, embeddings, strict=True):
        candidate = Candidate(child, parent, embedding, reply=child.text, ancestors=(parent.text,))
        if eliminate(candidate, context) is None:
            context.kept.add(child.text, embedding)
    return time.perf_counter() - started, len(context.kept.tokens) - before


if __name__ == "__main__":
    main()
