"""Does policy optimisation raise the reward that it is given, and the true one? Learned reward and verified rate before and after.

    python benchmarks/rlhf/run.py OUT.json [--arms rloo shuffled] [--seeds 3] [--flops 3e13] [--prompts 100] [--pairs 200]

Per seed: SmolLM2-135M-Instruct with LoRA is warmed up on demonstrations of the quickstart's pool, `--pairs` pairs of its replies are
labelled (flip probability 0.25) and a reward model is fitted to them. Every arm then starts from that student and spends `--flops` on
policy optimisation; "shuffled" is RLOO whose rewards are dealt at random among the replies of a batch. Before and after, one reply at
temperature 1 to each of `--prompts` training prompts is rewarded and verified (account "eval", not in the budget). Printed are the margins
after minus before, the mean over seeds with a 95 % t interval over seeds, and the KL from the start in nats a reply.
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
from scipy import stats

from baselines.config import OptimiseConfig, RewardConfig
from baselines.policy_gradient import Scorer, conversation, optimise, sample
from baselines.reward_model import RewardModel, fit
from baselines.sft import demonstrations
from harness.core.budget import Ledger
from harness.core.records import Instruction, Preference
from harness.core.spec import Adaptation
from harness.models.examples import TokenizedExample, tokenize
from harness.models.finetune import FinetuneConfig, finetune
from harness.models.student import Student
from harness.seeds import generator
from tasks.pool import MixedPool, MixedPoolConfig

FAMILIES = ["letter_counting", "syllogism", "needle_haystack", "isomorphic_strings", "chain_sum", "word_sequence_reversal"]
POOL = MixedPoolConfig.model_validate({"families": FAMILIES, "constraint_share": 0.2, "seed_demonstrations": 40})
MAX_NEW_TOKENS = 24


class Shuffled:
    """A reward that says nothing: another's, dealt at random within the batch."""

    def __init__(self, scorer: Scorer, rng: np.random.Generator) -> None:
        self.scorer, self.rng = scorer, rng

    def score(self, examples: Sequence[TokenizedExample]) -> torch.Tensor:
        """Rewards (B,) of the examples in a random order."""
        return self.scorer.score(examples)[torch.as_tensor(self.rng.permutation(len(examples)))]


def measured(
    student: Student, scorer: Scorer, pool: MixedPool, prompts: list[Instruction], ledger: Ledger, rng: np.random.Generator
) -> dict[str, float]:
    """Mean learned reward, share of replies that pass, and mean share of checks met."""
    with ledger.use_account("eval"):
        replies = [reply.text for (reply,) in sample(student, prompts, max_new_tokens=MAX_NEW_TOKENS, temperature=1.0, rng=rng, n=1)]
        examples = [tokenize(student, conversation(prompt), reply) for prompt, reply in zip(prompts, replies, strict=True)]
        reward = torch.cat([scorer.score(examples[start : start + 16]) for start in range(0, len(examples), 16)])
    found = [pool.verify(prompt, reply) for prompt, reply in zip(prompts, replies, strict=True)]
    return {
        "reward": float(reward.mean()),
        "passed": float(np.mean([one.passed for one in found])),
        "share": float(np.mean([one.share for one in found])),
    }


def one_seed(seed: int, arms: list[str], options: argparse.Namespace) -> list[dict]:
    """All arms from one warm start and one reward model."""
    ledger = Ledger(1e18)
    student = Student.load("smollm2-135m-instruct", adaptation=Adaptation(rank=16, alpha=32), seed=seed)
    student.attach(ledger)
    pool = MixedPool(POOL, ledger=ledger, rng=generator("rlhf", seed, "pool"), ngrams=frozenset())
    rng = generator("rlhf", seed)
    finetune(student, demonstrations(pool, rng, None), ledger, config=FinetuneConfig(), rng=rng, max_flops=options.warm_flops)
    labelled: list[Preference] = []
    while len(labelled) < options.pairs:
        drawn = pool.prompts(16, rng=rng)
        replies = sample(student, drawn, max_new_tokens=MAX_NEW_TOKENS, temperature=1.0, rng=rng, n=2)
        pairs = [(prompt, one.text, other.text) for prompt, (one, other) in zip(drawn, replies, strict=True)]
        labelled += pool.preferences([pair for pair in pairs if pair[1].strip() != pair[2].strip()], rng=rng)
    model = RewardModel(student, RewardConfig())
    model.attach(ledger)
    accuracy = fit(model, labelled, ledger, config=RewardConfig(), rng=rng).held_out_accuracy
    prompts = pool.prompts(options.prompts, rng=rng)
    start = [parameter.detach().clone() for parameter in student.trainable]
    before = measured(student, model, pool, prompts, ledger, generator("rlhf", seed, "before"))
    rows = []
    for arm in arms:
        with torch.no_grad():
            for parameter, old in zip(student.trainable, start, strict=True):
                parameter.copy_(old)
        own = Ledger(options.flops)
        student.attach(own)
        model.attach(own)
        scorer: Scorer = Shuffled(model, generator("rlhf", seed, "shuffle")) if arm == "shuffled" else model
        algorithm = "rloo" if arm == "shuffled" else arm
        config = OptimiseConfig(algorithm=algorithm, max_new_tokens=MAX_NEW_TOKENS, learning_rate=options.learning_rate)
        steps = optimise(student, scorer, pool, own, config=config, rng=generator("rlhf", seed, "optimise"))
        after = measured(student, model, pool, prompts, own, generator("rlhf", seed, "after"))
        if steps == 0:
            raise SystemExit(f"--flops {options.flops:g} does not pay for a step of {arm}")
        kl = [point.value for point in own.curves if point.curve == "rlhf_kl"][-1]
        rows.append({"seed": seed, "arm": arm, "steps": steps, "kl": kl, "accuracy": accuracy, "before": before, "after": after})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def table(rows: list[dict]) -> None:
    """Prints the margins of every arm."""
    print(f"{'arm':<9} {'measure':<7} {'before':>7} {'after - before [95 %]':>26}   steps  KL")
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        for measure in ("reward", "passed", "share"):
            gains = np.array([row["after"][measure] - row["before"][measure] for row in own])
            half = float(stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else float("nan")
            before = np.mean([row["before"][measure] for row in own])
            margin = f"{gains.mean():+.3f} [{gains.mean() - half:+.3f}, {gains.mean() + half:+.3f}]"
            steps, kl = (np.mean([row[key] for row in own]) for key in ("steps", "kl"))
            print(f"{arm:<9} {measure:<7} {before:7.3f} {margin:>26}   {steps:5.1f}  {kl:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arms", nargs="+", default=["rloo", "shuffled"], choices=["ppo", "rloo", "grpo", "shuffled"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--warm-flops", type=float, default=3e12)
    parser.add_argument("--flops", type=float, default=3e13)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=OptimiseConfig().learning_rate)
    options = parser.parse_args()
    rows: list[dict] = []
    for seed in range(options.seeds):
        rows += one_seed(seed, options.arms, options)
        options.out.write_text(json.dumps({"settings": {**vars(options), "out": options.out.name}, "rows": rows}, indent=1))
    table(rows)


if __name__ == "__main__":
    main()
