"""RLHF: SFT warm start, Bradley-Terry reward model on annotators' preferences, policy optimisation against it with a KL penalty.

The optimiser is RLOO (Ahmadian et al. 2024, arXiv 2402.14740): k samples a prompt, each sample's advantage is its reward minus the mean
of the others', one on-policy REINFORCE step a batch. The reward is r_phi(x, y) - beta * KL(policy || warm start), the KL by its sampled
estimate. What is left of the budget after the last step that fits is spent on supervised steps (the mixing of Ouyang et al. 2022, "ptx").

The loop is ours and not TRL's RLOOTrainer: TRL evaluates the output head at every position without Triton, makes one more forward for
the old log-probabilities (equal to the new ones when on-policy), and cannot stop inside a budget.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from baselines.reward_model import RewardConfig, RewardModel, fit, pair_flops
from baselines.sft import Example, demonstrations
from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Completion, Instruction, Message, Preference
from harness.errors import BudgetExceeded
from harness.models.finetune import FinetuneConfig, TokenizedExample, finetune, padded, response_logits, tokenize
from harness.models.meter import meter
from harness.models.student import Student


class RLHFConfig(BaseModel):
    """Settings of RLHF. Shares are of the whole budget; policy optimisation gets what the other parts leave."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    warm_share: float = Field(default=0.4, gt=0, lt=1)
    preference_share: float = Field(default=0.2, gt=0, lt=1)
    """Sampling the pairs and training the reward model."""
    demonstrations: int | None = Field(default=None, ge=1)
    prompts_per_step: int = Field(default=4, ge=1)
    samples_per_prompt: int = Field(default=4, ge=2)
    max_new_tokens: int = Field(default=48, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    kl_coefficient: float = Field(default=0.05, ge=0)
    learning_rate: float = Field(default=3e-4, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    reward: RewardConfig = RewardConfig()
    finetune: FinetuneConfig = FinetuneConfig()

    @model_validator(mode="after")
    def _something_left_to_optimise(self) -> RLHFConfig:
        if self.warm_share + self.preference_share >= 1:
            raise ValueError("warm_share and preference_share must leave a share of the budget for policy optimisation")
        return self


class RLHF:
    """The method that self-teaching claims to make unnecessary."""

    name = "rlhf"
    summary = "SFT warm start, reward model on simulated annotators' preferences, RLOO against it with a KL penalty"
    Config = RLHFConfig

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: RLHFConfig, out: Path
    ) -> Student:
        """Trains in place; writes reward_model.json (pairs, held-out accuracy) to `out`."""
        budget = ledger.remaining()
        data_rng, sample_rng, reward_rng = rng.spawn(3)
        examples = demonstrations(pool, data_rng, config.demonstrations)
        bought: list[Example] = examples if isinstance(examples, list) else []
        source = examples if isinstance(examples, list) else _remembered(examples, bought)
        finetune(student, source, ledger, config=config.finetune, rng=data_rng, max_flops=config.warm_share * budget)
        preferences = collect_preferences(student, pool, ledger, max_flops=config.preference_share * budget, config=config, rng=sample_rng)
        reward_model = RewardModel(student, train_body=config.reward.train_body)
        reward_model.attach(ledger)
        found = fit(reward_model, preferences, ledger, config=config.reward, rng=reward_rng)
        (out / "reward_model.json").write_text(json.dumps(vars(found), indent=1) + "\n")
        optimise(student, reward_model, pool, ledger, config=config, rng=sample_rng)
        finetune(student, bought, ledger, config=_last_step(config), rng=data_rng, curve="ptx_loss")
        return student


def _remembered(examples: Iterable[Example], into: list[Example]) -> Iterator[Example]:
    for example in examples:
        into.append(example)
        yield example


def _last_step(config: RLHFConfig) -> FinetuneConfig:
    """The remainder is trained at a tenth of the warm start's rate: it tops up the spend and is not another stage."""
    return config.finetune.model_copy(update={"learning_rate": config.finetune.learning_rate / 10})


def _conversation(instruction: Instruction) -> list[Message]:
    return [{"role": "user", "content": instruction.text}]


def collect_preferences(
    student: Student, pool: TaskPool, ledger: Ledger, *, max_flops: float, config: RLHFConfig, rng: np.random.Generator
) -> list[Preference]:
    """Samples two responses to fresh prompts and has differing ones compared, until reward-model training on them would use up `max_flops`.

    Raises:
        BudgetExceeded: `max_flops` do not pay for two pairs.
    """
    assert student.meter is not None
    started_at = ledger.spent(ledger.account)
    preferences: list[Preference] = []
    training = 0.0
    while True:
        used = ledger.spent(ledger.account) - started_at
        per_pair = (used + training) / max(len(preferences), 1)
        if used + training + config.reward.batch_size * per_pair > max_flops and preferences:
            break
        prompts = pool.prompts(config.reward.batch_size, rng=rng)
        with ledger.use_phase("generate"):
            replies = _sample(student, prompts, config, rng, n=2)
        pairs = [
            (prompt, first.text, second.text) for prompt, (first, second) in zip(prompts, replies, strict=True) if first.text != second.text
        ]
        labelled = pool.preferences(pairs, rng=rng)
        preferences += labelled
        for preference in labelled:
            both = [tokenize(student, _conversation(preference.instruction), text) for text in (preference.chosen, preference.rejected)]
            training += pair_flops(student, both, config.reward)
        if not preferences and ledger.spent(ledger.account) - started_at > max_flops:
            break
    if len(preferences) < 2:
        raise BudgetExceeded(
            f"{max_flops:.3g} FLOPs (preference_share of the budget) do not pay for two preference pairs: raise the budget"
        )
    return preferences


def _sample(
    student: Student, prompts: list[Instruction], config: RLHFConfig, rng: np.random.Generator, *, n: int
) -> list[list[Completion]]:
    return student.generate(
        [_conversation(prompt) for prompt in prompts],
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        n=n,
        seed=int(rng.integers(2**31)),
    )


def optimise(
    student: Student, reward_model: RewardModel, pool: TaskPool, ledger: Ledger, *, config: RLHFConfig, rng: np.random.Generator
) -> int:
    """RLOO steps while the next, at the price of the dearest so far, fits the budget; fewer prompts at the end. Returns the steps done."""
    reference = student.frozen_body(), student.frozen_head()
    for part in reference:
        if part is not student.model.get_output_embeddings():  # that one is metered with the student
            meter(part, "reference", ledger)
    optimizer = torch.optim.AdamW(student.trainable, lr=config.learning_rate, weight_decay=0.0)
    steps, dearest_prompt = 0, 0.0
    while True:
        n_prompts = config.prompts_per_step
        if dearest_prompt:
            n_prompts = min(n_prompts, int(ledger.remaining() / dearest_prompt))
        if n_prompts == 0:
            return steps
        before = ledger.spent(ledger.account)
        try:
            _rloo_step(student, reference, reward_model, optimizer, pool.prompts(n_prompts, rng=rng), ledger, config, rng)
        except BudgetExceeded:
            optimizer.zero_grad()
            return steps
        steps += 1
        dearest_prompt = max(dearest_prompt, (ledger.spent(ledger.account) - before) / n_prompts)


def _rloo_step(
    student: Student,
    reference: tuple[nn.Module, nn.Module],
    reward_model: RewardModel,
    optimizer: torch.optim.Optimizer,
    prompts: list[Instruction],
    ledger: Ledger,
    config: RLHFConfig,
    rng: np.random.Generator,
) -> None:
    """One batch: sample, reward, KL to the reference, leave-one-out advantages, one gradient step."""
    with ledger.use_phase("generate"):
        replies_P_k = _sample(student, prompts, config, rng, n=config.samples_per_prompt)
    examples = [_sampled(student, prompt, reply) for prompt, replies in zip(prompts, replies_P_k, strict=True) for reply in replies]
    with ledger.use_phase("reward"):
        # Whole, as the pairs were that the model learnt from: at a token other than the last its features mean nothing.
        ended = [
            tokenize(student, _conversation(prompt), reply.text)
            for prompt, replies in zip(prompts, replies_P_k, strict=True)
            for reply in replies
        ]
        reward_B = reward_model.score(ended)
    with ledger.use_phase("reference"), torch.no_grad():
        reference_R, _ = _token_logprobs(student, examples, config.temperature, reference=reference)
    with ledger.use_phase("update"):
        student.model.train()
        logprob_R, row_R = _token_logprobs(student, examples, config.temperature)
        kl_B = torch.zeros_like(reward_B).index_add(0, row_R, logprob_R.detach() - reference_R)
        penalised_P_k = (reward_B - config.kl_coefficient * kl_B).view(len(prompts), -1)
        k = penalised_P_k.shape[1]
        advantage_B = ((penalised_P_k - penalised_P_k.mean(1, keepdim=True)) * k / (k - 1)).flatten()
        loss = -(advantage_B[row_R] * logprob_R).sum() / len(row_R)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.trainable, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    ledger.observe("rlhf_reward", float(reward_B.mean()))
    ledger.observe("rlhf_kl", float(kl_B.mean()))


def _sampled(student: Student, prompt: Instruction, reply: Completion) -> TokenizedExample:
    """The reply as an example; one cut off at the token limit gets no end token, since the policy did not choose one."""
    example = tokenize(student, _conversation(prompt), reply.text)
    return example if reply.finished else TokenizedExample(example.ids[:-1], min(example.prompt_tokens, len(example.ids) - 2))


def _token_logprobs(
    student: Student, examples: list[TokenizedExample], temperature: float, *, reference: tuple[nn.Module, nn.Module] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (R,), at the sampling temperature, of all response tokens and the row (R,) each belongs to.

    By the student, or by a reference's (body, head).
    """
    ids_B_T, mask_B_T, target_B_T = padded(examples, student.pad_id, student.device)
    labels_R = ids_B_T.roll(-1, dims=1)[target_B_T]
    with student.autocast():
        logits_R_V = response_logits(student, ids_B_T, mask_B_T, target_B_T, reference=reference)
    logprob_R = torch.log_softmax(logits_R_V / temperature, -1).gather(1, labels_R[:, None])[:, 0]
    return logprob_R, target_B_T.nonzero()[:, 0]
