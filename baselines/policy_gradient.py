"""Policy optimisation against a reward with a KL penalty to a frozen reference: PPO, RLOO and GRPO in one readable loop.

A step samples k replies to each of P prompts, scores them, and updates the student on the tokens that were sampled:

- `rloo` (Ahmadian et al. 2024, arXiv 2402.14740): advantage = penalised reward minus the mean of the siblings'; one on-policy gradient.
- `ppo` (Schulman et al. 2017, arXiv 1707.06347, as Ziegler et al. 2019, arXiv 1909.08593, use it): a value head on the policy's own last
  hidden states, generalised advantages (whitened) of per-token rewards, clipped surrogate and value loss, several epochs over a batch.
- `grpo` (Shao et al. 2024, arXiv 2402.03300): rewards normalised within the group, clipped surrogate, KL in the loss by its positive
  estimate. Differs: the mean is over all tokens of the batch and not over each reply first, which would favour long wrong replies.

`rloo` and `ppo` subtract the KL from the reward, by its sampled estimate log(policy / reference): per reply, and per token.

The loop is ours for all three: TRL 1.16 has no PPOTrainer (its last stood in `trl.experimental` up to 1.12, which would be a second TRL
beside the one that everything else uses), its RLOO and GRPO evaluate the output head at every position without Triton and make a forward of
their own for old log-probabilities, which the first epoch's forward gives for nothing, and none can stop inside a budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

from baselines.config import OptimiseConfig
from baselines.logprobs import MicroBatches, Parts, frozen_parts, token_logprobs
from baselines.objectives import Rollout, Targets, make_targets, token_losses
from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Completion, Instruction, Message
from harness.errors import BudgetExceeded, TrainingError
from harness.models.examples import TokenizedExample, tokenize
from harness.models.meter import meter
from harness.models.student import Student


class Scorer(Protocol):
    """What rates replies: a reward model, or a stand-in for one."""

    def score(self, examples: Sequence[TokenizedExample]) -> torch.Tensor:
        """Rewards (B,) of tokenised (conversation, reply) examples, without gradients."""
        ...


def conversation(instruction: Instruction) -> list[Message]:
    """The instruction as the only turn."""
    return [{"role": "user", "content": instruction.text}]


def sample(
    student: Student, prompts: Sequence[Instruction], *, max_new_tokens: int, temperature: float, rng: np.random.Generator, n: int
) -> list[list[Completion]]:
    """`n` replies to each prompt."""
    return student.generate(
        [conversation(prompt) for prompt in prompts],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        n=n,
        seed=int(rng.integers(2**31)),
    )


def as_sampled(student: Student, prompt: Instruction, reply: Completion) -> TokenizedExample:
    """Prompt and the very tokens that were sampled: read anew, a text may split into others. One cut off by the limit has no end token."""
    assert reply.ids, "the engine does not tell which tokens it sampled"
    rendered = student.render(conversation(prompt))
    before = student.encode(rendered)
    return TokenizedExample((*before, *reply.ids), len(before), (rendered, reply.text))


def optimise(student: Student, scorer: Scorer, pool: TaskPool, ledger: Ledger, *, config: OptimiseConfig, rng: np.random.Generator) -> int:
    """Steps while the next, at the price of the dearest so far, fits the budget; fewer prompts at the end. Returns the steps done.

    Raises:
        TrainingError: reward, loss or gradient are not finite, or memory does not hold one reply.
    """
    learner = Learner(student, scorer, ledger, config)
    steps, dearest_prompt = 0, 0.0
    while True:
        n_prompts = config.prompts_per_step
        if dearest_prompt:
            n_prompts = min(n_prompts, int(ledger.remaining() / dearest_prompt))
        if n_prompts == 0:
            return steps
        before = ledger.spent(ledger.account)
        try:
            learner.step(pool.prompts(n_prompts, rng=rng), rng=rng)
        except BudgetExceeded:
            learner.optimizer.zero_grad()
            return steps
        steps += 1
        dearest_prompt = max(dearest_prompt, (ledger.spent(ledger.account) - before) / n_prompts)


class Learner:
    """Policy, reference, value head and optimiser of one run."""

    def __init__(self, student: Student, scorer: Scorer, ledger: Ledger, config: OptimiseConfig) -> None:
        self.student, self.scorer, self.ledger, self.config = student, scorer, ledger, config
        self.reference: Parts = frozen_parts(student, ledger, "reference")
        self.value_head = _value_head(student, ledger) if config.algorithm == "ppo" else None
        self.trained = [*student.trainable, *(self.value_head.parameters() if self.value_head else ())]
        self.optimizer = torch.optim.AdamW(self.trained, lr=config.learning_rate, weight_decay=0.0)
        self.batches = MicroBatches(ledger)

    def step(self, prompts: Sequence[Instruction], *, rng: np.random.Generator) -> None:
        """One batch: sample, reward, reference, and the algorithm's updates, each charged to its phase."""
        rollout = self._sampled(prompts, rng)
        self.student.trained_on.update((example.text, None) for example in rollout.examples if example.text is not None)
        with self.ledger.use_phase("update"):
            self.student.model.train()
            kl_R = self._update(rollout)
            self.student.model.eval()
        self.ledger.observe("rlhf_reward", float(rollout.reward_B.mean()))
        self.ledger.observe("rlhf_kl", float(kl_R.sum()) / len(rollout.examples))

    def _sampled(self, prompts: Sequence[Instruction], rng: np.random.Generator) -> Rollout:
        config, student = self.config, self.student
        with self.ledger.use_phase("generate"):
            replies_P_k = sample(
                student,
                prompts,
                max_new_tokens=config.max_new_tokens,
                temperature=config.temperature,
                rng=rng,
                n=config.samples_per_prompt,
            )
        pairs = [(prompt, reply) for prompt, replies in zip(prompts, replies_P_k, strict=True) for reply in replies]
        examples = [as_sampled(student, prompt, reply) for prompt, reply in pairs]
        # Whole, as the pairs were that the model learnt from: at a token other than the last its features mean nothing.
        ended = [tokenize(student, conversation(prompt), reply.text) for prompt, reply in pairs]
        with self.ledger.use_phase("reward"):
            reward_B = self.batches.attempt(lambda: torch.cat([self.scorer.score(part) for part in self.batches.split(ended)]), len(ended))
        if not bool(torch.isfinite(reward_B).all()):
            raise TrainingError(f"the reward of {int((~torch.isfinite(reward_B)).sum())} of {len(reward_B)} replies is not finite")
        with self.ledger.use_phase("reference"), torch.no_grad():
            reference_R, _ = self._logprobs(examples, reference=self.reference)
        return Rollout(examples, len(prompts), reward_B, reference_R)

    def _logprobs(self, examples: list[TokenizedExample], *, reference: Parts | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and values (R,) of all examples, in micro-batches; values are empty without a value head, or by a reference."""
        head = None if reference else self.value_head

        def compute() -> tuple[torch.Tensor, torch.Tensor]:
            parts = [
                token_logprobs(self.student, part, temperature=self.config.temperature, reference=reference, value_head=head)
                for part in self.batches.split(examples)
            ]
            values = [value_R for _, value_R in parts if value_R is not None]
            return torch.cat([logprob_R for logprob_R, _ in parts]), torch.cat(values) if values else torch.empty(0)

        return self.batches.attempt(compute, len(examples))

    def _update(self, rollout: Rollout) -> torch.Tensor:
        """All epochs on one batch; returns the sampled KL (R,) at its start."""
        epochs = {"ppo": self.config.ppo.epochs, "grpo": self.config.grpo.epochs, "rloo": 1}[self.config.algorithm]
        targets: Targets | None = None
        for _ in range(epochs):
            targets = self.batches.attempt(lambda: self._gradients(rollout, targets), len(rollout.examples))  # noqa: B023
            norm = float(nn.utils.clip_grad_norm_(self.trained, self.config.max_grad_norm))
            self._check_finite("gradient's norm", norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        assert targets is not None
        return targets.kl_R

    def _gradients(self, rollout: Rollout, targets: Targets | None) -> Targets:
        """Adds the gradient of the batch's loss, a mean over all its tokens, and returns what the tokens are trained towards.

        In the first epoch (`targets` is None) that is computed here: from the same forward when the batch is computed whole, from one
        more without gradients when memory makes it come in parts, since advantages depend on all of them.
        """
        self.optimizer.zero_grad()
        parts = self.batches.split(rollout.examples)
        if targets is None and len(parts) > 1:
            with torch.no_grad():
                targets = make_targets(self.config, rollout, *self._logprobs(rollout.examples))
        total, start = sum(rollout.counts), 0
        for part in parts:
            head, temperature = self.value_head, self.config.temperature
            logprob_R, value_R = token_logprobs(self.student, part, temperature=temperature, value_head=head)
            if targets is None:
                values = value_R.detach() if value_R is not None else torch.empty(0)
                targets = make_targets(self.config, rollout, logprob_R.detach(), values)
            tokens = slice(start, start + len(logprob_R))
            start = tokens.stop
            loss = token_losses(self.config, logprob_R, value_R, targets.of(tokens)).sum() / total
            self._check_finite("loss", float(loss.detach()))
            loss.backward()  # type: ignore[no-untyped-call]
        assert targets is not None
        return targets

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            rate = self.config.learning_rate
            advice = f"at learning_rate {rate:g}: lower it, to {rate / 3:.1g} for a start"
            raise TrainingError(f"{self.config.algorithm} diverged: its {what} became {value} {advice}")


def _value_head(student: Student, ledger: Ledger) -> nn.Module:
    """A linear head that starts at value 0 everywhere, charged as "value head"."""
    head = nn.Linear(student.model.config.get_text_config().hidden_size, 1, device=student.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    meter(head, "value head", ledger)
    return head
