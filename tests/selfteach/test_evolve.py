from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from stand_ins import HashingEncoder, make_seeds
from test_environment import OPERATIONS, Executor

from harness.core.budget import Ledger
from harness.core.records import Instruction
from selfteach.environment import Environment, EnvironmentConfig
from selfteach.evolve import BARREN_EPISODES, SPENT, Evolution, evolve
from selfteach.policy import LearnedPolicy, Policy, RandomPolicy, improve_by_ppo
from selfteach.roles import Answer

PRICE = 100.0


class Priced:
    """Answers for PRICE FLOPs each as far as `max_flops` reach; half of the samples pass."""

    def __init__(self, ledger: Ledger, *, blind: bool = False) -> None:
        self.ledger, self.blind = ledger, blind

    def remember(self, instruction: Instruction, response: str, embedding: np.ndarray) -> None:
        pass

    def answer(
        self, instructions: Sequence[Instruction], *, embeddings_N_D: np.ndarray, max_flops: float, rng: np.random.Generator
    ) -> list[Answer | None]:
        answers: list[Answer | None] = []
        for _ in instructions:
            if max_flops < PRICE and not self.blind:
                answers.append(None)
                continue
            with self.ledger.use_phase("generate"):
                self.ledger.charge("student", PRICE, 1)
            max_flops -= PRICE
            answers.append(Answer(4, 2, "yes"))
        return answers


def run(
    budget: float,
    *,
    share: float = 0.5,
    blind: bool = False,
    policy: Policy | None = None,
    operations: Sequence[str] = OPERATIONS,
    seed: int = 0,
) -> tuple[Evolution, Ledger]:
    ledger = Ledger(budget)
    encoder, config = HashingEncoder(), EnvironmentConfig(lineages=4, horizon=3)
    environment = Environment(
        make_seeds(), operations, Executor(), encoder, Priced(ledger, blind=blind), lambda text: "leaked" in text, config
    )
    policy = policy or RandomPolicy(len(environment.actions))
    evolution = evolve(environment, policy, ledger, max_flops=share * budget, attempt_flops=PRICE, rng=np.random.default_rng(seed))
    return evolution, ledger


def test_ends_at_its_share_and_uses_it() -> None:
    evolution, ledger = run(20_000)
    assert 0.85 * 10_000 < ledger.spent() <= 10_000
    assert evolution.ended == SPENT
    assert evolution.updates > 3
    assert sum(entry.kept for entry in evolution.entries) == ledger.spent() / PRICE


@pytest.mark.parametrize("budget", [50.0, 2_500.0, 5_000.0])
def test_small_budgets_shrink_the_batch_and_never_overspend(budget: float) -> None:
    evolution, ledger = run(budget)
    assert ledger.spent() <= budget / 2
    assert evolution.ended == SPENT
    assert (evolution.entries != []) == (budget > 1_000)


def test_a_refused_charge_keeps_what_was_made() -> None:
    evolution, ledger = run(3_000, share=1.0, blind=True)
    assert ledger.remaining() < PRICE
    assert evolution.ended.startswith(("budget refused", SPENT))
    assert any(entry.kept for entry in evolution.entries)


def test_ends_when_nothing_survives() -> None:
    evolution, ledger = run(20_000, operations=("fail", "repeat"))
    assert evolution.ended == f"no instruction survived {BARREN_EPISODES} episodes in a row"
    assert ledger.spent() == 0
    assert {entry.step for entry in evolution.entries} == {1, 2, 3, 4, 5}


def test_curves_show_reward_components_and_operations() -> None:
    evolution, ledger = run(20_000)
    curves = {point.curve: point.value for point in ledger.curves}
    assert {"reward", "validity", "novelty", "learnability", "pass_rate", "operation entropy", "corpus size"} <= curves.keys()
    shares = [curves[f"share of {name}"] for name in (*OPERATIONS, "stop")]
    assert sum(shares) == pytest.approx(1)
    assert curves["learnability"] == 1
    assert 0 < curves["reward"] < 1
    assert len([point for point in ledger.curves if point.curve == "reward"]) == evolution.updates
    assert curves["corpus size"] == sum(entry.kept for entry in evolution.entries if entry.step <= evolution.updates)


def test_the_policy_learns_which_operation_pays() -> None:
    policy = LearnedPolicy(32 + 5 + 4, 5, improve=improve_by_ppo, rng=np.random.default_rng(0))
    evolution, ledger = run(200_000, policy=policy)
    shares = [point.value for point in ledger.curves if point.curve == "share of extend"]
    rewards = [point.value for point in ledger.curves if point.curve == "reward"]
    assert np.mean(shares[-10:]) >= 0.8 > 0.4 > np.mean(shares[:5])
    assert np.mean(rewards[-10:]) > 2 * np.mean(rewards[:5])
    assert {row["phase"] for row in ledger.rows() if row["flops"]} == {"generate"}
    assert evolution.ended == SPENT


def test_same_seed_same_corpus() -> None:
    assert run(20_000, seed=3)[0] == run(20_000, seed=3)[0]
    assert run(20_000, seed=3)[0] != run(20_000, seed=4)[0]
