from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from stand_ins import HashingEncoder, make_seeds

from harness.core.records import Instruction
from selfteach.environment import PROJECTED, STOP, Environment, EnvironmentConfig
from selfteach.roles import Answer, Outcome, Review

OPERATIONS = ("extend", "repeat", "fail", "leak")


class Executor:
    """extend: new words; repeat: the parent again; fail: nothing; leak: an evaluation item."""

    def apply_batch(self, instructions: Sequence[Instruction], operations: Sequence[str], *, rng: np.random.Generator) -> list[Outcome]:
        return [self.apply(instruction, operation, rng) for instruction, operation in zip(instructions, operations, strict=True)]

    def apply(self, instruction: Instruction, operation: str, rng: np.random.Generator) -> Outcome:
        if operation == "fail":
            return Outcome(None, "no slot")
        novel = " ".join(f"w{number}" for number in rng.integers(10**6, size=40))
        text = {"extend": novel, "repeat": instruction.text, "leak": f"leaked {novel}"}[operation]
        return Outcome(replace(instruction, id="made", text=text))


class Answerer:
    """Passes as many of 4 samples as the rule says; remembers what it was asked."""

    def __init__(self, rule: Callable[[Instruction], int | None] = lambda instruction: 2) -> None:
        self.rule, self.asked, self.remembered = rule, [], []

    def remember(self, instruction: Instruction, response: str, embedding: np.ndarray) -> None:
        self.remembered.append((instruction.text, response))

    def answer(
        self, instructions: Sequence[Instruction], *, embeddings_N_D: np.ndarray, max_flops: float, rng: np.random.Generator
    ) -> list[Answer | None]:
        assert len(embeddings_N_D) == len(instructions)
        self.asked += instructions
        passed = [self.rule(instruction) for instruction in instructions]
        return [None if count is None else Answer(4, count, "yes" if count else None) for count in passed]


def environment(answerer: Answerer | None = None, **config: object) -> Environment:
    return Environment(
        make_seeds(),
        OPERATIONS,
        Executor(),
        HashingEncoder(),
        answerer or Answerer(),
        lambda text: "leaked" in text,
        EnvironmentConfig(**config),
    )


def play(env: Environment, *rows: Sequence[str], seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    env.reset(len(rows[0]), rng=rng)
    actions = [np.array([env.actions.index(name) for name in row]) for row in rows]
    return [env.step(row, update=1, max_flops=1.0, rng=rng) for row in actions]


def test_each_operation_is_logged_with_its_fate_and_reward() -> None:
    (step,) = play(environment(), ["extend", "repeat", "fail", "leak", STOP])
    extend, repeat, fail, leak = step.entries
    assert (extend.kept, extend.reject_reason, extend.response, extend.pass_rate) == (True, None, "yes", 0.5)
    assert [entry.reject_reason for entry in (repeat, fail, leak)] == ["no information gain", "executor: no slot", "contaminated"]
    assert not any(entry.kept or entry.samples or entry.verified is not None for entry in (repeat, fail, leak))
    assert step.rewards_B[0] == extend.reward.total > 0.5
    assert step.rewards_B[1:].tolist() == [0, 0, 0, 0]
    assert [step.operation for step in extend.lineage] == ["seed", "extend"]
    assert (repeat.lineage[-1].operation, len(fail.lineage)) == ("repeat", 1)
    assert len({entry.id for entry in step.entries}) == 4


@pytest.mark.parametrize(("passed", "reward", "kept"), [(0, 0.0, False), (1, 0.75, True), (2, 1.0, True), (4, 0.0, True)])
def test_reward_is_validity_times_novelty_times_learnability(passed: int, reward: float, kept: bool) -> None:
    (step,) = play(environment(Answerer(lambda instruction: passed)), ["extend"])
    (entry,) = step.entries
    assert entry.reward.novelty == 1  # forty unseen words
    assert entry.reward.total == reward == step.rewards_B[0]
    assert entry.kept is kept
    assert entry.reject_reason == (None if kept else "no verified response: 0 of 4")


def test_novelty_is_scaled_distance_to_the_nearest_kept() -> None:
    env = environment(novelty_scale=4.0)
    (step,) = play(env, ["extend"])
    text = step.entries[0].instruction
    encoder = HashingEncoder()
    nearest = (encoder.encode([seed.instruction.text for seed in make_seeds()]) @ encoder.encode([text])[0]).max()
    assert step.entries[0].reward.novelty == pytest.approx((1 - nearest) / 4, abs=1e-5)


def test_a_lineage_moves_on_only_to_what_was_solved() -> None:
    answerer = Answerer()
    env = environment(answerer)
    first, second = play(env, ["extend", "extend", "repeat"], ["extend", "extend", "extend"])
    assert second.entries[0].parent_id == first.entries[0].id
    assert second.entries[2].parent_id == first.entries[2].parent_id
    assert [len(entry.lineage) for entry in second.entries] == [3, 3, 2]
    assert second.entries[0].seed_id == first.entries[0].seed_id
    stuck = environment(Answerer(lambda instruction: 0))
    one, two = play(stuck, ["extend"], ["extend"])
    assert one.entries[0].parent_id == two.entries[0].parent_id == one.entries[0].seed_id


def test_stop_starts_a_fresh_seed_and_earns_nothing() -> None:
    env = environment()
    rng = np.random.default_rng(0)
    before = env.reset(1, rng=rng)
    seed = env.lineages[0].seed
    step = env.step(np.array([env.actions.index(STOP)]), update=1, max_flops=1.0, rng=rng)
    assert env.lineages[0].seed is not seed
    assert (step.entries, step.rewards_B.tolist(), step.complete) == ([], [0.0], True)
    assert not np.array_equal(step.states_B_D, before)


def test_all_seeds_serve_equally_often() -> None:
    env, rng = environment(), np.random.default_rng(0)
    used = []
    for _ in range(5):
        env.reset(6, rng=rng)
        used += [lineage.seed.instruction.id for lineage in env.lineages]
    assert {used.count(seed.instruction.id) for seed in make_seeds()} == {5}


def test_state_shows_counts_time_pass_rates_and_rejection() -> None:
    env = environment(Answerer(lambda instruction: 1), horizon=4)
    assert env.state_size == PROJECTED + 5 + 4
    first, second = play(env, ["extend", "fail"], ["extend", "fail"])
    state = second.states_B_D
    assert state.shape == (2, env.state_size)
    assert state.dtype == np.float32
    counts = state[:, PROJECTED : PROJECTED + 5]
    assert counts.tolist() == [[0.5, 0, 0, 0, 0], [0, 0, 0.5, 0, 0]]
    # step share, pass rate of the current instruction, the seed's running pass rate, rejected
    assert state[0, -4:] == pytest.approx([0.5, 0.25, 0.5 * (0.5 * 0.5 + 0.5 * 0.25) + 0.5 * 0.25, 0])
    assert state[1, -4:] == pytest.approx([0.5, 0.5, 0.5, 1])
    assert np.linalg.norm(first.states_B_D[0, :PROJECTED] - state[0, :PROJECTED]) > 0.1


def test_unanswered_survivors_make_the_step_incomplete() -> None:
    (step,) = play(environment(Answerer(lambda instruction: None)), ["extend", "fail"])
    assert not step.complete
    assert step.entries[0].reject_reason == "budget: not answered"
    assert step.entries[0].verified is None


def test_copies_within_one_step_are_duplicates() -> None:
    class Copier(Executor):
        def apply(self, instruction: Instruction, operation: str, rng: np.random.Generator) -> Outcome:
            return Outcome(replace(instruction, text="Always one and the same text."))

    env = Environment(make_seeds(), OPERATIONS, Copier(), HashingEncoder(), Answerer(), lambda text: False, EnvironmentConfig())
    (step,) = play(env, ["extend", "extend", "extend"])
    assert [entry.reject_reason for entry in step.entries] == [None, "duplicate", "duplicate"]


def test_same_seed_same_episode() -> None:
    rows = [["extend", STOP, "repeat"]] * 3
    one, two, three = (play(environment(), *rows, seed=seed) for seed in (1, 1, 2))
    for left, right in zip(one, two, strict=True):
        assert left.entries == right.entries
        assert np.array_equal(left.states_B_D, right.states_B_D)
    assert one[0].entries != three[0].entries


def test_a_reviewer_that_could_not_be_had_lets_nothing_pass_and_earns_nothing() -> None:
    class Gone:
        def review(self, pairs: Sequence[tuple[Instruction, Instruction]], *, rng: np.random.Generator) -> list[Review]:
            return [Review(False, "") for _ in pairs]

    env = environment(Answerer(), reward_terms=("novelty",))
    env.reviewer = Gone()
    (step,) = play(env, ["extend", "extend"])
    assert [entry.reject_reason for entry in step.entries] == ["reviewer: no reply"] * 2
    assert step.rewards_B.tolist() == [0, 0]


def test_what_the_reviewer_calls_equal_is_rejected_unanswered_and_what_passed_is_remembered() -> None:
    class Odd:
        def review(self, pairs: Sequence[tuple[Instruction, Instruction]], *, rng: np.random.Generator) -> list[Review]:
            assert all(child.parent_id == parent.id for parent, child in pairs)
            return [Review(index % 2 == 1, "Equal") for index in range(len(pairs))]

    env = environment(answerer := Answerer())
    env.reviewer = Odd()
    (step,) = play(env, ["extend", "extend", "repeat"])
    assert [entry.reject_reason for entry in step.entries] == ["no information gain: reviewer", None, "no information gain"]
    assert [entry.reward.validity for entry in step.entries] == [0, 1, 0]
    assert answerer.remembered == [(step.entries[1].instruction, "yes")]
