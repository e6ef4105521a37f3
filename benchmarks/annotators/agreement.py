"""How well the simulated annotators agree, by label noise, on pairs of responses that a student wrote to training prompts.

    python benchmarks/annotators/agreement.py [--prompts 120] [--noise 0 0.1 0.25 0.4]

Pairs are made as rlhf makes them: two samples at temperature 1 to a prompt of the mixed pool (all training families, half constrained).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch

from harness.core.budget import Ledger
from harness.models.student import Student
from harness.seeds import generator
from tasks.agreement import Pair, agreement_report
from tasks.annotators import Annotators, AnnotatorsConfig
from tasks.pool import MixedPool, MixedPoolConfig

MODEL = "smollm2-135m-instruct"


def sampled_pairs(prompts: int) -> list[Pair]:
    """Two differing responses to each of so many prompts."""
    ledger = Ledger()
    student = Student.load(MODEL, adaptation=None, seed=0)
    student.attach(ledger)
    pool = MixedPool(MixedPoolConfig(), ledger=ledger, rng=generator("agreement", "pool"), ngrams=frozenset())
    asked = pool.prompts(prompts, rng=generator("agreement", "prompts"))
    conversations = [[{"role": "user", "content": prompt.text}] for prompt in asked]
    replies = student.generate(conversations, n=2, max_new_tokens=48, temperature=1.0, seed=0)
    pairs = [(prompt, first.text, second.text) for prompt, (first, second) in zip(asked, replies, strict=True)]
    return [pair for pair in pairs if pair[1] != pair[2]]


def shown(found: dict[str, Any]) -> str:
    """A figure with its interval."""
    low, high = found["interval"]
    return f"{found.get('estimate', found.get('agreement')):.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    """Prints a Markdown table, one row for each noise."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.1, 0.25, 0.4])
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = sampled_pairs(options.prompts)
    print(f"{len(pairs)} pairs of {MODEL}, 95 % intervals\n")
    print("| flip probability | two annotators agree | Fleiss' kappa | label = own criterion | = pool's | = correctness alone |")
    print("|---|---|---|---|---|---|")
    for noise in options.noise:
        annotators = Annotators(AnnotatorsConfig(flip_probability=noise))
        rng = np.random.default_rng(0)
        labels = [annotators.label(*pair, rng=rng) for pair in pairs]
        report = agreement_report(annotators, pairs, labels, rng=rng)
        own = [shown(report["labels"][name]) for name in ("own_criterion", "pool_criterion", "correctness")]
        print(f"| {noise:g} | {shown(report['panel']['agreement'])} | {shown(report['panel']['fleiss_kappa'])} | {' | '.join(own)} |")
    print(f"\npairs that correctness alone sees as even: {report['labels']['correctness']['even']} of {len(pairs)}")
    for names, kappa in report["panel_without_noise"]["cohen_kappa"].items():
        print(f"Cohen's kappa of {names}, without noise: {shown(kappa)}")


if __name__ == "__main__":
    main()
