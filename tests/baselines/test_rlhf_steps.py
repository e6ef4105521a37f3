"""What an RLOO step compares: whole replies to the reward model, the policy to a reference that stays as it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from baselines.config import RewardConfig
from baselines.logprobs import token_logprobs
from baselines.policy_gradient import optimise
from baselines.reward_model import RewardModel
from baselines.rlhf import RLHF, RLHFConfig
from harness.core.budget import Ledger
from harness.core.spec import Adaptation
from harness.models.examples import TokenizedExample, tokenize
from harness.models.finetune import FinetuneConfig
from harness.models.student import Student
from harness.seeds import generator
from tasks.pool import MixedPool, MixedPoolConfig


def make(tiny_model: Path, flops: float, **adaptation: object) -> tuple[Student, Ledger, MixedPool]:
    ledger = Ledger(flops)
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(**adaptation), seed=0)  # type: ignore[arg-type]
    student.attach(ledger)
    config = MixedPoolConfig(families=["gcd"], constraint_share=0.2, seed_demonstrations=6)  # type: ignore[arg-type]
    return student, ledger, MixedPool(config, ledger=ledger, rng=generator("test"), ngrams=frozenset())


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_reference_stays_as_it_was_while_the_student_is_trained(tiny_model: Path, kind: str) -> None:
    student, _, _ = make(tiny_model, 1e12, kind=kind)
    examples = [tokenize(student, [{"role": "user", "content": "ask"}], "reply")]
    reference = student.frozen_body(), student.frozen_head()
    assert (reference[1] is student.model.get_output_embeddings()) == (kind == "lora")
    with torch.no_grad():
        before, _ = token_logprobs(student, examples, reference=reference)
        assert torch.allclose(before, token_logprobs(student, examples)[0], atol=1e-5)
        for parameter in student.trainable:
            parameter.add_(0.1)
        assert torch.equal(token_logprobs(student, examples, reference=reference)[0], before)
        assert not torch.allclose(token_logprobs(student, examples)[0], before, atol=0.01)


def test_a_copied_head_is_paid_for(tiny_model: Path) -> None:
    student, ledger, pool = make(tiny_model, 3e9, kind="full")
    config = RLHFConfig(max_new_tokens=4, prompts_per_step=1, samples_per_prompt=2, learning_rate=1e-4)
    model = RewardModel(student, RewardConfig())
    model.attach(ledger)
    assert optimise(student, model, pool, ledger, config=config, rng=np.random.default_rng(0)) > 0
    paid = {(row["phase"], row["model"]) for row in ledger.rows() if row["flops"]}
    assert ("reference", "reference") in paid
    assert ("reference", student.name) not in paid  # the student's own head takes no part in the reference


def test_log_probabilities_are_those_that_were_sampled_from(tiny_model: Path) -> None:
    student, _, _ = make(tiny_model, 1e12)
    student.dtype = torch.float32
    example = tokenize(student, [{"role": "user", "content": "ask"}], "r")
    example = TokenizedExample(example.ids[: example.prompt_tokens + 1], example.prompt_tokens)
    with torch.no_grad():
        logits = student.model(torch.tensor([example.ids], device=student.device)).logits[0, -2].float()
        found, _ = token_logprobs(student, [example], temperature=0.5)
    assert float(found) == pytest.approx(float(torch.log_softmax(logits / 0.5, -1)[example.ids[-1]]), abs=1e-3)


def test_the_reward_model_reads_replies_with_their_end_as_it_was_taught(tiny_model: Path) -> None:
    student, ledger, pool = make(tiny_model, 5e9)
    last_tokens: set[int] = set()

    class Spy(RewardModel):
        def score(self, examples: Sequence[TokenizedExample]) -> torch.Tensor:
            last_tokens.update(example.ids[-1] for example in examples)
            return torch.zeros(len(examples))

    config = RLHFConfig(max_new_tokens=2, prompts_per_step=2)  # most replies are cut off
    optimise(student, Spy(student, RewardConfig()), pool, ledger, config=config, rng=np.random.default_rng(0))
    assert last_tokens == {student.tokenizer.eos_token_id}


def test_the_top_up_buys_no_labels(tiny_model: Path, tmp_path: Path) -> None:
    student, ledger, pool = make(tiny_model, 1.5e10)
    config = RLHFConfig(max_new_tokens=8, prompts_per_step=2, finetune=FinetuneConfig(batch_size=4))
    bought: list[int] = []
    count = ledger.count
    ledger.count = lambda name, amount=1: (bought.append(len(ledger.curves)) if name == "demonstrations" else None, count(name, amount))[1]  # type: ignore[assignment, func-returns-value]
    RLHF().train(student, pool, ledger, rng=generator("rlhf"), config=config, out=tmp_path)
    curves = [point.curve for point in ledger.curves]
    assert "ptx_loss" in curves
    assert max(bought) <= len(curves) - 1 - curves[::-1].index("loss")
    trained_on = 4 * curves.count("loss")
    assert trained_on - 3 <= ledger.counters["demonstrations"] <= trained_on + 2 * 4


def test_shares_must_leave_something_to_optimise_with() -> None:
    with pytest.raises(ValidationError, match="policy optimisation"):
        RLHFConfig(warm_share=0.7, preference_share=0.3)
