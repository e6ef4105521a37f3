"""The policy loop of PPO, RLOO and GRPO: it trains on what was sampled, phases are paid for, micro-batches change nothing, rewards rise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from baselines import logprobs, policy_gradient
from baselines.config import OptimiseConfig
from baselines.estimates import leave_one_out
from baselines.logprobs import MicroBatches, token_logprobs
from baselines.policy_gradient import Learner, as_sampled, conversation, optimise, sample
from harness.core.budget import Ledger
from harness.core.records import Completion
from harness.core.spec import Adaptation
from harness.errors import TrainingError
from harness.models.examples import TokenizedExample
from harness.models.student import Student
from harness.seeds import generator
from tasks.pool import MixedPool, MixedPoolConfig

ALGORITHMS = ["ppo", "rloo", "grpo"]


def make(tiny_model: Path, flops: float) -> tuple[Student, Ledger, MixedPool]:
    ledger = Ledger(flops)
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=0)
    student.attach(ledger)
    student.dtype = torch.float32
    config = MixedPoolConfig(families=["gcd"], constraint_share=0.0, seed_demonstrations=6)  # type: ignore[arg-type]
    return student, ledger, MixedPool(config, ledger=ledger, rng=generator("test"), ngrams=frozenset())


class Letters:
    """Ten times the share of "e" among a reply's tokens, or what `deal` makes of it."""

    def __init__(self, student: Student, rng: np.random.Generator | None = None) -> None:
        self.wanted, self.rng = student.encode("e")[0], rng

    def score(self, examples: Sequence[TokenizedExample]) -> torch.Tensor:
        replies = [example.ids[example.prompt_tokens :] for example in examples]
        rewards = torch.tensor([10 * reply.count(self.wanted) / max(len(reply), 1) for reply in replies])
        return rewards if self.rng is None else rewards[torch.as_tensor(self.rng.permutation(len(rewards)))]


def settings(algorithm: str, **others: object) -> OptimiseConfig:
    common = {"learning_rate": 3e-2, "prompts_per_step": 2, "samples_per_prompt": 8, "max_new_tokens": 6, "kl_coefficient": 0.0}
    return OptimiseConfig(algorithm=algorithm, **{**common, **others})  # type: ignore[arg-type]


def rewards(ledger: Ledger) -> list[float]:
    return [point.value for point in ledger.curves if point.curve == "rlhf_reward"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_phase_is_paid_for_and_the_budget_is_met(tiny_model: Path, algorithm: str) -> None:
    student, ledger, pool = make(tiny_model, 6e9)
    steps = optimise(student, Letters(student), pool, ledger, config=settings(algorithm), rng=np.random.default_rng(0))
    assert steps == len(rewards(ledger)) > 0
    paid = {row["phase"] for row in ledger.rows() if row["flops"] > 0}
    assert paid == {"generate", "reference", "update"}  # the stand-in's reward costs nothing
    models = {row["model"] for row in ledger.rows() if row["flops"] > 0}
    assert ("value head" in models) == (algorithm == "ppo")
    assert ledger.spent() > 0.85 * 6e9
    assert len(student.trained_on) > 0


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_reward_rises_under_kl_and_not_when_it_is_shuffled(tiny_model: Path, algorithm: str) -> None:
    gains = {}
    for shuffled in (False, True):
        student, ledger, pool = make(tiny_model, 1.2e11 if algorithm == "rloo" else 2e11)
        rng = np.random.default_rng(0)
        scorer = Letters(student, np.random.default_rng(1) if shuffled else None)
        optimise(student, scorer, pool, ledger, config=settings(algorithm, kl_coefficient=0.05), rng=rng)
        found = rewards(ledger)
        assert len(found) >= 15
        gains[shuffled] = np.mean(found[-5:]) - np.mean(found[:5])
        kl = [point.value for point in ledger.curves if point.curve == "rlhf_kl"]
        assert kl[0] == pytest.approx(0, abs=0.05)  # the reference is where training starts
        assert kl[-1] > 0 or shuffled
    assert gains[False] > 0.5
    assert gains[True] < 0.5 * gains[False]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_kl_penalty_holds_the_policy_near_its_start(tiny_model: Path, algorithm: str) -> None:
    def last_kl(coefficient: float) -> float:
        student, ledger, pool = make(tiny_model, 1e11)
        config = settings(algorithm, kl_coefficient=coefficient)
        optimise(student, Letters(student), pool, ledger, config=config, rng=np.random.default_rng(0))
        return float(np.mean([point.value for point in ledger.curves if point.curve == "rlhf_kl"][-4:]))

    assert last_kl(3.0) < 0.5 * last_kl(0.0)


def test_it_trains_on_the_very_tokens_that_were_sampled(tiny_model: Path) -> None:
    """Their log-probabilities under the model are those that sampling used, though the text may be read as other tokens."""
    student, _, pool = make(tiny_model, 1e12)
    (prompt,) = pool.prompts(1, rng=np.random.default_rng(0))
    ((reply,),) = sample(student, [prompt], max_new_tokens=5, temperature=1.0, rng=np.random.default_rng(0), n=1)
    example = as_sampled(student, prompt, reply)
    assert example.ids[example.prompt_tokens :] == reply.ids
    assert len(reply.ids) == reply.tokens
    split = Completion("ab", 3, True, (*student.encode("ab"), student.eos_ids[0]))
    assert as_sampled(student, prompt, split).ids[-3:] == split.ids
    with torch.no_grad():
        whole = torch.log_softmax(student.model(torch.tensor([example.ids], device=student.device)).logits[0].float(), -1)
        found, _ = token_logprobs(student, [example])
    expected = [float(whole[at - 1, example.ids[at]]) for at in range(example.prompt_tokens, len(example.ids))]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_an_engine_that_does_not_tell_its_tokens_is_refused(tiny_model: Path) -> None:
    student, _, pool = make(tiny_model, 1e12)
    (prompt,) = pool.prompts(1, rng=np.random.default_rng(0))
    with pytest.raises(AssertionError, match="which tokens it sampled"):
        as_sampled(student, prompt, Completion("text", 4, True))


def first_gradients(tiny_model: Path, algorithm: str, rows: int | None) -> tuple[list[torch.Tensor], Ledger]:
    """Gradients of the first update, computed `rows` replies at a time."""
    student, ledger, pool = make(tiny_model, 1e12)
    learner = Learner(student, Letters(student), ledger, settings(algorithm, samples_per_prompt=3))
    learner.batches.rows = rows
    rollout = learner._sampled(pool.prompts(2, rng=np.random.default_rng(0)), np.random.default_rng(0))
    learner._gradients(rollout, None)
    return [parameter.grad.clone() for parameter in learner.trained if parameter.grad is not None], ledger


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_micro_batches_change_no_gradient(tiny_model: Path, algorithm: str) -> None:
    whole, _ = first_gradients(tiny_model, algorithm, None)
    parts, _ = first_gradients(tiny_model, algorithm, 2)
    assert len(whole) == len(parts) > 0
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-5 + 1e-4 * float(one.abs().max()))


def test_the_gradient_of_rloo_is_the_textbook_s(tiny_model: Path) -> None:
    """-1/R sum_t A grad log p, by autograd over the whole model's logits."""
    student, ledger, pool = make(tiny_model, 1e12)
    learner = Learner(student, Letters(student), ledger, settings("rloo", samples_per_prompt=4))
    rollout = learner._sampled(pool.prompts(1, rng=np.random.default_rng(0)), np.random.default_rng(0))
    learner._gradients(rollout, None)
    found = [parameter.grad.clone() for parameter in student.trainable if parameter.grad is not None]
    student.model.zero_grad()
    advantage_k = leave_one_out(rollout.reward_B.view(1, -1))[0]
    total = sum(rollout.counts)
    for example, advantage in zip(rollout.examples, advantage_k, strict=True):
        logprob_T_V = torch.log_softmax(student.model(torch.tensor([example.ids], device=student.device)).logits[0].float(), -1)
        said = sum(logprob_T_V[at - 1, example.ids[at]] for at in range(example.prompt_tokens, len(example.ids)))
        (-advantage * said / total).backward()
    for parameter, gradient in zip(student.trainable, found, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient, atol=1e-5 + 1e-3 * float(gradient.abs().max()))


def test_short_memory_splits_the_batch_and_the_run_goes_on(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, ledger, pool = make(tiny_model, 6e9)
    whole = policy_gradient.token_logprobs

    def short(student: Student, examples: Sequence[TokenizedExample], **options: object) -> object:
        if len(examples) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(student, examples, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(policy_gradient, "token_logprobs", short)
    assert optimise(student, Letters(student), pool, ledger, config=settings("ppo"), rng=np.random.default_rng(0)) > 0
    assert any("memory held 4 replies at a time" in note for note in ledger.notes)


def test_memory_for_not_one_reply_is_said_in_one_message(tiny_model: Path) -> None:
    _, ledger, _ = make(tiny_model, 1e9)

    def never() -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    with pytest.raises(TrainingError, match="out of memory with one reply at a time"):
        MicroBatches(ledger).attempt(never, 8)
    with pytest.raises(RuntimeError, match="another"):
        MicroBatches(ledger).attempt(lambda: (_ for _ in ()).throw(RuntimeError("another")), 8)


class Broken:
    """Rewards nothing can be made of."""

    def score(self, examples: Sequence[TokenizedExample]) -> torch.Tensor:
        return torch.tensor([float("nan")] * len(examples))


def test_rewards_and_losses_that_are_no_numbers_stop_with_one_message(tiny_model: Path) -> None:
    student, ledger, pool = make(tiny_model, 1e10)
    with pytest.raises(TrainingError, match="the reward of 16 of 16 replies is not finite"):
        optimise(student, Broken(), pool, ledger, config=settings("grpo"), rng=np.random.default_rng(0))
    learner = Learner(student, Letters(student), ledger, settings("rloo"))
    rollout = learner._sampled(pool.prompts(2, rng=np.random.default_rng(0)), np.random.default_rng(0))
    with torch.no_grad():
        student.trainable[0].fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"rloo diverged: its loss became nan at learning_rate 0\.03: lower it, to 0\.01"):
        learner._gradients(rollout, None)


def test_empty_replies_are_trained_on_as_their_end_token(tiny_model: Path) -> None:
    student, _, pool = make(tiny_model, 1e12)
    (prompt,) = pool.prompts(1, rng=np.random.default_rng(0))
    example = as_sampled(student, prompt, Completion("", 1, True, (student.tokenizer.eos_token_id,)))
    logprob_R, _ = token_logprobs(student, [example])
    assert logprob_R.shape == (1,)
    assert torch.isfinite(logprob_R).all()


def test_values_are_of_the_states_that_tokens_were_sampled_in(tiny_model: Path) -> None:
    student, _, pool = make(tiny_model, 1e12)
    (prompt,) = pool.prompts(1, rng=np.random.default_rng(0))
    example = as_sampled(student, prompt, Completion("abc", 3, False, tuple(student.encode("abc"))))
    head = torch.nn.Linear(32, 1, device=student.device)
    with torch.no_grad():
        _, value_R = token_logprobs(student, [example], value_head=head)
        hidden_T_D = student.body(input_ids=torch.tensor([example.ids], device=student.device)).last_hidden_state[0]
        expected = head(hidden_T_D[-4:-1].float())[:, 0]
    assert value_R is not None
    assert torch.allclose(value_R, expected, atol=1e-4)


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_one_sample_a_prompt_has_nothing_to_be_compared_with(algorithm: str) -> None:
    with pytest.raises(ValidationError, match="samples_per_prompt must be 2 or more"):
        settings(algorithm, samples_per_prompt=1)
    assert settings("ppo", samples_per_prompt=1).samples_per_prompt == 1


def test_the_conversation_is_the_instruction_alone(tiny_model: Path) -> None:
    _, _, pool = make(tiny_model, 1e12)
    (prompt,) = pool.prompts(1, rng=np.random.default_rng(0))
    assert conversation(prompt) == [{"role": "user", "content": prompt.text}]
    assert logprobs.response_counts([TokenizedExample((1, 2, 3), 1)]) == [2]
