"""RLHF's parts on a tiny random student: the reward model ranks what can be ranked, RLOO raises its reward, the budget is met."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from baselines.policy_gradient import optimise
from baselines.preferences import collect_preferences
from baselines.reward_model import RewardConfig, RewardModel, fit, pair_flops
from baselines.rlhf import RLHF, RLHFConfig
from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Preference
from harness.core.spec import Adaptation
from harness.errors import SpecError
from harness.models.student import Student
from harness.seeds import generator
from tasks.pool import MixedPool, MixedPoolConfig


def make(tiny_model: Path, flops: float, seed: int = 0) -> tuple[Student, Ledger, TaskPool]:
    ledger = Ledger(flops)
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=seed)
    student.attach(ledger)
    config = MixedPoolConfig(families=["gcd", "chain_sum"], constraint_share=0.2, seed_demonstrations=6)
    return student, ledger, MixedPool(config, ledger=ledger, rng=generator("test", seed), ngrams=frozenset())


def separable(pool: TaskPool, n: int, rng: np.random.Generator) -> list[Preference]:
    """Replies that end in z are always preferred."""
    return [Preference(prompt, "good z", "good b") for prompt in pool.prompts(n, rng=rng)]


@pytest.mark.parametrize("train_body", [False, True])
def test_the_reward_model_ranks_held_out_pairs(tiny_model: Path, train_body: bool) -> None:
    student, ledger, pool = make(tiny_model, 1e13)
    rng = np.random.default_rng(0)
    config = RewardConfig(train_body=train_body, epochs=4, learning_rate=1e-2)
    model = RewardModel(student, config)
    model.attach(ledger)
    found = fit(model, separable(pool, 60, rng), ledger, config=config, rng=rng)
    assert len(found.held_out) == 9
    assert found.held_out_accuracy > 0.85
    assert {row["phase"] for row in ledger.rows() if row["model"] == "reward model" and row["flops"]} == {"reward"}


def test_shuffled_labels_teach_the_reward_model_nothing(tiny_model: Path) -> None:
    student, ledger, pool = make(tiny_model, 1e13)
    rng = np.random.default_rng(0)
    pairs = [
        Preference(pair.instruction, *((pair.chosen, pair.rejected) if rng.random() < 0.5 else (pair.rejected, pair.chosen)))
        for pair in separable(pool, 120, rng)
    ]
    model = RewardModel(student, RewardConfig())
    found = fit(model, pairs, ledger, config=RewardConfig(held_out_share=0.5), rng=rng)
    assert abs(found.held_out_accuracy - 0.5) < 0.2


def test_rloo_raises_the_reward_it_is_given(tiny_model: Path) -> None:
    student, ledger, pool = make(tiny_model, 1.5e11)
    rng = np.random.default_rng(0)

    class LikesLetters(RewardModel):
        """Share of "e" among the reply's tokens."""

        def score(self, examples):  # type: ignore[no-untyped-def]
            import torch

            wanted = student.encode("e")[0]
            replies = [example.ids[example.prompt_tokens :] for example in examples]
            return torch.tensor([10 * reply.count(wanted) / max(len(reply), 1) for reply in replies])

    config = RLHFConfig(learning_rate=5e-2, prompts_per_step=2, samples_per_prompt=8, max_new_tokens=6, kl_coefficient=0.0)
    optimise(student, LikesLetters(student, RewardConfig()), pool, ledger, config=config, rng=rng)
    rewards = [point.value for point in ledger.curves if point.curve == "rlhf_reward"]
    assert len(rewards) >= 15
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.4


def test_the_kl_penalty_holds_the_policy_near_its_start(tiny_model: Path) -> None:
    def last_kl(coefficient: float) -> float:
        student, ledger, pool = make(tiny_model, 6e10)
        model = RewardModel(student, RewardConfig())
        rng = np.random.default_rng(0)
        fit(model, separable(pool, 20, rng), ledger, config=RewardConfig(), rng=rng)
        config = RLHFConfig(learning_rate=2e-2, samples_per_prompt=8, max_new_tokens=8, kl_coefficient=coefficient)
        optimise(student, model, pool, ledger, config=config, rng=rng)
        return float(np.mean([point.value for point in ledger.curves if point.curve == "rlhf_kl"][-4:]))

    assert last_kl(2.0) < last_kl(0.0)


def test_preferences_are_counted_and_leave_room_for_the_reward_model(tiny_model: Path) -> None:
    student, ledger, pool = make(tiny_model, 1e12)
    config = RLHFConfig(max_new_tokens=8)
    preferences = collect_preferences(
        student,
        pool,
        ledger,
        max_flops=2e10,
        price=lambda pair: pair_flops(student, pair, config.reward),
        config=config,
        rng=np.random.default_rng(0),
    )
    assert ledger.counters["comparisons"] == len(preferences.pairs) >= 2
    model = RewardModel(student, RewardConfig())
    model.attach(ledger)
    fit(model, preferences.pairs, ledger, config=config.reward, rng=np.random.default_rng(0))
    assert 0.4 * 2e10 < ledger.spent() < 1.1 * 2e10


def test_the_whole_method_meets_its_budget_and_pays_for_every_phase(tiny_model: Path, tmp_path: Path) -> None:
    student, ledger, pool = make(tiny_model, 8e10)
    config = RLHFConfig(max_new_tokens=8, prompts_per_step=2)
    RLHF().train(student, pool, ledger, rng=generator("rlhf"), config=config, out=tmp_path)
    assert 0.98 * 8e10 < ledger.spent() <= 8e10
    paid = {row["phase"] for row in ledger.rows() if row["flops"] > 0}
    assert paid == {"generate", "reward", "reference", "update"}
    assert json.loads((tmp_path / "reward_model.json").read_text())["train_pairs"] > 0
    assert {point.curve for point in ledger.curves} >= {"loss", "rlhf_reward", "rlhf_kl", "reward_model_loss"}


def test_a_budget_too_small_for_two_pairs_says_so(tiny_model: Path, tmp_path: Path) -> None:
    student, ledger, pool = make(tiny_model, 3e8)
    with pytest.raises(SpecError, match="too small"):
        RLHF().train(student, pool, ledger, rng=generator("rlhf"), config=RLHFConfig(), out=tmp_path)
