"""The names that studies give policies. What they name is built in selfteach.policies.make; this module needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import SpecError

LEARNING = ("ppo", "trpo")
IDLE = "stop"
"""The action that carries out no operation (selfteach.environment.STOP)."""


def check_policy_name(name: str, actions: Sequence[str], *, others: Sequence[str] = ()) -> str:
    """Returns `name` if `make` can build it: "ppo", "trpo", "random", "bandit", "fixed:<operation>" or "schedule:<operation>,...".

    Args:
        actions: of the environment, "stop" included where it has it.
        others: names that the caller builds itself.
    Raises:
        SpecError: the name or one of its operations is unknown, or it would never carry out an operation.
    """
    kind, colon, listed = name.partition(":")
    if not colon:
        plain = (*LEARNING, "random", "bandit", *others)
        if name in plain:
            return name
        if name in ("fixed", "schedule"):
            raise SpecError(f"expected operations after the name, as in {_example(name, actions)!r}", key="policy", value=name)
        forms = (_example("fixed", actions), _example("schedule", actions))
        raise SpecError("expected the name of a policy", key="policy", value=name, valid=(*plain, *forms))
    if kind not in ("fixed", "schedule"):
        raise SpecError(
            "only fixed and schedule take operations", key="policy", value=name, valid=(f"fixed:{listed}", f"schedule:{listed}")
        )
    operations = operations_in(listed)
    for operation in operations:
        if operation not in actions:
            raise SpecError(f"expected an operation in {name!r}", key="policy", value=operation, valid=actions)
    if kind == "fixed" and len(operations) > 1:
        raise SpecError(f"expected one operation; several in turn are 'schedule:{listed}'", key="policy", value=name)
    if set(operations) == {IDLE}:
        raise SpecError(f"expected an operation beside {IDLE!r}, which evolves nothing", key="policy", value=name)
    return name


def operations_in(listed: str) -> list[str]:
    """The operations of "fixed:" and "schedule:"."""
    return [operation.strip() for operation in listed.split(",")]


def _example(kind: str, actions: Sequence[str]) -> str:
    shown = [action for action in actions if action != IDLE]
    return f"{kind}:{','.join(shown[: 1 if kind == 'fixed' else 2])}"
