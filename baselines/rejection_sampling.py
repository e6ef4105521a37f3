"""Rejection sampling: best of n on the pool's own prompts, checked by rule, then fine-tuning on what passed.

After STaR (Zelikman et al. 2022, arXiv 2203.14465) and RAFT (Dong et al. 2023, arXiv 2304.06767). The first round samples from the student
before training, shown seeds of the same form; a later one from the student as trained so far, as RAFT does and unlike STaR, which starts
every round from the original weights. Of several verified responses the shortest is kept. Differs from STaR in having no
rationalisation: no method is shown the gold answer of a training prompt. The seeds' own demonstrations are trained on too, as in
every method that starts from them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from baselines.config import AnswersConfig
from baselines.replay import seed_examples
from harness.core.budget import Ledger
from harness.core.corpus import CORPUS, Row, write_rows
from harness.core.pool import TaskPool
from harness.errors import SpecError
from harness.models.finetune_config import FinetuneConfig

if TYPE_CHECKING:
    from baselines.answers import Answerer
    from harness.models.student import Student

OPERATION = "rejection_sampling"


class RejectionSamplingConfig(BaseModel):
    """Settings of rejection sampling."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rounds: int = Field(default=1, ge=1)
    """Rounds of sampling and fine-tuning; each gets an equal part of the budget."""
    sample_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of a round's budget for sampling; the rest fine-tunes."""
    prompts_per_batch: int = Field(default=8, ge=1)
    answers: AnswersConfig = AnswersConfig()
    finetune: FinetuneConfig = FinetuneConfig()


class RejectionSampling:
    """Self-training without self-made instructions."""

    name = "rejection_sampling"
    summary = "best of n on plain pool prompts, verified by rule, then supervised fine-tuning (STaR / RAFT)"
    Config = RejectionSamplingConfig
    grid: ClassVar[dict[str, list[float]]] = {"finetune.learning_rate": [3e-4, 1e-3], "sample_share": [0.3, 0.5]}

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: RejectionSamplingConfig, out: Path
    ) -> Student:
        """Trains in place; writes corpus.jsonl (every prompt that was answered) to `out`.

        Raises:
            SpecError: the pool's prompts have no verifier, nothing was verified, or the budget does not pay for one step.
        """
        from baselines.answers import Answerer
        from harness.models.finetune import finetune

        sample_rng, finetune_rng = rng.spawn(2)
        seeds = pool.seeds()
        answerer = Answerer(student, pool, ledger, seeds, config=config.answers)
        examples, rows, asked = seed_examples(seeds), list[Row](), set[str]()
        for round_index in range(config.rounds):
            budget = ledger.remaining() / (config.rounds - round_index)
            before = ledger.spent(ledger.account)
            if round_index:
                answerer.use_trained()
            made = _sample(answerer, config, config.sample_share * budget, asked, step=round_index, rng=sample_rng)
            rows += made
            examples += [([{"role": "user", "content": row["instruction"]}], row["response"]) for row in made if row["kept"]]
            write_rows(rows, out / CORPUS)
            _check_verified(rows, ledger)
            left = budget - (ledger.spent(ledger.account) - before)
            last = round_index == config.rounds - 1
            finetune(student, examples, ledger, config=config.finetune, rng=finetune_rng, max_flops=None if last else left, must_step=True)
        return student


def _sample(
    answerer: Answerer, config: RejectionSamplingConfig, max_flops: float, asked: set[str], *, step: int, rng: np.random.Generator
) -> list[Row]:
    """Answers prompts, none twice, until another batch is not expected to fit `max_flops`; returns a corpus row for each answer."""
    from baselines.answers import Origin

    ledger, rows = answerer.ledger, list[Row]()
    stop_at, size = ledger.spent(ledger.account) + max_flops, config.prompts_per_batch
    while size:
        prompts = {prompt.id: prompt for prompt in answerer.pool.prompts(size, rng=rng) if prompt.verifiable}
        if not prompts:
            raise SpecError("rejection_sampling needs prompts that a rule can check (constraints, a generator, an answer)", key="pool")
        fresh = [prompt for name, prompt in prompts.items() if name not in asked]
        if not fresh:
            break  # a small pool has no others
        answers = answerer.answer(fresh, max_flops=stop_at - ledger.spent(ledger.account), rng=rng)
        answered = [answer for answer in answers if answer is not None]
        asked.update(answer.instruction.id for answer in answered)
        for one in answered:
            rows.append(one.row(Origin(one.instruction, OPERATION, step)))
        if len(answered) < len(fresh):
            size = min(size, len(fresh)) // 2
    return rows


def _check_verified(rows: list[Row], ledger: Ledger) -> None:
    if any(row["kept"] for row in rows):
        return
    if not rows:
        raise SpecError("too small: it does not pay for one batch of samples", key="budget.train_flops", value=ledger.train_flops)
    reasons = sum((Counter(row["rejected_samples"]) for row in rows), Counter[str]())
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    raise SpecError(
        f"nothing to train on: no sample of {len(rows)} prompts was verified ({told}); raise the budget or answers.samples, or "
        "choose easier prompts in pool.config",
        key="budget.train_flops",
        value=ledger.train_flops,
    )
