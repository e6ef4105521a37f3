"""How much of one wording stands in another."""

from __future__ import annotations

from collections.abc import Sequence


def rouge_l(tokens: Sequence[str], others: Sequence[str]) -> float:
    """ROUGE-L F-measure of two token lists (0 where either is empty)."""
    if not tokens or not others:
        return 0.0
    return 2 * longest_common_subsequence(tokens, others) / (len(tokens) + len(others))


def longest_common_subsequence(tokens: Sequence[str], others: Sequence[str]) -> int:
    """Length of the longest common subsequence, one machine-word-parallel row a token (Hyyrö 2004)."""
    positions: dict[str, int] = {}
    for index, token in enumerate(tokens):
        positions[token] = positions.get(token, 0) | 1 << index
    everything = (1 << len(tokens)) - 1
    row = everything
    for token in others:
        matches = row & positions.get(token, 0)
        row = ((row + matches) | (row - matches)) & everything
    return len(tokens) - row.bit_count()
