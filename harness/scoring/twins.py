"""The perturbed twin of a loaded lm-eval task: the same items with another prompt; those that cannot have one set aside with the reason.

What the perturbed text is depends on the item, the perturbation, its strength and its seed alone, so the twin is the same for every model.
Prompts change and targets do not: the clean document is what answers are judged on, except where choices change places.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.core.perturbation_spec import PerturbationSpec
from harness.scoring.items import Items, Unasked, sample_id
from harness.scoring.options import another_order, reordered
from harness.scoring.perturbations import PERTURBATIONS, Perturbation, occurrences, perturb, stream

Row = dict[str, Any]
Similarities = Callable[[Sequence[tuple[str, str]]], list[float]]
"""Embedding similarity of each pair of texts."""
UNCHANGED = "nothing in it can be changed in this way"
_LONG_ANSWER = 8
"""A gold answer of more words than this is not looked for in the prompt."""
_SHORTEST_ANSWER = 3
"""Shorter ones (a letter, "no") are looked for in vain: they are in every prompt."""


@dataclass
class _Change:
    """What happens to one item: another document or another prompt, and the pairs of texts to compare."""

    doc: Row | None = None
    prompt: str | None = None
    pairs: list[tuple[str, str]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    reason: str = ""


def perturbed_twin(loaded: Any, spec: PerturbationSpec, items: Items, *, similarities: Similarities) -> tuple[Any, Items]:
    """A copy of `loaded` that shows perturbed prompts, and its items.

    Args:
        loaded: an lm-eval task; it is left as it is.
        items: which of its documents to perturb.
        similarities: asked once for all items, and only where the perturbation needs it.
    Returns:
        The twin, whose `eval_docs` are the documents that are asked, in order; and its items (indices into those documents).
    """
    kind = PERTURBATIONS[spec.name]
    every = loaded.eval_docs
    docs = [every[index] for index in items.indices]
    unfit = _unfit(loaded, kind)
    changes = [_Change(reason=unfit) if unfit else _change(loaded, kind, spec, doc) for doc in docs]
    _guard(kind, spec, changes, similarities)
    kept = [(doc, change) for doc, change in zip(docs, changes, strict=True) if not change.reason]
    set_aside = [_unasked(loaded, doc, change.reason) for doc, change in zip(docs, changes, strict=True) if change.reason]
    twin = copy.copy(loaded)
    shown = {sample_id(doc): change for doc, change in kept}
    if kind.scope == "options":
        _replace_docs(twin, [change.doc for _, change in kept if change.doc is not None])
    else:
        _replace_docs(twin, [doc for doc, _ in kept])
        twin.fewshot_context = _context(twin, kind, spec, shown)
    return twin, Items(list(range(len(kept))), [*items.unasked, *set_aside])


def _unfit(task: Any, kind: Perturbation) -> str:
    """Why no item of a task can be perturbed so; "" if some can."""
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return "the task asks nothing: it measures the text itself"
    if task.multiple_input:
        return "each choice has a prompt of its own"
    if kind.scope == "examples" and (task.config.num_fewshot or 0) < 2:
        return "the prompt has fewer than two examples"
    return ""


def _change(task: Any, kind: Perturbation, spec: PerturbationSpec, doc: Row) -> _Change:
    identity = sample_id(doc)
    if kind.scope == "examples":
        return _Change()
    if kind.scope == "options":
        found = reordered(task, doc, stream(kind.name, identity, seed=spec.seed))
        return _Change(reason=found) if isinstance(found, str) else _Change(doc={**found, "id": identity})
    fields = (task.config.metadata or {}).get("perturb") if kind.scope == "text" else None
    if fields:
        chosen = list(fields)[-1:] if kind.name == "distractor" else list(fields)
        texts = {name: str(doc[name]) for name in chosen}
        changed = {name: _perturb(text, spec, identity, _protected(task, doc), name) for name, text in texts.items()}
        pairs = [(texts[name], changed[name]) for name in chosen if texts[name] != changed[name]]
        return _Change(doc={**doc, **changed}, pairs=pairs, answers=_possible(task, doc), reason="" if pairs else UNCHANGED)
    text = task.doc_to_text(doc)
    prompt = _perturb(text, spec, identity, [*_protected(task, doc), *_answers(task, doc)])
    return _Change(prompt=prompt, pairs=[(text, prompt)], answers=_possible(task, doc), reason="" if prompt != text else UNCHANGED)


def _perturb(text: str, spec: PerturbationSpec, identity: str, protected: Collection[str], field: str = "") -> str:
    return perturb(text, spec.name, sample_id=identity, protected=protected, field=field, strength=spec.strength, seed=spec.seed)


def _protected(task: Any, doc: Row) -> list[str]:
    """What the document names, and the choices."""
    choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else []
    return [*doc.get("protected", ()), *choices]


def _answers(task: Any, doc: Row) -> list[str]:
    """Short gold answers, whole and word by word: a prompt may hold the answer that is to be found in it."""
    target = task.doc_to_target(doc)
    found = [str(one) for one in (target if isinstance(target, list) else [target]) if isinstance(one, str)]
    short = [answer for answer in found if len(answer.split()) <= _LONG_ANSWER]
    return [*short, *(word for answer in short for word in answer.split() if len(word) > 3)]


def _possible(task: Any, doc: Row) -> list[str]:
    """Choices and short gold answers of three letters or more."""
    choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else []
    return [answer for answer in (*choices, *_answers(task, doc)) if len(answer) >= _SHORTEST_ANSWER]


def _guard(kind: Perturbation, spec: PerturbationSpec, changes: list[_Change], similarities: Similarities) -> None:
    """Sets the reason of changes that alter too much: by the perturbation's exact rule, by what they bring in, by similarity."""
    least = kind.min_similarity if spec.min_similarity is None else spec.min_similarity
    for change in changes:
        if kind.preserves and not all(kind.preserves(*pair) for pair in change.pairs):
            change.reason = "rejected: more was changed than the perturbation may"
        hint = next((one for one in change.answers for clean, new in change.pairs if occurrences(new, one) > occurrences(clean, one)), None)
        if hint is not None:
            change.reason = f"rejected: the change brings in a possible answer, {hint!r}"
    asked = [change for change in changes if least and not change.reason and change.pairs]
    found = iter(similarities([pair for change in asked for pair in change.pairs]) if asked else ())
    for change in asked:
        lowest = min(next(found) for _ in change.pairs)
        if lowest < least:
            change.reason = f"rejected: embedding similarity {lowest:.2f} to the clean text is below {least:g}"


def _unasked(task: Any, doc: Row, reason: str) -> Unasked:
    identity = sample_id(doc)
    return Unasked(identity, str(doc.get("cluster", identity)), str(task.doc_to_text(doc)), reason)


def _replace_docs(task: Any, docs: list[Row]) -> None:
    """Makes `docs` the task's evaluation documents; its few-shot documents stay."""
    split = "test_docs" if task.has_test_docs() else "validation_docs"
    setattr(task, split, lambda: docs)


def _context(twin: Any, kind: Perturbation, spec: PerturbationSpec, shown: Mapping[str, _Change]) -> Callable[..., Any]:
    """The twin's `fewshot_context`: the clean document goes in, the perturbed prompt comes out."""
    original_context, original_text = twin.fewshot_context, twin.doc_to_text

    def fewshot_context(doc: Row, *args: Any, **kwargs: Any) -> Any:
        identity = sample_id(doc)
        change = shown[identity]
        if kind.scope == "examples":
            with twin.sampler.reordered(stream(kind.name, identity, seed=spec.seed)):
                return original_context(doc, *args, **kwargs)
        if change.prompt is None:
            return original_context(change.doc, *args, **kwargs)

        def doc_to_text(other: Row, *more: Any) -> Any:
            if other is doc:
                return change.prompt
            # Examples stay clean, but a template is one for the whole prompt.
            text = original_text(other, *more)
            return _perturb(text, spec, identity, ()) if kind.scope == "prompt" else text

        twin.doc_to_text = doc_to_text
        try:
            return original_context(doc, *args, **kwargs)
        finally:
            del twin.doc_to_text

    return fewshot_context


class RecordedShots:
    """Stands for a task's few-shot sampler: an item's examples are drawn once and shared by its clean and perturbed versions.

    lm-eval's own sampler draws from one stream, so a second pass over the items would get other examples. `item` names whose are drawn.
    """

    def __init__(self, sampler: Any) -> None:
        self.item = ""
        self._sampler = sampler
        self._drawn: dict[str, list[Row]] = {}
        self._rng: np.random.Generator | None = None

    def sample(self, n: int, eval_doc: Row | None = None, **options: Any) -> list[Row]:
        """The item's examples."""
        if self.item not in self._drawn:
            self._drawn[self.item] = list(self._sampler.sample(n, eval_doc, **options))
        found = self._drawn[self.item]
        return found if self._rng is None else [found[index] for index in another_order(len(found), self._rng)]

    def set_rnd(self, seed: int | None) -> None:
        """Seeds the sampler."""
        self._sampler.set_rnd(seed)

    @contextlib.contextmanager
    def reordered(self, rng: np.random.Generator) -> Iterator[None]:
        """Gives the examples in another order meanwhile."""
        self._rng = rng
        try:
            yield
        finally:
            self._rng = None
