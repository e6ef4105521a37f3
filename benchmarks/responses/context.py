"""Which examples help a student answer, and how far its agreement with itself can be trusted.

    python benchmarks/responses/context.py --out benchmarks/responses/context.md

The same training prompts (tasks.pool.MixedPool; the quickstart's families, and constrained requests in twice its share) are answered by the
same student in every context with k samples each: the share of samples that verify by rule, with a t interval over pool seeds (each has
seeds, prompts and sampling of its own). The same samples are judged by their agreement alone; its precision is the share of agreed
responses that verify. "nearest, growing" answers in blocks and shows later ones what verified before; the other contexts show seeds alone.
Minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from harness.core.budget import Ledger
from harness.core.records import Instruction
from harness.models.embed import Embedder
from harness.models.generation import BoundedPrefixCaches
from harness.models.student import Student
from harness.seeds import generator
from harness.stats.intervals import wilson
from selfteach.respond.config import ResponderConfig
from selfteach.respond.judge import Judge
from selfteach.respond.responder import PREFIX_TOKENS, batches
from selfteach.respond.shots import Examples
from tasks.pool import MixedPool, MixedPoolConfig

FAMILIES = ["letter_counting", "syllogism", "needle_haystack", "isomorphic_strings", "chain_sum", "word_sequence_reversal"]
CONSTRAINT_SHARE = 0.4
"""Twice the quickstart's: constrained requests are to be judged too."""
CONTEXTS = ("none", "fixed", "matching", "nearest", "nearest, growing")
REFERENCE = "matching"
BLOCK = 4
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One instruction answered in one context."""

    context: str
    seed: int
    puzzle: bool
    pass_rate: float
    agreeing: int
    """Samples in the accepted group; 0 where none was accepted."""
    agreed_verifies: bool
    faults: dict[str, int]
    flops: float


class Bench:
    """One pool seed: its seeds, prompts and their embeddings, which all contexts share."""

    def __init__(self, student: Student, embedder: Embedder, seed: int, prompts: int, config: ResponderConfig) -> None:
        self.student, self.seed, self.config = student, seed, config
        pool_config = MixedPoolConfig(
            families={family: {} for family in FAMILIES}, constraint_share=CONSTRAINT_SHARE, seed_demonstrations=40
        )
        self.pool = MixedPool(pool_config, ledger=Ledger(), rng=generator("responses", "pool", seed), ngrams=frozenset())
        self.seeds = self.pool.seeds()
        self.instructions = self.pool.prompts(prompts, rng=generator("responses", "prompts", seed))
        self.seed_rows = embedder.encode([one.instruction.text for one in self.seeds])
        self.rows = embedder.encode([instruction.text for instruction in self.instructions])

    def run(self, context: str) -> list[Row]:
        """Every prompt answered in a context."""
        kind, growing = context.split(",")[0], context.endswith("growing")
        config = self.config.model_copy(update={"context": kind})
        examples = Examples(self.seeds, config=config, seed_embeddings_N_D=self.seed_rows, rng=generator("responses", "fixed", self.seed))
        caches = BoundedPrefixCaches(PREFIX_TOKENS)
        size = BLOCK if growing else len(self.instructions)
        found: list[Row] = []
        for start in range(0, len(self.instructions), size):
            part = slice(start, start + size)
            found += self._answered(context, examples, self.instructions[part], self.rows[part], caches, growing)
        return found

    def _answered(
        self,
        context: str,
        examples: Examples,
        instructions: Sequence[Instruction],
        rows: Floats,
        caches: BoundedPrefixCaches,
        growing: bool,
    ) -> list[Row]:
        by_rule = Judge(self.pool, examples.config)
        by_agreement = Judge(self.pool, examples.config.model_copy(update={"verification": "consistency"}))
        found: list[Row] = []
        for batch in batches(examples, instructions, rows):
            ledger = Ledger()
            self.student.attach(ledger)
            replies = self.student.generate(
                batch.conversations,
                max_new_tokens=batch.max_new_tokens,
                temperature=examples.config.temperature,
                n=examples.config.samples,
                seed=self.seed,
                prefixes=batch.prefixes,
                prefix_caches=caches,
            )
            for place, instruction, prefix, completions in zip(batch.places, batch.instructions, batch.prefixes, replies, strict=True):
                answer, agreed = (judge.judge(instruction, completions, prefix) for judge in (by_rule, by_agreement))
                verifies = agreed.response is not None and self.pool.verify(instruction, agreed.response).passed
                faults = {reason: count for reason, count in answer.rejected.items() if reason != "not verified"}
                flops = ledger.spent() / len(batch.places)
                puzzle = "generator" in instruction.payload
                found.append(Row(context, self.seed, puzzle, answer.pass_rate, agreed.passed, verifies, faults, flops))
                if growing and answer.response is not None:
                    examples.remember(instruction, answer.response, rows[place])
        return found


def by_seed(rows: Sequence[Row], context: str) -> npt.NDArray[np.float64]:
    """Mean pass rate per pool seed, (S,)."""
    own = [row for row in rows if row.context == context]
    return np.array([np.mean([row.pass_rate for row in own if row.seed == seed]) for seed in sorted({row.seed for row in own})])


def interval(values_S: npt.NDArray[np.float64]) -> str:
    """Mean and its 95 % t interval over seeds."""
    half = stats.t.ppf(0.975, len(values_S) - 1) * values_S.std(ddof=1) / np.sqrt(len(values_S))
    return f"{values_S.mean():+.3f} [{values_S.mean() - half:+.3f}, {values_S.mean() + half:+.3f}]"


def context_table(rows: Sequence[Row]) -> str:
    """Pass rates by context."""
    lines = [
        f"| context | pass rate | minus {REFERENCE} | puzzles | constrained | solved ≥ once | faulty samples | GFLOP an instruction |",
        "|---|---|---|---|---|---|---|---|",
    ]
    reference_S = by_seed(rows, REFERENCE)
    for context in CONTEXTS:
        own = [row for row in rows if row.context == context]
        forms = [[row.pass_rate for row in own if row.puzzle == puzzle] for puzzle in (True, False)]
        cells = [context, interval(by_seed(rows, context)).replace("+", "")]
        cells.append("" if context == REFERENCE else interval(by_seed(rows, context) - reference_S))
        cells += [f"{np.mean(form):.3f} (n={len(form)})" if form else "none" for form in forms]
        cells.append(f"{np.mean([row.pass_rate > 0 for row in own]):.2f}")
        faults = sum((Counter(row.faults) for row in own), Counter())
        cells.append(", ".join(f"{reason} {count}" for reason, count in faults.most_common()))
        cells.append(f"{np.mean([row.flops for row in own]) / 1e9:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def consistency_table(rows: Sequence[Row], samples: int) -> str:
    """Precision of agreement, by form of instruction and size of the group; intervals take instructions as independent."""
    lines = ["| context | form | agreeing | accepted | precision [95 %] | pass rate of all |", "|---|---|---|---|---|---|"]
    for context in CONTEXTS:
        for puzzle, form in ((True, "puzzles"), (False, "constrained")):
            own = [row for row in rows if row.context == context and row.puzzle == puzzle]
            for least in (samples // 2, samples):
                accepted = [row for row in own if row.agreeing >= least]
                right = sum(row.agreed_verifies for row in accepted)
                low, high = wilson(right, len(accepted)) if accepted else (0.0, 1.0)
                precision = f"{right}/{len(accepted)} = {right / len(accepted):.2f} [{low:.2f}, {high:.2f}]" if accepted else "none"
                mean = np.mean([row.pass_rate for row in own]) if own else float("nan")
                lines.append(f"| {context} | {form} | ≥ {least} of {samples} | {len(accepted)} of {len(own)} | {precision} | {mean:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the ablation and writes its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="smollm2-135m-instruct")
    parser.add_argument("--pool-seeds", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    student, embedder = Student.load(options.student, adaptation=None, seed=0), Embedder.load()
    config = ResponderConfig(samples=options.samples, reasoning_tokens=10, instruction_tokens=40)
    cpu_started, rows = time.process_time(), []
    for seed in range(options.pool_seeds):
        bench = Bench(student, embedder, seed, options.prompts, config)
        for context in CONTEXTS:
            rows += bench.run(context)
            print(f"seed {seed}, {context}: {len(rows)} answered, {time.process_time() - cpu_started:.0f} s of CPU time", flush=True)
    about = (
        f"`python benchmarks/responses/context.py --student {options.student} --pool-seeds {options.pool_seeds} "
        f"--prompts {options.prompts} --samples {options.samples}`\n\n"
        f"{platform.machine()} CPU, 1 thread of {os.cpu_count()}, {student.dtype}, {time.process_time() - cpu_started:.0f} s of CPU time. "
        f"{options.pool_seeds} pool seeds × {options.prompts} prompts, k = {config.samples}, temperature {config.temperature}, "
        f"{config.shots} shots of 40 seeds."
    )
    text = f"# Examples before an instruction\n\n{about}\n\n{context_table(rows)}\n\n"
    text += f"# Precision of self-consistency\n\nOn the same samples.\n\n{consistency_table(rows, config.samples)}\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
