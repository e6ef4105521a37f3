"""Checkable requirements on a response: registry, stacking, checking and satisfying.

The kinds follow the idea of IFEval (Zhou et al., arXiv 2311.07911): every requirement is one sentence with an exact checker.
They are split: `TRAIN_KINDS` may be learned from, `EVAL_KINDS` only ever appear in evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.core.records import Constraint
from harness.instructions import layout, length, wording
from harness.instructions.kind import Kind

KINDS: dict[str, Kind] = {kind.name: kind for kind in (*length.KINDS, *wording.KINDS, *layout.KINDS)}
TRAIN_KINDS = tuple(name for name, kind in KINDS.items() if not kind.held_out)
EVAL_KINDS = tuple(name for name, kind in KINDS.items() if kind.held_out)
WRAPPING_KINDS = tuple(name for name, kind in KINDS.items() if kind.unwrap is not None)
"""Kinds that an exact answer can carry: the bare answer can be recovered from the reply."""

_HARMLESS = "the"
"""Stands for what a constraint requires where it requires no particular text."""
_SPARE_WORDS = (0, 4, 8, 14, 20)


def describe(constraint: Constraint) -> str:
    """The sentence appended to the instruction."""
    return KINDS[constraint.kind].describe(constraint.params)


def check(constraint: Constraint, response: str, *, loose: bool = False) -> bool:
    """Whether the response meets the constraint; an empty response meets none.

    Args:
        loose: as IFEval's loose accuracy, any of eight variants may pass: with and without the first line, the last line and asterisks.
    """
    kind = KINDS[constraint.kind]
    candidates = variants(response) if loose else [response]
    return any(bool(text.strip()) and kind.check(text, constraint.params) for text in candidates)


def variants(response: str) -> list[str]:
    """IFEval's eight readings of a response; the first is the response itself."""
    parts = response.split("\n")
    cuts = [response, "\n".join(parts[1:]).strip(), "\n".join(parts[:-1]).strip(), "\n".join(parts[1:-1]).strip()]
    return cuts + [cut.replace("*", "") for cut in cuts]


def conflict(first: Constraint, second: Constraint) -> bool:
    """Whether the two may not be stacked: same kind, a shared group, or one forbids what the other requires."""
    one, other = KINDS[first.kind], KINDS[second.kind]
    if first.kind == second.kind or one.groups & other.groups:
        return True
    forbidden = one.prohibits and not one.check(other.required(second.params) or _HARMLESS, first.params)
    return forbidden or (other.prohibits and not other.check(one.required(first.params) or _HARMLESS, second.params))


def fits(constraint: Constraint, others: Sequence[Constraint]) -> bool:
    """Whether `constraint` contradicts none of `others`."""
    return not any(conflict(constraint, other) for other in others)


def sample(kinds: Sequence[str], others: Sequence[Constraint] = (), *, rng: np.random.Generator) -> Constraint | None:
    """A constraint of one of `kinds` that fits `others`; None where no kind does.

    Raises:
        AssertionError: no kind of `kinds` can be sampled without an instruction.
    """
    free = [name for name in kinds if KINDS[name].sample is not None]
    assert free, kinds
    for index in rng.permutation(len(free)):
        sampler = KINDS[free[index]].sample
        assert sampler is not None
        candidate = Constraint(free[index], sampler(rng))
        if fits(candidate, others):
            return candidate
    return None


def sample_stack(k: int, kinds: Sequence[str], *, rng: np.random.Generator) -> tuple[Constraint, ...]:
    """`k` constraints without contradiction (fewer only where the kinds run out)."""
    stack: list[Constraint] = []
    while len(stack) < k and (extra := sample(kinds, stack, rng=rng)) is not None:
        stack.append(extra)
    return tuple(stack)


def tighten(constraint: Constraint) -> Constraint | None:
    """The same requirement one notch harder; None where it has no notch left."""
    params = KINDS[constraint.kind].tighten(constraint.params)
    return None if params is None else Constraint(constraint.kind, params)


def resample(constraint: Constraint, others: Sequence[Constraint], *, rng: np.random.Generator) -> Constraint:
    """The same kind with other parameters where it has a sampler and they fit `others`; itself otherwise."""
    sampler = KINDS[constraint.kind].sample
    fresh = Constraint(constraint.kind, sampler(rng)) if sampler else constraint
    return fresh if fits(fresh, others) else constraint


def satisfy(response: str, constraints: Sequence[Constraint]) -> str | None:
    """Edits `response` until every constraint holds; None where the edits do not reach that.

    Edits run from wording to length, layout, ends and case, so that a later one keeps what an earlier one did. Upper limits first leave no
    spare words, then more and more of them for what later edits add.
    """
    ordered = sorted(constraints, key=lambda constraint: KINDS[constraint.kind].stage)
    for spare in _SPARE_WORDS:
        text = response
        for constraint in ordered:
            kind = KINDS[constraint.kind]
            params = kind.reserve(constraint.params, spare) if kind.reserve else constraint.params
            text = kind.satisfy(text, params)
        if all(check(constraint, text) for constraint in constraints):
            return text
    return None


def unwrap(response: str, constraints: Sequence[Constraint]) -> str:
    """The bare answer inside a reply whose constraints only wrap it."""
    for constraint in constraints:
        strip = KINDS[constraint.kind].unwrap
        response = strip(response, constraint.params) if strip else response
    return response.strip()
