"""Similarities are computed once for each pair of texts, kept, and charged when they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.budget import Ledger
from harness.scoring.guard import SimilarityGuard


class CountingEmbedder:
    """Embeds a text by its letters; notes every text and charges one FLOP for each."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.ledger: Ledger | None = None

    def attach(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def encode(self, texts: Sequence[str]) -> Any:
        assert self.ledger is not None
        self.seen += texts
        with self.ledger.use_phase("embed"):
            self.ledger.charge("toy", float(len(texts)), len(texts))
        counts = np.array([[text.count(letter) + 1e-9 for letter in "abcdefgh"] for text in texts])
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


PAIRS = [("abc", "abd"), ("abc", "abc"), ("aa", "bb"), ("abc", "abd")]


def test_cosines_in_the_order_of_the_pairs(tmp_path: Path) -> None:
    guard = SimilarityGuard(Ledger(account="eval"), load=CountingEmbedder, file=tmp_path / "kept")  # type: ignore[arg-type]
    assert guard.similarities(PAIRS) == pytest.approx([2 / 3, 1, 0, 2 / 3], abs=1e-6)
    assert guard.similarities([]) == []


def test_a_pair_is_embedded_once_by_whichever_process_asks_first(tmp_path: Path) -> None:
    file, embedders = tmp_path / "kept", [CountingEmbedder(), CountingEmbedder()]
    ledgers = [Ledger(account="eval"), Ledger(account="eval")]
    found = []
    for embedder, ledger in zip(embedders, ledgers, strict=True):
        guard = SimilarityGuard(ledger, load=lambda embedder=embedder: embedder, file=file)  # type: ignore[misc]
        found.append(guard.similarities(PAIRS))
    assert found[0] == found[1]
    assert sorted(embedders[0].seen) == ["aa", "abc", "abd", "bb"]
    assert embedders[1].seen == []
    assert ledgers[0].spent("eval") == 4
    assert {row["phase"] for row in ledgers[0].rows()} == {"embed"}
    assert ledgers[1].spent("eval") == 0


def test_swapped_pairs_and_texts_with_separators_are_told_apart(tmp_path: Path) -> None:
    guard = SimilarityGuard(Ledger(account="eval"), load=CountingEmbedder, file=tmp_path / "kept")  # type: ignore[arg-type]
    assert guard.similarities([("a", "ab")]) != guard.similarities([("aa", "b")])
