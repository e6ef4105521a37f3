"""Lines up the same items of every model and checkpoint; what does not match is refused with counts, or counted and shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from harness.compare.cells import Cell, FloatArray, counted, shown
from harness.compare.numbers import lower_is_better
from harness.errors import SpecError


@dataclass(frozen=True)
class Aligned:
    """One task and metric on the items that all models share.

    Attributes:
        scores: per model an array (its checkpoints, N items); NaN = no score.
        seeds: per model its checkpoints' labels, in the order of the rows.
        cluster_N: codes of the items' clusters, None where every item is its own.
    """

    task: str
    metric: str
    items: pa.Array
    scores: dict[str, FloatArray]
    seeds: dict[str, list[str]]
    cluster_N: npt.NDArray[np.int64] | None
    higher_is_better: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Task and metric, for messages."""
        return f"{self.task} ({self.metric})"


@dataclass(frozen=True)
class Common:
    """The tasks that every model has, aligned, and what was left out."""

    models: list[str]
    tasks: list[Aligned]
    warnings: list[str]
    notes: list[str] = field(default_factory=list)


def align(
    cells: Sequence[Cell],
    *,
    models: Sequence[str] = (),
    metrics: Sequence[str] = (),
    lower: Sequence[str] = (),
    intersect: bool = False,
) -> Common:
    """Aligns what all models have.

    Args:
        models: only these, in this order; empty = all, in order of appearance.
        metrics: only these; empty = all.
        lower: metrics that are better when lower, beside those known to be.
        intersect: where items or checkpoints differ, keep those that all have instead of refusing.
    Raises:
        SpecError: fewer than two models, nothing in common, or items that do not match.
    """
    present = list(dict.fromkeys(cell.model for cell in cells))
    wanted = _chosen(list(dict.fromkeys(models)), present, "--models") if models else present
    if len(wanted) < 2:
        raise SpecError(
            f"a comparison needs two models, here is only {', '.join(map(repr, wanted)) or 'none'}; give a second log, or name the column "
            "of models with --model-column", key="LOG",
        )  # fmt: skip
    cells = [cell for cell in cells if cell.model in wanted]
    if metrics:
        kept = set(_chosen(metrics, list(dict.fromkeys(cell.metric for cell in cells)), "--metric"))
        cells = [cell for cell in cells if cell.metric in kept]
    hidden: list[str] = []
    if not metrics and not all(cell.secondary for cell in cells):
        hidden = list(dict.fromkeys(f"{cell.task} ({cell.metric})" for cell in cells if cell.secondary))
        cells = [cell for cell in cells if not cell.secondary]
    for name in lower:
        _chosen([name], list(dict.fromkeys(cell.metric for cell in cells)), "--lower-is-better")
    grouped: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for cell in cells:
        grouped.setdefault((cell.task, cell.metric), {}).setdefault(cell.model, []).append(cell)
    shared = {key: owners for key, owners in grouped.items() if len(owners) == len(wanted)}
    if not shared:
        raise SpecError(f"the logs share no task and metric: {_what_each_has(grouped, wanted)}", key="LOG")
    tasks = [_aligned(task, metric, {m: shared[task, metric][m] for m in wanted}, lower, intersect) for task, metric in shared]
    warnings = _left_out(grouped, shared, wanted)
    notes = [f"only each task's own metric is compared, no validation task; --metric shows the others: {_some(hidden)}"] if hidden else []
    return Common(list(wanted), tasks, warnings + _merged([task.warnings for task in tasks]), notes)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{', '.join(names[:4])}{more}"


def _chosen(names: Sequence[str], present: list[str], option: str) -> list[str]:
    for name in names:
        if name not in present:
            raise SpecError("the logs have nothing of this name", key=option, value=name, valid=present[:60])
    return list(names)


def _what_each_has(grouped: dict[tuple[str, str], dict[str, list[Cell]]], models: list[str]) -> str:
    parts = []
    for model in models[:4]:
        mine = [f"{task} ({metric})" for (task, metric), owners in grouped.items() if model in owners]
        more = f" and {len(mine) - 3} more" if len(mine) > 3 else ""
        parts.append(f"{model!r} has {', '.join(mine[:3]) or 'none of them'}{more}")
    return "; ".join(parts)


def _left_out(
    grouped: dict[tuple[str, str], dict[str, list[Cell]]], shared: dict[tuple[str, str], dict[str, list[Cell]]], models: list[str]
) -> list[str]:
    lines = []
    for (task, metric), owners in grouped.items():
        if (task, metric) not in shared:
            lines.append(f"{task} ({metric}) only by {', '.join(model for model in models if model in owners)}")
    if not lines:
        return []
    return [f"not compared, because not every model has it: {'; '.join(lines[:5])}{f'; {len(lines) - 5} more' if len(lines) > 5 else ''}"]


def _aligned(task: str, metric: str, owners: dict[str, list[Cell]], lower: Sequence[str], intersect: bool) -> Aligned:
    flat = [cell for cells in owners.values() for cell in cells]
    warnings: list[str] = []
    items = _shared_items(task, metric, flat, intersect, warnings)
    places = {id(cell): pc.index_in(items, value_set=cell.item_N) for cell in flat}
    items, places = _same_questions(task, items, places, flat, intersect, warnings)
    _compare_prompts(task, places, flat, warnings)
    scores: dict[str, FloatArray] = {}
    for model, cells in owners.items():
        scores[model] = np.stack([cell.score_N[places[id(cell)].to_numpy()] for cell in cells])
    seeds = {model: [cell.seed for cell in cells] for model, cells in owners.items()}
    cluster_N = _clusters(task, flat, places, warnings)
    higher = _direction(task, metric, flat, lower)
    unscored = {model: int(np.isnan(values).any(axis=0).sum()) for model, values in scores.items()}
    if any(unscored.values()):
        counts = ", ".join(f"{model} {count}" for model, count in unscored.items() if count)
        warnings.append(f"{task} ({metric}): items without a score, left out of both sides of {len(items)}: {counts}")
    return Aligned(task, metric, items, scores, seeds, cluster_N, higher, warnings)


def _shared_items(task: str, metric: str, cells: list[Cell], intersect: bool, warnings: list[str]) -> pa.Array:
    first = cells[0].item_N
    if all(cell.item_N.equals(first) for cell in cells[1:]):
        return first
    common = first
    for cell in cells[1:]:
        common = common.filter(pc.is_in(common, value_set=cell.item_N))
    sizes: dict[str, set[int]] = {}
    for cell in cells:
        sizes.setdefault(cell.model, set()).add(len(cell.item_N))
    if all(len(cell.item_N) == len(common) for cell in cells):
        return common
    counts = ", ".join(f"{model!r} has {'/'.join(map(str, sorted(found)))}" for model, found in list(sizes.items())[:6])
    owner = max(cells, key=lambda cell: len(cell.item_N) - len(common))
    alone = owner.item_N.filter(pc.invert(pc.is_in(owner.item_N, value_set=common)))[0].as_py()
    text = f"{task} ({metric}): {counted(len(common), 'common item')}; {counts}; {shown(alone)} of {owner.model!r} is not in all"
    if not len(common):
        raise SpecError(f"no item is in every log: {counts}, e.g. {shown(alone)} of {owner.model!r}", key=f"{task} ({metric})")
    if not intersect:
        raise SpecError(f"{text}. --intersect compares only what all have")
    warnings.append(f"{text}; compared on the common ones (--intersect)")
    return common


def _same_questions(
    task: str, items: pa.Array, places: dict[int, pa.Array], cells: list[Cell], intersect: bool, warnings: list[str]
) -> tuple[pa.Array, dict[int, pa.Array]]:
    """Refuses items whose id is the same but whose question or target is not."""
    fingerprints = [pc.take(cell.content_N, places[id(cell)]) for cell in cells if cell.content_N is not None]
    same = np.ones(len(items), dtype=bool)
    for other in fingerprints[1:]:
        same &= pc.equal(fingerprints[0], other).to_numpy(zero_copy_only=False)
    different = int((~same).sum())
    if not different:
        return items, places
    example = items[int(np.flatnonzero(~same)[0])].as_py()
    text = f"{task}: {different} of {len(items)} items have the same id but another question or target, e.g. {shown(example)}"
    if not intersect or different == len(items):
        remedy = "" if different == len(items) else f". --intersect compares the other {len(items) - different}"
        raise SpecError(f"{text}: other data or another version of the task{remedy}")
    warnings.append(f"{text}; left out (--intersect)")
    keep = pa.array(same)
    return items.filter(keep), {key: place.filter(keep) for key, place in places.items()}


def _compare_prompts(task: str, places: dict[int, pa.Array], cells: list[Cell], warnings: list[str]) -> None:
    prompts = [pc.take(cell.prompt_N, places[id(cell)]) for cell in cells if cell.prompt_N is not None]
    for other in prompts[1:]:
        different = pc.sum(pc.not_equal(prompts[0], other)).as_py() or 0
        if different:
            warnings.append(f"{task}: the models were given different prompts for {different} of {len(other)} items")
            break
    for key in dict.fromkeys(key for cell in cells for key in cell.setup):
        values = Counter(cell.setup[key] for cell in cells if key in cell.setup)
        if len(values) > 1:
            warnings.append(f"{task}: the logs differ in {key}: {', '.join(map(shown, values))}")


def _clusters(task: str, cells: list[Cell], places: dict[int, pa.Array], warnings: list[str]) -> npt.NDArray[np.int64] | None:
    found = [pc.take(cell.cluster_N, places[id(cell)]) for cell in cells if cell.cluster_N is not None]
    if not found:
        return None
    for other in found[1:]:
        different = pc.sum(pc.not_equal(found[0], other)).as_py() or 0
        if different:
            raise SpecError(f"{different} of {len(other)} items are in another cluster in another log", key=f"{task}: cluster")
    encoded = found[0].dictionary_encode()
    codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    if len(encoded.dictionary) == 1 and len(codes) > 1:
        raise SpecError(f"all {len(codes)} items are in one cluster, {shown(encoded.dictionary[0].as_py())}", key=f"{task}: cluster")
    return None if len(encoded.dictionary) == len(codes) else codes


def _direction(task: str, metric: str, cells: list[Cell], lower: Sequence[str]) -> bool:
    told = {cell.higher_is_better for cell in cells if cell.higher_is_better is not None}
    if metric in lower:
        return False
    if len(told) > 1:
        raise SpecError("one log says higher is better, another lower; --lower-is-better decides", key=f"{task} ({metric})")
    return told.pop() if told else not lower_is_better(metric)


def _merged(lists: list[list[str]]) -> list[str]:
    """All warnings; those that many tasks share would bury the rest, so each kind is shown for three tasks."""
    kinds: Counter[str] = Counter()
    kept, hidden = [], Counter[str]()
    for warning in (warning for warnings in lists for warning in warnings):
        kind = warning.partition(": ")[2][:24]
        kinds[kind] += 1
        if kinds[kind] <= 3:
            kept.append(warning)
        else:
            hidden[kind] += 1
    return kept + [f"… and {count} more like “{kind}…”" for kind, count in hidden.items()]
