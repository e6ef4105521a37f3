"""Rollouts through vLLM against transformers: `python benchmarks/vllm/rollouts.py [--repeats 5] [--threads 2]` (needs `make vllm`).

One process measures all three, in turn within every repeat: the vLLM engine, our transformers engine, and transformers' own `generate` on
one padded batch. Replies are sampled at temperature 1 until they end. Prints
- tokens of replies a second (median, lowest and highest over the repeats), one warming round before,
- seconds from an optimiser step's new weights to a reply's first token, adapters merged and reloaded,
- the share of greedy replies that are equal between the engines: a sanity check, because bf16 sums in another order part ways in time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from harness.core.spec import Adaptation
from harness.models.engines.vllm_install import require_vllm
from harness.models.generation import PLAIN_SAMPLING
from harness.models.student import Student

SUBJECTS = ("rain", "a lighthouse", "bread", "the number seven", "a train journey", "winter", "the ocean", "chess")
TASKS = ("Write a sentence about", "Name three facts about", "Ask a question about", "Explain to a child", "Write a short poem about",
         "Describe in ten words", "Make up a riddle about", "Give advice about")  # fmt: skip


def requests(student: Student, count: int) -> list[list[int]]:
    """Token ids of `count` different short instructions."""
    texts = [f"{task} {subject}, number {number}." for number in range(1, 99) for task in TASKS for subject in SUBJECTS][:count]
    return [student.encode(student.render([{"role": "user", "content": text}])) for text in texts]


def through_engine(student: Student, prompts: list[list[int]], new_tokens: int, temperature: float, seed: int) -> list[list[int]]:
    """One reply to each prompt by the student's engine."""
    replies = student.engine.generate_tokens(
        prompts, prefixes=[()] * len(prompts), n=1, max_new_tokens=new_tokens, temperature=temperature, seed=seed
    )
    return [reply for (reply,) in replies]


def plainly(student: Student, prompts: list[list[int]], new_tokens: int, temperature: float, seed: int) -> list[list[int]]:
    """One reply to each prompt by a single call of transformers' `generate`, padded on the left."""
    width = max(map(len, prompts))
    ids = torch.tensor([[student.pad_id] * (width - len(prompt)) + prompt for prompt in prompts], device=student.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=student.device)
    sampling = {"do_sample": True, "temperature": temperature, **PLAIN_SAMPLING} if temperature else {"do_sample": False}
    torch.manual_seed(seed)
    student.model.eval()
    with student.autocast(), torch.inference_mode():
        whole = student.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            eos_token_id=student.eos_ids,
            pad_token_id=student.pad_id,
            **sampling,
        )
    replies = whole[:, width:].tolist()
    ends = [next((at + 1 for at, token in enumerate(reply) if token in student.eos_ids), new_tokens) for reply in replies]
    return [reply[:end] for reply, end in zip(replies, ends, strict=True)]


Roll = Callable[[int, float], list[list[int]]]


def rates(ways: dict[str, Roll], repeats: int) -> dict[str, list[float]]:
    """Tokens of replies a second, per way and repeat; the ways take turns and another begins each time."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        names = list(ways)
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            started = time.perf_counter()
            tokens = sum(map(len, ways[name](repeat, 1.0)))
            if repeat:
                found[name].append(tokens / (time.perf_counter() - started))
    return found


def update_to_token_s(student: Student, prompt: list[int], repeats: int) -> list[float]:
    """Seconds from changed weights to a reply's first token."""
    optimizer = torch.optim.AdamW(student.trainable, lr=1e-4)
    seconds = []
    for repeat in range(repeats + 1):
        for weight in student.trainable:
            weight.grad = torch.full_like(weight, 1e-3)
        optimizer.step()
        started = time.perf_counter()
        through_engine(student, [prompt], 1, 0.0, repeat)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def main() -> None:
    """Prints the figures; --json writes them with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--adaptation", choices=("lora", "full"), default="lora")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of torch here and of vLLM there")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    adaptation = Adaptation(kind=options.adaptation)
    ours = Student.load(options.model, adaptation=adaptation, seed=0)
    fast = Student.load(options.model, adaptation=adaptation, seed=0, engine="vllm")
    prompts = requests(ours, options.batch)
    started = time.perf_counter()
    through_engine(fast, prompts[:1], 1, 0.0, 0)
    start_s = time.perf_counter() - started
    ways: dict[str, Roll] = {
        "vllm": lambda seed, temperature: through_engine(fast, prompts, options.new_tokens, temperature, seed),
        "transformers (ours)": lambda seed, temperature: through_engine(ours, prompts, options.new_tokens, temperature, seed),
        "transformers.generate": lambda seed, temperature: plainly(ours, prompts, options.new_tokens, temperature, seed),
    }
    rate = rates(ways, options.repeats)
    greedy = {name: roll(0, 0.0) for name, roll in ways.items()}
    update_s = update_to_token_s(fast, prompts[0], options.repeats)
    fast.engine.close()

    medians = {name: statistics.median(values) for name, values in rate.items()}
    for name, values in rate.items():
        print(f"{name:22} {medians[name]:7.0f} tokens/s  ({min(values):.0f} to {max(values):.0f}, n={len(values)})")
    for name in ("transformers (ours)", "transformers.generate"):
        ratios = [a / b for a, b in zip(rate["vllm"], rate[name], strict=True)]
        equal = sum(a == b for a, b in zip(greedy["vllm"], greedy[name], strict=True))
        print(f"vllm / {name}: {statistics.median(ratios):.2f} (median of paired ratios); greedy replies equal: {equal} of {len(prompts)}")
    print(f"update to first token: {statistics.median(update_s):.2f} s (highest {max(update_s):.2f}, n={len(update_s)})")
    print(f"start of vLLM: {start_s:.0f} s")
    if options.json:
        versions = {"vllm": require_vllm().version, "torch": torch.__version__, "transformers": transformers.__version__}
        about = {
            **{key: str(value) for key, value in vars(options).items()},
            "device": str(fast.device),
            "machine": platform.machine(),
            **versions,
        }
        found = {"about": about, "tokens_per_s": rate, "update_to_token_s": update_s, "start_s": start_s, "greedy": greedy}
        options.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
