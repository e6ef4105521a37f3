from __future__ import annotations

import numpy as np
import pytest

from harness.errors import SpecError
from selfteach.environment import STOP
from selfteach.operations import OPERATIONS
from selfteach.policies.constant import FixedPolicy, SchedulePolicy
from selfteach.policies.make import make
from selfteach.policies.names import IDLE, check_policy_name
from selfteach.policy import Policy, Rollout

ACTIONS = (*OPERATIONS, STOP)


def build(name: str) -> Policy:
    return make(name, state_size=4, actions=ACTIONS, rng=np.random.default_rng(0))


def acts(policy: Policy, steps: int) -> list[str]:
    taken = []
    for _ in range(steps):
        actions_B, logprobs_B = policy.act(np.zeros((3, 4), np.float32), rng=np.random.default_rng(0))
        assert len(set(actions_B)) == 1
        assert not logprobs_B.any()
        taken.append(ACTIONS[actions_B[0]])
    return taken


def test_fixed_does_one_thing() -> None:
    assert acts(build("fixed:deepen"), 4) == ["deepen"] * 4
    assert isinstance(build("fixed:deepen"), FixedPolicy)


def test_a_schedule_goes_round_and_starts_afresh_with_each_episode() -> None:
    policy = build("schedule:breadth, add_constraint,stop")
    assert isinstance(policy, SchedulePolicy)
    assert acts(policy, 4) == ["breadth", "add_constraint", "stop", "breadth"]
    policy.update(Rollout(*[np.zeros((1, 1, 1), np.float32)] * 4), rng=np.random.default_rng(0))
    assert acts(policy, 2) == ["breadth", "add_constraint"]


def test_idle_is_the_environments_stop() -> None:
    assert IDLE == STOP


@pytest.mark.parametrize("name", ["ppo", "trpo", "random", "bandit", "fixed:breadth", "schedule:breadth", "schedule:stop,deepen"])
def test_valid_names_pass(name: str) -> None:
    assert check_policy_name(name, ACTIONS) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pppo", "Did you mean 'ppo'?"),
        ("grpo_l", "Did you mean 'grpo_lm'?"),
        ("", "Valid: bandit, fixed:breadth, grpo_lm, ppo, random, schedule:breadth,add_constraint, trpo."),
        ("fixed", "as in 'fixed:breadth'"),
        ("schedule", "as in 'schedule:breadth,add_constraint'"),
        ("fixed:deepn", "Did you mean 'deepen'?"),
        ("schedule:breadth,", "expected an operation in 'schedule:breadth,' (got '')"),
        ("fixed:breadth,deepen", "'schedule:breadth,deepen'"),
        ("fixed:stop", "evolves nothing"),
        ("schedule:stop,stop", "evolves nothing"),
        ("fix:deepen", "Did you mean 'fixed:deepen'?"),
        ("ppo:deepen", "only fixed and schedule take operations"),
    ],
)
def test_mistakes_name_what_was_meant(name: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        check_policy_name(name, ACTIONS, others=("grpo_lm",))
    assert message in str(error.value)
    assert "policy" in str(error.value)


def test_make_refuses_what_it_cannot_build() -> None:
    with pytest.raises(SpecError):
        build("grpo_lm")
