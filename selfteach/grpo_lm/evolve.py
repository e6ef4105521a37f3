"""Evolving by a language model that writes the instructions and is trained by TRL's GRPO trainer as it goes.

What TRL does: advantages within groups of siblings, the clipped loss, the KL penalty, optimiser and loop. What is ours: replies are
sampled by harness.models.generation (TRL's own way computes every prompt once a sibling, and goes on with replies that have ended),
rewards come from the environment, every FLOP is charged, and no step is begun that the budget does not pay for.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOConfig as TrlConfig
from trl import GRPOTrainer

from harness.core.budget import Ledger
from harness.errors import BudgetExceeded
from harness.models.student import Student
from harness.models.tracking import hand_over
from selfteach.environment import Environment
from selfteach.evolve import BARREN_EPISODES, SPENT, Evolution
from selfteach.grpo_lm.config import GrpoConfig
from selfteach.grpo_lm.judge import EnvironmentJudge, Judge, Judgement
from selfteach.grpo_lm.quiet import quietly
from selfteach.grpo_lm.writer import Writer, Written

POLICY_FOLDER = "policy"
MARGIN = 1.1
"""A further step is expected to cost as much as the last one, give or take this."""
MOST_ROWS = 4
"""Sequences in one forward and backward of an update, which sums over several: a 135M model took 9 GB for 12 at once, 4.4 GB in
parts of 4."""
_ENDLESS = 1_000_000


def evolve_by_language(
    environment: Environment,
    student: Student,
    ledger: Ledger,
    *,
    config: GrpoConfig,
    max_flops: float,
    rng: np.random.Generator,
    out: Path,
) -> Evolution:
    """Evolves instructions until another step might cost more than is left of `max_flops`; the student stays as it is.

    Args:
        environment: with the operations of the language-model executor, and limits that let unverifiable instructions through; its own
            executor is not used.
        out: gets the policy's adapters, in the folder "policy".
    Never raises BudgetExceeded: what was made until then is returned.
    """
    writer_rng, loop_rng = rng.spawn(2)
    writer = Writer(student, ledger, rank=config.rank, rng=writer_rng)
    judge = EnvironmentJudge(environment, max_new_tokens=config.max_new_tokens)
    evolution = train_writer(writer, judge, ledger, config=config, max_flops=max_flops, rng=loop_rng, out=out)
    writer.student.save(out / POLICY_FOLDER)
    return evolution


def train_writer(
    writer: Writer,
    judge: Judge,
    ledger: Ledger,
    *,
    config: GrpoConfig,
    max_flops: float,
    rng: np.random.Generator,
    out: Path,
    max_updates: int = _ENDLESS,
) -> Evolution:
    """Trains `writer` in place on what `judge` asks and rewards, as far as `max_flops` and `max_updates` go."""
    assert np.isfinite(max_flops) or max_updates < _ENDLESS, "training needs a budget"
    out.mkdir(parents=True, exist_ok=True)
    trainer_seed = int(rng.integers(2**31))
    trackers = ledger.tracker.ready() if ledger.tracker is not None else []
    loop = _Loop(writer, judge, ledger, config, stop_at=ledger.spent(ledger.account) + max_flops, rng=rng)
    with quietly(), tempfile.TemporaryDirectory(dir=out, prefix="trainer-") as folder:
        trainer = GRPOTrainer(
            model=writer.student.model,
            reward_funcs=loop.reward,
            args=_arguments(writer.student, config, folder, seed=trainer_seed, max_steps=max_updates, report_to=trackers),
            # Rows only count the steps of an epoch: `loop.rollout` sets the prompts, which depend on what was written before.
            train_dataset=Dataset.from_dict({"prompt": [""] * config.parents}),
            processing_class=writer.student.tokenizer,
            callbacks=[loop],
            rollout_func=loop.rollout,
        )
        trainer.remove_callback(PrinterCallback)
        hand_over(trainer, ledger, "policy/")
        if config.kl_weight > 0:
            # TRL's copy of adapters that have no effect yet: the reference is the model without any, and costs less.
            writer.student.model.delete_adapter("ref")
        try:
            with ledger.use_phase("policy"):
                trainer.train()
        except _Stop:
            pass
        except BudgetExceeded as refusal:
            loop.evolution.ended = f"budget refused: {refusal}"
    writer.student.model.eval()
    loop.evolution.ended = loop.evolution.ended or "all updates done"
    return loop.evolution


def _arguments(student: Student, config: GrpoConfig, folder: str, *, seed: int, max_steps: int, report_to: list[str]) -> TrlConfig:
    """On-policy GRPO: one update for each batch of groups, which is sampled from the weights it then moves."""
    children = config.parents * config.group
    rows = max(rows for rows in range(1, MOST_ROWS + 1) if children % rows == 0)
    arguments = TrlConfig(
        output_dir=folder,
        per_device_train_batch_size=rows,
        num_generations=config.group,
        gradient_accumulation_steps=children // rows,
        max_completion_length=config.max_new_tokens,
        temperature=config.temperature,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        beta=config.kl_weight,
        max_steps=max_steps,
        seed=seed,
        optim="adamw_torch",
        disable_dropout=True,
        gradient_checkpointing=False,
        bf16=student.dtype == torch.bfloat16,
        use_cpu=student.device.type == "cpu",
        dataloader_pin_memory=student.device.type == "cuda",
        logging_strategy="steps",
        logging_steps=1,
        save_strategy="no",
        report_to=report_to,
        disable_tqdm=True,
        log_level="error",
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # or the trainer would spread one model over every GPU it sees, which GRPO refuses
    return arguments


class _Stop(Exception):
    """Ends TRL's loop in the middle of a step."""


class _Loop(TrainerCallback):  # type: ignore[misc]
    """What the trainer calls: before an update for replies and rewards, after it to note it and to stop in time."""

    def __init__(
        self, writer: Writer, judge: Judge, ledger: Ledger, config: GrpoConfig, *, stop_at: float, rng: np.random.Generator
    ) -> None:
        self.writer, self.judge, self.ledger, self.config, self.stop_at, self.rng = writer, judge, ledger, config, stop_at, rng
        self.evolution = Evolution()
        self._began_at = self._spent()
        self._last_flops: float | None = None
        self._barren = 0
        self._written: Written | None = None

    def rollout(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        """TRL's `rollout_func`: replies to the judge's prompts, siblings next to one another."""
        self._began_at = self._spent()
        config = self.config
        conversations = self.judge.prompts(config.parents, rng=self.rng)
        limits: dict[str, Any] = {"n": config.group, "max_new_tokens": config.max_new_tokens}
        reference = config.kl_weight > 0
        if self._last_flops is None:
            bound = self.writer.write_bound_flops(conversations, **limits)
            if bound + self.writer.update_bound_flops(conversations, **limits, reference=reference) > self._left():
                raise self._stopped(SPENT)
        with self.ledger.use_phase("execute"):
            written = self.writer.write(conversations, temperature=config.temperature, rng=self.rng, **limits)
        self.writer.student.model.train()
        self._written = written
        return {
            "prompt_ids": [prompt for prompt in written.prompts_P for _ in range(config.group)],
            "completion_ids": [reply for replies_G in written.replies_P_G for reply in replies_G],
            "logprobs": None,
        }

    def reward(self, completions: list[str], **_: Any) -> list[float]:
        """TRL's reward function: the judge's rewards of the last rollout, given that the update remains affordable."""
        written = self._written
        assert written is not None
        assert len(completions) == self.config.parents * self.config.group, len(completions)
        update_flops = self.writer.update_flops(len(completions), written.width, reference=self.config.kl_weight > 0)
        with self.ledger.use_phase("execute"):
            judgement = self.judge.judge(
                written.completions_P_G,
                update=self.evolution.updates + 1,
                max_flops=self._left() - update_flops,
                rng=self.rng,
            )
        self.evolution.entries += judgement.entries
        if not judgement.complete:
            raise self._stopped(SPENT)
        self._observe(judgement)
        self._barren = 0 if any(entry.reward.validity for entry in judgement.entries) else self._barren + 1
        return [float(reward) for reward in judgement.rewards_P_G.reshape(-1)]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Counts the update, and stops where another step would not be affordable or nothing survives any more."""
        self.evolution.updates += 1
        self._last_flops = self._spent() - self._began_at
        if self._left() < MARGIN * self._last_flops:
            self.evolution.ended = SPENT
        elif self._barren >= BARREN_EPISODES:
            self.evolution.ended = f"no instruction survived {BARREN_EPISODES} episodes in a row"
        if self.evolution.ended:
            control.should_training_stop = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any) -> None:
        """Adds TRL's statistics of an update to the curves."""
        for name in ("kl", "entropy", "grad_norm"):
            if name in logs:
                self.ledger.observe(f"policy {name}", logs[name])

    def _observe(self, judgement: Judgement) -> None:
        """The curves of selfteach.evolve, over the children of one step."""
        self.ledger.observe("reward", float(judgement.rewards_P_G.mean()))
        valid = [entry for entry in judgement.entries if entry.reward.validity]
        answered = [entry for entry in judgement.entries if entry.pass_rate is not None]
        if judgement.entries:
            self.ledger.observe("validity", len(valid) / len(judgement.entries))
        _observe_mean(self.ledger, "novelty", [entry.reward.novelty for entry in valid])
        _observe_mean(self.ledger, "learnability", [entry.reward.learnability for entry in answered])
        _observe_mean(self.ledger, "pass_rate", [entry.pass_rate for entry in answered if entry.pass_rate is not None])
        self.ledger.observe("corpus size", sum(entry.kept for entry in self.evolution.entries))

    def _stopped(self, reason: str) -> _Stop:
        self.evolution.ended = reason
        return _Stop(reason)

    def _left(self) -> float:
        return self.stop_at - self._spent()

    def _spent(self) -> float:
        return self.ledger.spent(self.ledger.account)


def _observe_mean(ledger: Ledger, curve: str, values: list[float]) -> None:
    if values:
        ledger.observe(curve, float(np.mean(values)))
