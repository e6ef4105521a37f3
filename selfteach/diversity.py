"""Diversity of evolved corpora against a control's: harness.stats.corpora on entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.stats.corpora import CorpusComparison
from harness.stats.corpora import compare_corpora as compare_rows
from harness.stats.matched import DRAWS
from selfteach.corpus import Entry
from selfteach.roles import TextEncoder


def compare_corpora(
    a_entries_by_seed: Mapping[int, Sequence[Entry]],
    b_entries_by_seed: Mapping[int, Sequence[Entry]],
    *,
    encoder: TextEncoder | None,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> CorpusComparison:
    """Compares two policies' corpora at equal size and length of the kept instructions, paired over the training seeds that both have.

    Args:
        encoder: for the Vendi score, which is left out without one.
        draws: how often the larger corpus is cut to the smaller one's size and lengths.
    Raises:
        SpecError: they share no training seed.
    """
    a_rows, b_rows = (
        {seed: [entry.row() for entry in entries] for seed, entries in by_seed.items()}
        for by_seed in (a_entries_by_seed, b_entries_by_seed)
    )
    return compare_rows(a_rows, b_rows, encode=encoder.encode if encoder else None, rng=rng, draws=draws)
