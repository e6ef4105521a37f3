"""What the harness costs a training step: TRL's SFTTrainer bare, the same with our meter attached, and our own fine-tuning.

    python benchmarks/training/overhead.py --pairs 20 --adaptation lora --out overhead-lora.json
    python benchmarks/training/overhead.py --pairs 10 --adaptation full --batch-size 4 --tokens 128 --out overhead-full.json

The three take turns on the same batches (in an order that changes every round), so that what else the machine does meets all of them.
A step is everything between two batches: for TRL collating, forward, backward, clipping, optimiser and scheduler; for ours tokenising,
pricing, the same, and the ledger's entries. Printed and written: medians with quartiles, and of the paired ratios too.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from trl_side import sft_trainer

from harness.core.budget import Ledger
from harness.core.spec import Adaptation
from harness.models.examples import tokenize, update_flops
from harness.models.finetune import FinetuneConfig, Trainer
from harness.models.meter import meter
from harness.models.student import Student
from selfteach.grpo_lm.quiet import quietly

LEARNING_RATE = 1e-4
VARIANTS = ("bare TRL", "TRL, metered", "ours")


@dataclass
class Timed:
    """Seconds of each step, one list per variant."""

    seconds: dict[str, list[float]]

    def summary(self) -> dict[str, Any]:
        """Median and quartiles of the seconds, and of each variant's paired ratio to bare TRL less one."""
        bare = np.array(self.seconds[VARIANTS[0]])
        found: dict[str, Any] = {}
        for name, values in self.seconds.items():
            found[name] = {"seconds": _quartiles(np.array(values)), "overhead": _quartiles(np.array(values) / bare - 1)}
        return found


def _quartiles(values: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "q1": float(low), "q3": float(high)}


def conversations(student: Student, rows: int, tokens: int, seed: int) -> list[tuple[list[dict[str, str]], str]]:
    """Random words, so that an example has about `tokens` tokens, the last quarter of them the response."""
    rng = np.random.default_rng(seed)
    words = ["apple", "river", "seven", "stone", "quiet", "paper", "green", "light", "house", "cloud"]
    empty = len(tokenize(student, [{"role": "user", "content": ""}], "").ids)
    made = []
    for _ in range(rows):
        text = rng.choice(words, max(tokens - empty, 8))
        cut = 3 * len(text) // 4
        made.append(([{"role": "user", "content": " ".join(text[:cut])}], " ".join(text[cut:])))
    return made


def trl_step(student: Student, batches: list[Any], out: Path) -> Callable[[int], None]:
    """One step of TRL's own loop, unrolled: what `Trainer._inner_training_loop` does between two batches."""
    trainer, _ = sft_trainer(student, batches, [LEARNING_RATE] * len(batches), out)
    trainer.model.train()
    model, optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    trainer.current_gradient_accumulation_steps = 1
    size = len(batches[0])
    rows = [trainer.train_dataset[index] for index in range(len(trainer.train_dataset))]

    def step(index: int) -> None:
        inputs = trainer.data_collator(rows[index * size : (index + 1) * size])
        count = (inputs["labels"] != -100).sum()
        trainer.training_step(model, inputs, num_items_in_batch=count)
        trainer.accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        trainer.lr_scheduler.step()
        model.zero_grad()

    return step


def our_step(student: Student, texts: list[Any]) -> Callable[[int], None]:
    """One turn of `finetune`'s loop."""
    ledger = Ledger(1e18)
    student.attach(ledger)
    size = len(texts[0])
    trainer = Trainer(student, FinetuneConfig(batch_size=size, learning_rate=LEARNING_RATE, max_tokens=4096))
    student.model.train()

    def step(index: int) -> None:
        batch = [tokenize(student, conversation, response) for conversation, response in texts[index]]
        assert update_flops(student, batch, trainer.layout) < ledger.remaining()
        loss = trainer.step(batch, spent_share=0.1)
        assert loss is not None
        student.trained_on.update((example.text, None) for example in batch if example.text is not None)
        ledger.observe("loss", loss)

    return step


def measure(arguments: argparse.Namespace) -> Timed:
    """Warms up, then takes turns."""
    students = [
        Student.load(arguments.model, adaptation=Adaptation(kind=arguments.adaptation), seed=0, device=torch.device(arguments.device))
        for _ in VARIANTS
    ]
    rounds = arguments.warmup + arguments.pairs
    texts = [conversations(students[0], arguments.batch_size, arguments.tokens, seed) for seed in range(rounds)]
    batches = [[tokenize(students[0], *example) for example in batch] for batch in texts]
    timed: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with TemporaryDirectory() as out, quietly():
        steps = [trl_step(student, batches, Path(out)) for student in students[:2]]
        meter(students[1].model, "metered", Ledger(1e18))
        steps.append(our_step(students[2], texts))
        for index in range(rounds):
            for place in np.roll(range(len(VARIANTS)), index):
                _wait(arguments.device)
                started = time.perf_counter()
                steps[place](index)
                _wait(arguments.device)
                if index >= arguments.warmup:
                    timed[VARIANTS[place]].append(time.perf_counter() - started)
    return Timed(timed)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measures, prints a table and writes everything to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--adaptation", choices=("lora", "full"), default="lora")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    timed = measure(arguments)
    summary = timed.summary()
    setting = {key: str(value) for key, value in vars(arguments).items() if key != "out"}
    setting |= {"torch": torch.__version__, "threads": str(torch.get_num_threads()), "machine": platform.processor() or platform.machine()}
    shape = f"{arguments.batch_size} x {arguments.tokens} tokens"
    print(f"{arguments.adaptation}, {shape}, n = {arguments.pairs} rounds, {setting['threads']} threads")
    for name, found in summary.items():
        seconds, overhead = found["seconds"], found["overhead"]
        print(
            f"{name:14} {seconds['median']:8.3f} s [{seconds['q1']:.3f}, {seconds['q3']:.3f}]"
            f"   {overhead['median']:+7.2%} [{overhead['q1']:+.2%}, {overhead['q3']:+.2%}]"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps({"setting": setting, "summary": summary, "seconds": timed.seconds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
