"""Policies by name: those that learn (selfteach.policy, selfteach.trpo) and the controls beside them."""

from selfteach.policies.bandit import ThompsonBandit
from selfteach.policies.constant import FixedPolicy, SchedulePolicy
from selfteach.policies.names import check_policy_name, make

__all__ = ["FixedPolicy", "SchedulePolicy", "ThompsonBandit", "check_policy_name", "make"]
