"""Scoring time and memory of selfteach's engine against lm-eval's Hugging Face backend at its best batch size, on the same machine.

Every measurement is a process of its own: it loads the model, builds the task's requests, then times the scoring alone. Runs of a pair
follow each other directly, in alternating order; the ratio is theirs. README.md has the commands.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TASKS = Path(__file__).resolve().parents[2] / "tasks" / "lm_eval"
GOALS = {"openbookqa": 2.5, "mmlu_5shot": 4.0}


def main(arguments: list[str] | None = None, *, device: str = "cpu", dtype: str = "float32", batch_sizes: str = "1,4,8,16,32") -> None:
    """Runs the benchmark; the keywords are defaults of options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--device", default=device)
    parser.add_argument("--dtype", default=dtype, help="of both sides")
    parser.add_argument("--batch-sizes", default=batch_sizes, help="of the rival; the fastest is used")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--goals", default="openbookqa=150,mmlu_5shot=24", help="task=items, measured --pairs times")
    parser.add_argument("--sweep-items", type=int, default=0, help="items of the sweep over batch sizes; 0: a third of the task's")
    parser.add_argument("--suites", default="", help="task=items or suite=items, each task measured once; `all=N` is every task of ours")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        print("RESULT " + json.dumps(_worker(json.loads(options.worker))))
        return
    rows = [_task(options, name, items, options.pairs) for name, items in _named(options.goals)]
    rows += [_task(options, name, items, 1) for name, items in _expanded(options.suites)]
    about = {"model": options.model, "device": options.device, "dtype": options.dtype, "threads": options.threads, "rows": rows}
    print(_table(rows))
    if options.out:
        options.out.write_text(json.dumps(about, indent=1) + "\n")


def _named(text: str) -> list[tuple[str, int]]:
    return [(part.partition("=")[0], int(part.partition("=")[2])) for part in text.split(",") if part]


def _expanded(text: str) -> list[tuple[str, int]]:
    """Suites and `all` as their tasks."""
    from importlib.metadata import entry_points

    suites = {entry.name: entry for entry in entry_points(group="selfteach.suites")}
    found: dict[str, int] = {}
    for name, items in _named(text):
        chosen = list(suites) if name == "all" else [name] if name in suites else []
        tasks = [task.name for suite in chosen for task in suites[suite].load().tasks if (TASKS / f"{task.name}.yaml").exists()]
        found |= dict.fromkeys(tasks if chosen else [name], items)
    return list(found.items())


def _task(options: argparse.Namespace, task: str, items: int, pairs: int) -> dict[str, Any]:
    sweep_items = min(items, options.sweep_items or max(4, items // 3))
    sizes = [int(size) for size in options.batch_sizes.split(",")]
    sweep = {size: _measured(options, task, sweep_items, size)["wall_s"] for size in sizes}
    best = min(sweep, key=lambda size: sweep[size])
    print(f"{task}: rival's seconds by batch size at {sweep_items} items: {sweep}; taken: {best}", flush=True)
    runs = []
    for pair in range(pairs):
        sides = [best, 0] if pair % 2 == 0 else [0, best]
        found = {size: _measured(options, task, items, size) for size in sides}
        runs.append((found[best], found[0]))
        print(
            f"  {found[best]['wall_s']:.2f} s / {found[0]['wall_s']:.2f} s = {found[best]['wall_s'] / found[0]['wall_s']:.2f}", flush=True
        )
    ratios = sorted(rival["wall_s"] / ours["wall_s"] for rival, ours in runs)
    return {
        "task": task, "items": items, "requests": runs[0][0]["requests"], "kind": runs[0][0]["kind"], "batch_size": best, "sweep_s": sweep,
        "ratio": statistics.median(ratios), "ratios": ratios, "goal": GOALS.get(task, 1.0),
        "rival_s": statistics.median(rival["wall_s"] for rival, _ in runs), "ours_s": statistics.median(ours["wall_s"] for _, ours in runs),
        "rival_peak_mb": max(rival["peak_mb"] for rival, _ in runs), "ours_peak_mb": max(ours["peak_mb"] for _, ours in runs),
    }  # fmt: skip


def _measured(options: argparse.Namespace, task: str, items: int, batch_size: int) -> dict[str, Any]:
    """One process; batch size 0 is our engine."""
    order = {
        "model": options.model, "device": options.device, "dtype": options.dtype, "task": task, "items": items, "batch_size": batch_size,
        "threads": options.threads,
    }  # fmt: skip
    environment = os.environ | {
        "OMP_NUM_THREADS": str(options.threads),
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", json.dumps(order)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    answer = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if answer is None:
        raise SystemExit(f"{task} with batch size {batch_size} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(answer.removeprefix("RESULT "))
    return found


def _worker(order: dict[str, Any]) -> dict[str, Any]:
    import logging

    logging.disable(logging.WARNING)
    import torch
    from lm_eval.tasks import TaskManager

    torch.set_num_threads(order["threads"])
    lm = _model(order)
    task = TaskManager(include_path=str(TASKS), include_defaults=False).load([order["task"]])["tasks"][order["task"]]
    task.set_fewshot_seed(1234)
    chat = {"apply_chat_template": True, "chat_template": lm.apply_chat_template} if task.OUTPUT_TYPE == "generate_until" else {}
    task.build_all_requests(limit=order["items"], rank=0, world_size=1, tokenizer_name=lm.tokenizer_name if chat else "", **chat)
    requests = task.instances
    method = "loglikelihood" if task.OUTPUT_TYPE == "multiple_choice" else task.OUTPUT_TYPE
    if order["device"].startswith("cuda"):
        torch.cuda.synchronize()
    started = time.perf_counter()
    getattr(lm, method)(requests, disable_tqdm=True)
    wall_s = time.perf_counter() - started
    on_gpu = order["device"].startswith("cuda")
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"wall_s": wall_s, "peak_mb": peak / 2**20, "requests": len(requests), "kind": method}


def _model(order: dict[str, Any]) -> Any:
    from harness.models.sources import resolve

    if order["batch_size"] == 0:
        from harness.scoring.selfteach_lm import SelfteachLM

        return SelfteachLM(order["model"], dtype=order["dtype"], device=order["device"])
    from lm_eval.models.huggingface import HFLM

    return HFLM(str(resolve(order["model"])), dtype=order["dtype"], device=order["device"], batch_size=order["batch_size"])


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| task | items | requests | rival (batch) s | ours s | ratio (range) | goal | peak MB rival / ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["ratios"][0], row["ratios"][-1]
        cells = (
            row["task"], row["items"], f"{row['requests']} {row['kind']}", f"{row['rival_s']:.2f} ({row['batch_size']})",
            f"{row['ours_s']:.2f}", f"{row['ratio']:.2f} ({low:.2f}-{high:.2f}, n={len(row['ratios'])})", row["goal"],
            f"{row['rival_peak_mb']:.0f} / {row['ours_peak_mb']:.0f}",
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
