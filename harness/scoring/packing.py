"""Plans a set of log-likelihood requests so that every shared token is computed once, without padding.

Requests become blocks (token trees: a context with its choices; contexts that overlap by half join one tree). Blocks whose contexts
begin alike over many tokens (few-shot examples) share a trunk, whose keys and values are computed once. Packs of blocks on one trunk are
what the model is given at a time. No torch here: plans depend on the requests and the budgets alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

_SIMILAR = 0.6
"""Blocks shorter than this share of the longest go to another bucket."""

TokenPair = tuple[tuple[int, ...], tuple[int, ...]]
"""Context and continuation token ids; neither is empty."""


class Prediction(NamedTuple):
    """One predicted token: the position in the block that it is predicted from, the token, and the pair that it counts for."""

    source: int
    target: int
    pair: TokenPair


@dataclass(frozen=True)
class Block:
    """A tree of tokens: `root` is a chain, every later node names its parent (a position in the block, root included)."""

    root: tuple[int, ...]
    nodes: tuple[int, ...]
    parents: tuple[int, ...]
    predictions: tuple[Prediction, ...]

    @property
    def size(self) -> int:
        """Tokens, those of a trunk included."""
        return len(self.root) + len(self.nodes)


@dataclass(frozen=True)
class Pack:
    """Blocks computed at once, all of whose roots begin with `trunk`."""

    trunk: tuple[int, ...]
    blocks: tuple[Block, ...]

    @property
    def tokens(self) -> int:
        """Tokens to compute, the trunk's not included."""
        return sum(block.size - len(self.trunk) for block in self.blocks)

    @property
    def pairs(self) -> list[TokenPair]:
        """The pairs that this pack scores."""
        return list(dict.fromkeys(prediction.pair for block in self.blocks for prediction in block.predictions))

    def halves(self) -> tuple[Pack, Pack]:
        """The same work in two packs; needs two blocks."""
        middle = len(self.blocks) // 2
        return Pack(self.trunk, self.blocks[:middle]), Pack(self.trunk, self.blocks[middle:])


def truncate(context: Sequence[int], continuation: Sequence[int], max_length: int) -> TokenPair:
    """Drops context tokens from the left until the fed tokens (all but the last) fit into `max_length`, as lm-eval does."""
    assert min(len(context), len(continuation)) > 0, (len(context), len(continuation))
    assert len(continuation) <= max_length, (len(continuation), max_length)
    return tuple(context[-(max_length + 1 - len(continuation)) :]), tuple(continuation)


def plan(pairs: Sequence[TokenPair], *, token_budget: int, prediction_budget: int) -> list[Pack]:
    """Packs that score every distinct pair once, in an order that does not depend on the order of `pairs`; the largest come first.

    Args:
        token_budget: most tokens computed at once (a single block may exceed it). A trunk is used where it saves a quarter of it.
        prediction_budget: most positions at once that the output head is evaluated at (a single block may exceed it).
    """
    by_context: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
    for context, continuation in pairs:
        by_context.setdefault(context, {})[continuation] = None
    contexts = sorted(by_context, key=_sort_key)
    shared = [0, *(_common(before, after) for before, after in pairwise(contexts))]
    packs: list[Pack] = []
    for start, end, trunk_length in _segments(shared, token_budget // 4):
        blocks = []
        for group in _groups(contexts[start:end], shared[start:end], trunk_length, token_budget // 4):
            blocks.append(_block([(context, continuation) for context in group for continuation in sorted(by_context[context])]))
        blocks.sort(key=lambda block: (-block.size, block.root, block.nodes))
        packs += _cut(contexts[start][:trunk_length], blocks, token_budget, prediction_budget)
    return sorted(packs, key=lambda pack: -(len(pack.trunk) + pack.blocks[0].size))


def _sort_key(context: tuple[int, ...]) -> bytes:
    return np.asarray(context, dtype=">u4").tobytes()


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Tokens that both begin with, without the last of either: it is predicted from."""
    length = min(len(one), len(other)) - 1
    differs = np.asarray(one[:length]) != np.asarray(other[:length])
    return int(differs.argmax()) if differs.any() else length


def _segments(shared: Sequence[int], overhead: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, trunk length): which runs of the sorted contexts share a trunk, so that the fewest tokens are computed.

    `shared[i]` is what context i has in common with i - 1. A trunk of length l for n contexts saves (n - 1)·l tokens and costs
    `overhead`. The runs are nodes of the tree of common prefixes, visited from its leaves: a node has a trunk of its own if that saves
    more than all trunks below it together.
    """
    Run = tuple[int, int, int]
    open_nodes: list[tuple[int, int, float, list[Run]]] = [(0, 0, 0.0, [])]  # length, start, saved below, runs below
    for index in range(1, len(shared) + 1):
        length = shared[index] if index < len(shared) else 0
        start, saved, runs = index - 1, 0.0, list[Run]()
        while open_nodes[-1][0] > length:
            node_length, start, below, runs_below = open_nodes.pop()
            own = (index - 1 - start) * node_length - overhead
            saved, runs = (own, [(start, index, node_length)]) if own > max(below, 0) else (below, runs_below)
            if open_nodes[-1][0] >= length:
                parent_length, parent_start, parent_saved, parent_runs = open_nodes.pop()
                open_nodes.append((parent_length, parent_start, parent_saved + saved, [*parent_runs, *runs]))
                saved, runs = 0.0, []
        if length > open_nodes[-1][0]:
            open_nodes.append((length, start, saved, runs))
    at = 0
    alone: list[Run] = []
    for start, end, length in sorted(open_nodes[0][3]):
        if start > at:
            alone.append((at, start, 0))
        yield start, end, length
        at = end
    if at < len(shared):
        alone.append((at, len(shared), 0))
    yield from alone


def _groups(
    contexts: Sequence[tuple[int, ...]], shared: Sequence[int], trunk_length: int, most_tokens: int
) -> Iterator[list[tuple[int, ...]]]:
    """Runs of contexts that make one block: each has half of its tokens after the trunk in common with the one before."""
    group: list[tuple[int, ...]] = []
    size = 0
    for context, common in zip(contexts, shared, strict=True):
        own = len(context) - trunk_length
        new = len(context) - common
        if group and 2 * new <= own and size + new <= most_tokens:
            group.append(context)
            size += new
            continue
        if group:
            yield group
        group, size = [context], own
    if group:
        yield group


def _block(pairs: Sequence[TokenPair]) -> Block:
    """The tree of what is fed for `pairs`: context and continuation without its last token."""
    chains = [(*context, *continuation[:-1]) for context, continuation in pairs]
    first, last = min(chains), max(chains)
    length = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    nodes: list[int] = []
    parents: list[int] = []
    found: dict[tuple[int, int], int] = {}
    predictions: list[Prediction] = []
    for pair, chain in zip(pairs, chains, strict=True):
        context, continuation = pair
        path = list(range(length))
        for token in chain[length:]:
            step = (path[-1], token)
            if step not in found:
                found[step] = length + len(nodes)
                nodes.append(token)
                parents.append(path[-1])
            path.append(found[step])
        predictions += [Prediction(path[len(context) - 1 + index], target, pair) for index, target in enumerate(continuation)]
    return Block(chains[0][:length], tuple(nodes), tuple(parents), tuple(predictions))


def _cut(trunk: tuple[int, ...], blocks: Sequence[Block], token_budget: int, prediction_budget: int) -> Iterator[Pack]:
    batch: list[Block] = []
    tokens = predictions = 0
    for block in blocks:
        new_tokens, new_predictions = block.size - len(trunk), len({prediction.source for prediction in block.predictions})
        if batch and (tokens + new_tokens > token_budget or predictions + new_predictions > prediction_budget):
            yield Pack(trunk, tuple(batch))
            batch, tokens, predictions = [], 0, 0
        batch.append(block)
        tokens, predictions = tokens + new_tokens, predictions + new_predictions
    if batch:
        yield Pack(trunk, tuple(batch))


@dataclass(frozen=True)
class Bucket:
    """Blocks of similar length, padded to the longest in attention's view: N blocks of at most L tokens, places `start` to `end`.

    Attributes:
        slot_N_L: for each block its tokens' places (`start` where it has none).
        row_T: for each token its place in the flattened N x L.
        visible_N_L_K: which of the P trunk tokens and L block tokens each token sees; a padding row sees the first.
    """

    start: int
    end: int
    slot_N_L: np.ndarray
    row_T: np.ndarray
    visible_N_L_K: np.ndarray


@dataclass(frozen=True)
class Layout:
    """A pack as arrays: T tokens side by side without padding.

    Attributes:
        trunk_length: tokens before them that all see.
        ids_T, position_T: the tokens, and their positions in their own texts.
        source_K: the places that something is predicted from; prediction r is `target_R[r]` from `source_K[row_R[r]]` for pair
            `pair_R[r]` of `pairs`.
    """

    trunk_length: int
    ids_T: np.ndarray
    position_T: np.ndarray
    buckets: tuple[Bucket, ...]
    source_K: np.ndarray
    row_R: np.ndarray
    target_R: np.ndarray
    pair_R: np.ndarray
    pairs: list[TokenPair]


def lay_out(pack: Pack) -> Layout:
    """Arranges a pack, whose blocks must come longest first or nearly so."""
    skip = len(pack.trunk)
    sizes = [block.size - skip for block in pack.blocks]
    offsets = np.cumsum([0, *sizes])
    ids, positions = np.empty(offsets[-1], dtype=np.int64), np.empty(offsets[-1], dtype=np.int64)
    sources, targets, pair_rows = list[int](), list[int](), list[int]()
    pair_index: dict[TokenPair, int] = {}
    for start, end, block in zip(offsets, offsets[1:], pack.blocks, strict=False):
        ids[start:end] = (*block.root[skip:], *block.nodes)
        positions[start:end] = skip + _depths(block, skip)
        for prediction in block.predictions:
            sources.append(start + prediction.source - skip)
            targets.append(prediction.target)
            pair_rows.append(pair_index.setdefault(prediction.pair, len(pair_index)))
    source_K, row_R = np.unique(np.asarray(sources), return_inverse=True)
    buckets = tuple(_bucket(pack.blocks[first:last], sizes[first:last], int(offsets[first]), skip) for first, last in _similar(sizes))
    return Layout(skip, ids, positions, buckets, source_K, row_R, np.asarray(targets), np.asarray(pair_rows), list(pair_index))


def _depths(block: Block, skip: int) -> np.ndarray:
    """Each own token's distance from the first own token along its chain."""
    depth = np.arange(block.size - skip)
    for node, parent in enumerate(block.parents, start=len(block.root) - skip):
        depth[node] = depth[parent - skip] + 1
    return depth


def _similar(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cuts falling sizes into runs, so that padding a run to its longest is cheap."""
    first = 0
    for index, size in enumerate(sizes):
        if size < _SIMILAR * sizes[first]:
            yield first, index
            first = index
    yield first, len(sizes)


def _bucket(blocks: Sequence[Block], sizes: Sequence[int], start: int, skip: int) -> Bucket:
    count, width = len(sizes), max(sizes)
    slot_N_L = np.full((count, width), start)
    visible = np.zeros((count, width, skip + width), dtype=bool)
    triangle = np.tri(width, dtype=bool)
    rows, at = [], start
    for row, (block, size) in enumerate(zip(blocks, sizes, strict=True)):
        slot_N_L[row, :size] = np.arange(at, at + size)
        rows.append(row * width + np.arange(size))
        at += size
        chain = len(block.root) - skip
        visible[row, :size, :skip] = True
        visible[row, size:, 0] = True
        own_L_L = visible[row, :, skip:]
        own_L_L[:chain, :chain] = triangle[:chain, :chain]
        for node, parent in enumerate(block.parents, start=chain):
            own_L_L[node] = own_L_L[parent - skip]
            own_L_L[node, node] = True
    return Bucket(start, at, slot_N_L, np.concatenate(rows), visible)
