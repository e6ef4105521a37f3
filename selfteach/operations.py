"""The textual operations, carried out by rules on structured instructions (docs/method-card.md).

Every operation changes the verifier together with the text, so that the child's answer stays checkable: a constraint comes with its
checker, more reasoning steps raise a generator's difficulty. Names and order follow the one-hot of TeaMs-RL (Gu et al., arXiv
2403.08694); there a language model rewrites free text, here rules rewrite structure. "stop" belongs to the policy: it has nothing to
carry out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core.records import Constraint, Instruction
from harness.instructions import constraints as rules
from harness.instructions import reasoning
from harness.instructions.constraints import KINDS, TRAIN_KINDS, WRAPPING_KINDS, fits
from harness.instructions.render import compose, without_answers
from harness.instructions.texts import between, pick
from harness.instructions.topics import NARROWER, TEMPLATES, TOPICS
from selfteach.roles import Outcome

OPERATIONS = ("breadth", "add_constraint", "deepen", "concretise", "increase_reasoning", "complicate_input")
MAX_CONSTRAINTS = 5
"""As many as evaluation ever stacks."""
_ANSWER_KINDS = tuple(name for name in TRAIN_KINDS if name in WRAPPING_KINDS and name != "json_object")
_FREE_KINDS = tuple(name for name in TRAIN_KINDS if KINDS[name].sample is not None)


@dataclass(frozen=True)
class _Edit:
    """The parts of a child that an operation changed."""

    family: str
    body: str
    constraints: tuple[Constraint, ...]
    payload: dict[str, Any]


class RuleExecutor:
    """Carries out operations without a language model.

    Args:
        seeds: training instructions; breadth moves among their requests, and keeps to their generators and settings where they have any.
    """

    def __init__(self, seeds: Sequence[Instruction] = ()) -> None:
        self._requests = [(seed.family, seed.body) for seed in seeds if not _is_reasoning(seed)]
        configs = {seed.family: seed.payload["config"] for seed in seeds if _is_reasoning(seed)}
        self._configs: dict[str, dict[str, Any]] = configs or {name: {} for name in reasoning.TRAIN_FAMILIES}

    def apply(self, instruction: Instruction, operation: str, *, rng: np.random.Generator) -> Outcome:
        """Applies one of `OPERATIONS`.

        The child carries its parent's seed_id, one step more, and an id that depends on parent, operation and result alone.
        """
        assert operation in OPERATIONS, operation
        edit = self._reasoning(instruction, operation, rng) if _is_reasoning(instruction) else self._request(instruction, operation, rng)
        if isinstance(edit, str):
            return Outcome(None, edit)
        child = compose(
            pool=instruction.pool,
            family=edit.family,
            body=edit.body,
            constraints=edit.constraints,
            payload=edit.payload,
            parent=instruction,
            operation=operation,
        )
        return Outcome(without_answers(child))

    def apply_batch(self, instructions: Sequence[Instruction], operations: Sequence[str], *, rng: np.random.Generator) -> list[Outcome]:
        """Applies an operation to each instruction, in order."""
        return [self.apply(instruction, operation, rng=rng) for instruction, operation in zip(instructions, operations, strict=True)]

    def _reasoning(self, parent: Instruction, operation: str, rng: np.random.Generator) -> _Edit | str:
        if operation == "breadth":
            others = [family for family in self._configs if family != parent.family] or list(self._configs)
            family = pick(rng, others)
            return _instance(parent, family, self._configs[family], rng)
        if operation in ("increase_reasoning", "complicate_input"):
            attribute = "depth" if operation == "increase_reasoning" else "size"
            config = reasoning.harder(parent.family, parent.payload["config"], attribute)
            return f"{parent.family} has no greater {attribute}" if config is None else _instance(parent, parent.family, config, rng)
        return _wrapped(parent, operation, rng)

    def _request(self, parent: Instruction, operation: str, rng: np.random.Generator) -> _Edit | str:
        if operation == "breadth":
            return self._another_request(parent, rng)
        if operation == "add_constraint":
            return _extended(parent, rules.sample(_FREE_KINDS, parent.constraints, rng=rng))
        if operation == "deepen":
            return _deepened(parent, rng)
        if operation == "concretise":
            return _concretised(parent, rng)
        if operation == "increase_reasoning":
            return _more_steps(parent, rng)
        return _with_material(parent, rng)

    def _another_request(self, parent: Instruction, rng: np.random.Generator) -> _Edit:
        """Another request with the same kinds of constraint and new parameters; those that spoke of the old material or topic go."""
        others = [request for request in self._requests if request[1] != parent.body]
        if others and rng.random() < 0.5:
            family, body = pick(rng, others)
        else:
            family = pick(rng, list(TOPICS))
            first, second = rng.permutation(len(TOPICS[family].specifics))[:2]
            specifics = TOPICS[family].specifics
            body = pick(rng, TEMPLATES).format(topic=specifics[first], other=specifics[second])
        kept: list[Constraint] = []
        for constraint in parent.constraints:
            if KINDS[constraint.kind].sample is not None:
                fresh = rules.resample(constraint, kept, rng=rng)
                kept += [fresh] if fits(fresh, kept) else []
        if not kept:
            kept = list(rules.sample_stack(1, _FREE_KINDS, rng=rng))
        return _Edit(family, body, tuple(kept), {})


def _is_reasoning(instruction: Instruction) -> bool:
    return "generator" in instruction.payload


def _instance(parent: Instruction, family: str, config: dict[str, Any], rng: np.random.Generator) -> _Edit | str:
    """A fresh training instance; constraints stay where they mean something for the family."""
    drawn = reasoning.draw(family, config, "train", rng=rng, exclude={parent.body})
    if drawn is None:
        return f"{family} has no other instance at these settings"
    kept = tuple(item for item in parent.constraints if family == parent.family or _suits(item, parent.family, family))
    return _Edit(family, drawn.body, kept, drawn.payload)


def _suits(constraint: Constraint, old: str, new: str) -> bool:
    if constraint.params.get("phrase") == reasoning.FAMILIES[old].lead:
        return False
    return reasoning.FAMILIES[new].textual or not KINDS[constraint.kind].textual


def _wrapped(parent: Instruction, operation: str, rng: np.random.Generator) -> _Edit | str:
    """An exact answer can only be wrapped: anyhow (add_constraint), by saying what it is (concretise), in an object (deepen)."""
    family = reasoning.FAMILIES[parent.family]
    extra: Constraint | None
    if operation == "concretise":
        extra = Constraint("start_phrase", {"phrase": family.lead})
    elif operation == "deepen":
        extra = rules.sample(("json_object",), parent.constraints, rng=rng)
    else:
        kinds = [name for name in _ANSWER_KINDS if family.textual or not KINDS[name].textual]
        extra = rules.sample(kinds, parent.constraints, rng=rng)
    return _extended(parent, extra)


def _extended(parent: Instruction, extra: Constraint | None, *, body: str | None = None) -> _Edit | str:
    if extra is None or not fits(extra, parent.constraints):
        return "no further constraint fits"
    if len(parent.constraints) >= MAX_CONSTRAINTS:
        return f"already {MAX_CONSTRAINTS} constraints"
    return _Edit(parent.family, body or parent.body, (*parent.constraints, extra), parent.payload)


def _deepened(parent: Instruction, rng: np.random.Generator) -> _Edit | str:
    """One constraint a notch tighter; where none has a notch left, the reason is asked for."""
    tighter = [(index, harder) for index, item in enumerate(parent.constraints) if (harder := rules.tighten(item)) is not None]
    if not tighter:
        return _extended(parent, Constraint("give_reason"))
    index, harder = pick(rng, tighter)
    return _Edit(parent.family, parent.body, (*parent.constraints[:index], harder, *parent.constraints[index + 1 :]), parent.payload)


def _concretised(parent: Instruction, rng: np.random.Generator) -> _Edit | str:
    """A general noun gives way to a narrower one, or the request gets an example to keep to; either must be mentioned."""
    general = [word for word in NARROWER if re.search(rf"(?<!\w){word}(?!\w)", parent.body)]
    if general:
        word = pick(rng, general)
        narrower = pick(rng, NARROWER[word])
        if narrower not in parent.body:
            body = re.sub(rf"(?<!\w){word}(?!\w)", narrower, parent.body, count=1)
            return _extended(parent, Constraint("mention", {"phrase": narrower}), body=_mend_article(body, narrower))
    if parent.family not in TOPICS:
        return f"no slot list for the topic {parent.family}"
    specific = pick(rng, TOPICS[parent.family].specifics)
    if specific in parent.body:
        return "already as concrete as the slot list"
    gap = "\n" if "\n" in parent.body else " "
    mention = Constraint("mention", {"phrase": re.sub(r"^(an?|the) ", "", specific)})
    return _extended(parent, mention, body=f"{parent.body}{gap}Take {specific} as the example.")


def _mend_article(body: str, noun: str) -> str:
    article = "an" if noun[0] in "aeiou" else "a"
    return re.sub(rf"\b(an?) {re.escape(noun)}", f"{article} {noun}", body)


def _more_steps(parent: Instruction, rng: np.random.Generator) -> _Edit | str:
    """One more labelled step; where there are none yet two, or an order of words where steps do not fit."""
    for index, item in enumerate(parent.constraints):
        if item.kind == "step_labels":
            longer = rules.tighten(item)
            if longer is None:
                return "already at the most steps"
            kept = (*parent.constraints[:index], longer, *parent.constraints[index + 1 :])
            return _Edit(parent.family, parent.body, kept, parent.payload)
    steps = Constraint("step_labels", {"n": 2})
    return _extended(parent, steps if fits(steps, parent.constraints) else rules.sample(("word_order",), parent.constraints, rng=rng))


def _with_material(parent: Instruction, rng: np.random.Generator) -> _Edit | str:
    """Data as a table, JSON or CSV, from which the reply must name the item with the largest or smallest number."""
    if any(item.kind == "name_extreme" for item in parent.constraints):
        return "already has data"
    if parent.family not in TOPICS:
        return f"no data for the topic {parent.family}"
    topic = TOPICS[parent.family]
    count = between(rng, 3, 5)
    items = [topic.items[index] for index in rng.permutation(len(topic.items))[:count]]
    values = [int(value) for value in rng.permutation(np.arange(2, 100))[:count]]
    extreme = pick(rng, ("largest", "smallest"))
    material = _material(pick(rng, ("table", "JSON", "CSV")), topic.unit, dict(zip(items, values, strict=True)))
    asked = Constraint("name_extreme", {"items": items, "values": values, "extreme": extreme})
    return _extended(parent, asked, body=f"{parent.body}\n{material}")


def _material(form: str, unit: str, data: dict[str, int]) -> str:
    if form == "table":
        rows = "\n".join(f"| {item} | {value} |" for item, value in data.items())
        return f"Use this table.\n| item | {unit} |\n|---|---|\n{rows}"
    if form == "JSON":
        return f"Use this JSON ({unit}).\n{json.dumps(data)}"
    rows = "\n".join(f"{item},{value}" for item, value in data.items())
    return f"Use this CSV.\nitem,{unit}\n{rows}"
