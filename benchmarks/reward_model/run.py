"""How well does a reward model rank pairs of the instruction pool that it was not trained on, by number of comparisons and label noise?

    python benchmarks/reward_model/run.py OUT.json [--pairs 64 256 512] [--held-out 200] [--seeds 3] [--warm-flops 3e12] [--train-body]

Per seed: SmolLM2-135M-Instruct with LoRA is warmed up on demonstrations, two replies are sampled to each of fresh constrained instructions
at temperature 1 (prompts of training and held-out pairs differ), and the annotators label them without noise and with a flip probability
of 0.25. Accuracy is on clean held-out pairs, against two criteria: the label of one noise-free annotator (another may think otherwise),
and what all annotators together prefer; pairs whose responses are even by that criterion are left out, n says how many are not.
Intervals: Wilson, 95 %, over the held-out pairs of all seeds, for these models.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from baselines.config import RewardConfig
from baselines.policy_gradient import sample
from baselines.preferences import tokenized
from baselines.reward_model import RewardModel, fit, fit_head
from baselines.sft import demonstrations
from harness.core.budget import Ledger
from harness.core.records import Instruction, Preference
from harness.core.spec import Adaptation
from harness.models.finetune import FinetuneConfig, finetune
from harness.models.student import Student
from harness.seeds import generator
from harness.stats.intervals import wilson
from tasks.annotators import EVEN, Annotators
from tasks.pool import MixedPool, MixedPoolConfig

Pairs = list[tuple[Instruction, str, str]]
NOISES = (0.0, 0.25)


def prepared(seed: int, warm_flops: float, n: int) -> tuple[Student, Ledger, MixedPool, Pairs]:
    """A warm student and `n` pairs of its replies."""
    ledger = Ledger(1e18)
    student = Student.load("smollm2-135m-instruct", adaptation=Adaptation(rank=16, alpha=32), seed=seed)
    student.attach(ledger)
    pool = MixedPool(MixedPoolConfig(constraint_share=1.0), ledger=ledger, rng=generator("reward_model", seed), ngrams=frozenset())
    rng = generator("reward_model", seed, "data")
    finetune(student, demonstrations(pool, rng, None), ledger, config=FinetuneConfig(), rng=rng, max_flops=warm_flops)
    pairs: dict[str, tuple[Instruction, str, str]] = {}
    while len(pairs) < n:
        prompts = [prompt for prompt in pool.prompts(32, rng=rng) if prompt.text not in pairs]
        for prompt, (one, other) in zip(prompts, sample(student, prompts, max_new_tokens=48, temperature=1.0, rng=rng, n=2), strict=True):
            if one.text.strip() != other.text.strip():
                pairs[prompt.text] = (prompt, one.text, other.text)
        print(f"  seed {seed}: {len(pairs)} pairs", flush=True)
    return student, ledger, pool, list(pairs.values())[:n]


def labelled(pool: MixedPool, pairs: Pairs, noise: float, seed: int) -> list[Preference]:
    """The pairs' labels; the same annotator judges a pair whatever the noise."""
    annotators = Annotators(pool.config.annotators.model_copy(update={"flip_probability": noise}))
    return [annotators.label(*pair, rng=generator("reward_model", seed, "label", index)) for index, pair in enumerate(pairs)]


def hits(pool: MixedPool, held_out: Pairs, seed: int, leads: Sequence[float]) -> dict[str, list[bool]]:
    """Where the reward's order is the criterion's, over the pairs that are not even by it."""
    names = [profile.name for profile in pool.config.annotators.profiles]
    gains_A_N = pool.annotators.gains(held_out)
    own_N = [gains_A_N[names.index(label.annotator), index] for index, label in enumerate(labelled(pool, held_out, 0.0, seed))]
    return {
        criterion: [bool(lead * gain > 0) for lead, gain in zip(leads, gain_N, strict=True) if abs(gain) > EVEN]
        for criterion, gain_N in (("one annotator", own_N), ("all annotators", gains_A_N.mean(0)))
    }


def by_head(student: Student, ledger: Ledger, pool: MixedPool, train: Pairs, held_out: Pairs, sizes: list[int], seed: int) -> list[dict]:
    """Heads on frozen features, which are computed once."""
    config = RewardConfig()
    model = RewardModel(student, config)
    model.attach(ledger)

    def features(pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
        both = [tokenized(student, Preference(*pair)) for pair in pairs]
        model.eval()
        with torch.no_grad():
            sides = [torch.cat([model.features(side[at : at + 8]) for at in range(0, len(side), 8)]) for side in zip(*both, strict=True)]
        return sides[0], sides[1]

    one_N_D, other_N_D = features(train)
    tests = features(held_out)
    rows = []
    for noise in NOISES:
        wins = torch.tensor([label.chosen == pair[1] for label, pair in zip(labelled(pool, train, noise, seed), train, strict=True)])[
            :, None
        ]
        chosen, rejected = torch.where(wins, one_N_D, other_N_D), torch.where(wins, other_N_D, one_N_D)
        for size in sizes:
            torch.nn.init.zeros_(model.head.weight)
            fit_head(model, chosen[:size], rejected[:size], ridge=config.ridge)
            with torch.no_grad():
                leads = (model.from_features(tests[0]) - model.from_features(tests[1])).tolist()
            rows.append({"seed": seed, "noise": noise, "pairs": size, "hits": hits(pool, held_out, seed, leads)})
    return rows


def by_body(
    student: Student, ledger: Ledger, pool: MixedPool, train: Pairs, held_out: Pairs, sizes: list[int], seed: int, config: RewardConfig
) -> list[dict]:
    """Models trained as a whole, on the most pairs only."""
    rows = []
    for noise in NOISES:
        model = RewardModel(student, config)
        model.attach(ledger)
        labels = labelled(pool, train[: sizes[-1]], noise, seed)
        fit(model, labels, ledger, config=config, rng=generator("reward_model", seed, "fit"))
        scores = [[float(model.score([example])) for example in tokenized(student, Preference(*pair))] for pair in held_out]
        rows.append({"seed": seed, "noise": noise, "pairs": len(labels), "hits": hits(pool, held_out, seed, [a - b for a, b in scores])})
    return rows


def table(rows: list[dict]) -> None:
    """Prints accuracy with interval by noise and number of pairs."""
    print(f"{'noise':>5} {'pairs':>6}  criterion        accuracy [95 %]        n   by seed")
    for noise, size in sorted({(row["noise"], row["pairs"]) for row in rows}):
        found = [row["hits"] for row in rows if (row["noise"], row["pairs"]) == (noise, size)]
        for criterion in found[0]:
            hit = [one for each in found for one in each[criterion]]
            low, high = wilson(sum(hit), len(hit))
            seeds = " ".join(f"{np.mean(each[criterion]):.2f}" for each in found)
            print(f"{noise:>5} {size:>6}  {criterion:<15} {np.mean(hit):.3f} [{low:.3f}, {high:.3f}] {len(hit):>6}   {seeds}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, nargs="+", default=[64, 256, 512])
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--warm-flops", type=float, default=3e12)
    parser.add_argument("--train-body", action="store_true")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    options = parser.parse_args()
    sizes, rows = sorted(options.pairs), []
    for seed in range(options.seeds):
        student, ledger, pool, pairs = prepared(seed, options.warm_flops, sizes[-1] + options.held_out)
        held_out, train = pairs[: options.held_out], pairs[options.held_out :]
        if options.train_body:
            config = RewardConfig(train_body=True, epochs=options.epochs, learning_rate=options.learning_rate, held_out_share=0.02)
            rows += by_body(student, ledger, pool, train, held_out, sizes, seed, config)
        else:
            rows += by_head(student, ledger, pool, train, held_out, sizes, seed)
        options.out.write_text(json.dumps({"settings": {**vars(options), "out": options.out.name}, "rows": rows}))
        table(rows)


if __name__ == "__main__":
    main()
