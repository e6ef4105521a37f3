"""Hashed word n-grams: whether two texts share a run of words, without keeping either."""

from __future__ import annotations

import hashlib

from harness.instructions.texts import words


def ngram_hashes(text: str, n: int = 8) -> set[int]:
    """Stable 64-bit hashes of the lower-cased word n-grams of `text`; a text shorter than `n` words yields none.

    Punctuation and spacing do not count, so that a reformatted copy is still found.
    """
    assert n > 0, n
    tokens = words(text.casefold())
    return {
        int.from_bytes(hashlib.blake2b(" ".join(tokens[start : start + n]).encode(), digest_size=8).digest(), "big")
        for start in range(len(tokens) - n + 1)
    }
