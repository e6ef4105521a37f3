from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from harness.core.budget import Ledger
from harness.core.records import Instruction
from selfteach.faithful.mdp import FaithfulEnvironment
from selfteach.faithful.quirks import FaithfulConfig, Quirks
from selfteach.faithful.train import FINISHED, SPENT, FaithfulRun, train_faithful
from selfteach.operations import OPERATIONS, RuleExecutor
from selfteach.roles import Outcome, Review
from selfteach.stubs import ONE_BEST, StubEncoder, StubExecutor, StubReviewer, stub_seeds

SHORT = FaithfulConfig(environment_steps=60)


class Says:
    """A reviewer with one answer."""

    def __init__(self, reply: str, *, gain: bool = True) -> None:
        self.answer, self.asked = Review(gain, reply), 0

    def review(self, pairs: Sequence[tuple[Instruction, Instruction]], *, rng: np.random.Generator) -> list[Review]:
        self.asked += len(pairs)
        return [self.answer] * len(pairs)


class Barren:
    """An executor that makes nothing."""

    def apply_batch(self, instructions: Sequence[Instruction], operations: Sequence[str], *, rng: np.random.Generator) -> list[Outcome]:
        return [Outcome(None, "no further constraint fits") for _ in instructions]


class Priced(StubExecutor):
    def __init__(self, ledger: Ledger, price: float) -> None:
        self.ledger, self.price = ledger, price

    def apply_batch(self, instructions: Sequence[Instruction], operations: Sequence[str], *, rng: np.random.Generator) -> list[Outcome]:
        self.ledger.charge("student", self.price * len(instructions), 1)
        return super().apply_batch(instructions, operations, rng=rng)


def world(reviewer: object, config: FaithfulConfig = SHORT, executor: object = None) -> FaithfulEnvironment:
    return FaithfulEnvironment(stub_seeds(), OPERATIONS, executor or StubExecutor(), reviewer, Ledger(), config, encoder=StubEncoder())


def train(config: FaithfulConfig = SHORT, seed: int = 0, profile: str = "breadth best") -> FaithfulRun:
    rng, reviewer = np.random.default_rng(seed), StubReviewer(ONE_BEST[profile])
    return train_faithful(stub_seeds(), StubExecutor(), reviewer, Ledger(), config, encoder=StubEncoder(), rng=rng)


def actions(run: FaithfulRun) -> np.ndarray:
    return np.concatenate([actions_T_B.reshape(-1) for actions_T_B in run.actions_T_B])


def test_state_is_the_last_action_and_zeros_at_reset() -> None:
    environment, rng = world(Says("Not Equal")), np.random.default_rng(0)
    assert environment.reset(rng=rng).tolist() == [[0] * 6]
    states, rewards = environment.step([3], rng=rng)
    assert states.tolist() == [[0, 0, 0, 1, 0, 0]]
    assert rewards.tolist() == [1]
    assert environment.reset(rng=rng).tolist() == [[0] * 6]


def test_seeing_state_has_text_and_time() -> None:
    config = FaithfulConfig(quirks=Quirks().without("blind_state"))
    environment, rng = world(Says("Not Equal"), config), np.random.default_rng(0)
    before = environment.reset(rng=rng)
    after, _ = environment.step([3], rng=rng)
    assert before.shape == (1, 6 + 32 + 1)
    assert not np.array_equal(before[0, 6:38], after[0, 6:38])
    assert (before[0, 38], after[0, 38]) == pytest.approx((0, 1 / 6))


@pytest.mark.parametrize(
    ("reply", "gain", "exact", "judged"),
    [("Not Equal", True, 1, 1), ("Not Equal.", True, 0, 1), ("Equal", False, 0, 0), ("", True, 1, 1), ("", False, 0, 0)],
)
def test_reward_for_exact_words(reply: str, gain: bool, exact: float, judged: float) -> None:
    for config, expected in ((SHORT, exact), (FaithfulConfig(quirks=Quirks().without("exact_reply")), judged)):
        environment, rng = world(Says(reply, gain=gain), config), np.random.default_rng(0)
        environment.reset(rng=rng)
        assert environment.step([0], rng=rng)[1].tolist() == [expected]


@pytest.mark.parametrize("persistent", [True, False])
def test_lineage_persists_across_episodes_or_not(persistent: bool) -> None:
    config = FaithfulConfig(quirks=Quirks(persistent_lineage=persistent))
    environment, rng = world(Says("Not Equal"), config), np.random.default_rng(0)
    environment.reset(rng=rng)
    environment.step([3], rng=rng)
    left = environment.instructions[0]
    assert left.operation == "concretise"
    environment.reset(rng=rng)
    assert (environment.instructions[0] == left) is persistent
    assert (environment.instructions[0] in [seed.instruction for seed in stub_seeds()]) is not persistent


def test_executor_that_makes_nothing_earns_nothing() -> None:
    reviewer, rng = Says("Not Equal"), np.random.default_rng(0)
    environment = world(reviewer, executor=Barren())
    environment.reset(rng=rng)
    before = list(environment.instructions)
    assert environment.step([1], rng=rng)[1].tolist() == [0]
    assert environment.instructions == before
    assert reviewer.asked == 0


def test_rules_play_the_executor() -> None:
    executor = RuleExecutor()
    seed = stub_seeds(1)[0]
    instruction = Instruction("s", "instructions", "cooking", body="Describe bread.", text="Describe bread.")
    seeds = [type(seed)(instruction, "Bread.")]
    run = train_faithful(seeds, executor, Says("", gain=True), Ledger(), SHORT, rng=np.random.default_rng(0))
    assert run.ended == FINISHED


def test_batches() -> None:
    run = train()
    assert [rewards_T_B.shape for rewards_T_B in run.rewards_T_B] == [(6, 1)] * 10
    assert run.policy.updates == 10
    # Seven observations an episode: the last state is seen, though nobody acts on it.
    assert run.policy.normaliser.count == 70
    wide = train(FaithfulConfig(environment_steps=96, quirks=Quirks().without("tiny_batch")))
    assert [rewards_T_B.shape for rewards_T_B in wide.rewards_T_B] == [(6, 8)] * 2


@pytest.mark.parametrize(
    "name", ["blind_state", "running_normaliser", "gaussian_argmax", "breadth_bonus", "one_hot_as_sample", "tiny_batch", "tiny_kl"]
)
def test_each_quirk_changes_what_is_done(name: str) -> None:
    changed = train(FaithfulConfig(environment_steps=60, quirks=Quirks().without(name)))
    assert changed.ended == FINISHED
    assert not np.array_equal(actions(train())[: len(actions(changed))], actions(changed))


def test_same_seed_same_run() -> None:
    one, two, three = train(seed=1), train(seed=1), train(seed=2)
    assert np.array_equal(actions(one), actions(two))
    assert not np.array_equal(actions(one), actions(three))


def test_a_refused_charge_ends_training_without_losing_it() -> None:
    ledger = Ledger(1e7 + 35.5 * 1e6)
    reviewer, rng = StubReviewer(ONE_BEST["flat"]), np.random.default_rng(0)
    run = train_faithful(stub_seeds(), Priced(ledger, 1e6), reviewer, ledger, SHORT, rng=rng)
    assert run.ended.startswith("budget refused")
    assert 0 < len(run.rewards_T_B) < 10
    assert run.policy.updates == len(run.rewards_T_B)


def test_training_ends_within_its_share() -> None:
    ledger = Ledger()
    reviewer, rng = StubReviewer(ONE_BEST["flat"]), np.random.default_rng(0)
    run = train_faithful(stub_seeds(), Priced(ledger, 1e6), reviewer, ledger, SHORT, max_flops=4e7, rng=rng)
    assert run.ended == SPENT
    assert 2e7 < ledger.spent() <= 4e7
    assert {row["phase"] for row in ledger.rows() if row["model"] == "policy"} == {"policy"}
