"""Self-made corpora compared over training seeds: what was kept and verified, which operations were used, how diverse the kept texts are.

Diversity is compared at equal size and length (harness.stats.matched); shares and entropy need no matching. A corpus is its rows
(harness.core.corpus), a method's corpora are keyed by training seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.corpus import Row
from harness.errors import SpecError
from harness.stats.diversity import Floats, TextSet, entropy
from harness.stats.matched import DRAWS, Difference, SeedPair, compare_matched, paired_differences

Encode = Callable[[Sequence[str]], Floats]
"""Texts to embeddings of norm 1."""


@dataclass(frozen=True)
class CorpusComparison:
    """a against b, over training seeds.

    Attributes:
        yields: differences of the `corpus_yield` of every shared seed.
        diversity: differences at equal size and length, over the seeds in `pairs`.
        pairs: what was matched, by seed.
        skipped: why a shared seed could not be matched.
    """

    yields: dict[str, Difference]
    diversity: dict[str, Difference]
    pairs: dict[int, SeedPair]
    skipped: dict[int, str]


def corpus_yield(rows: Sequence[Row]) -> dict[str, float]:
    """What evolving came to: instructions made and kept, share kept, share of the answered that was verified, entropy of operations (nats).

    Shares of nothing are left out.
    """
    answered = [row for row in rows if row["pass_rate"] is not None]
    found = {"made": float(len(rows)), "kept": float(sum(row["kept"] for row in rows))}
    if rows:
        found["kept_share"] = found["kept"] / len(rows)
        found["operation_entropy"] = entropy([row["operation"] for row in rows])
    if answered:
        found["verified_share"] = sum(bool(row["verified"]) for row in answered) / len(answered)
    return found


def kept_texts(rows: Sequence[Row], encode: Encode | None = None) -> TextSet:
    """The kept instructions, ready to be measured; the Vendi score needs `encode`."""
    texts = [row["instruction"] for row in rows if row["kept"]]
    return TextSet.of(texts, encode(texts) if encode is not None and texts else None)


def compare_corpora(
    a_by_seed: Mapping[int, Sequence[Row]],
    b_by_seed: Mapping[int, Sequence[Row]],
    *,
    encode: Encode | None = None,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> CorpusComparison:
    """Compares two methods' corpora, paired over the training seeds that both have.

    Raises:
        SpecError: they share no training seed.
    """
    seeds = sorted(a_by_seed.keys() & b_by_seed.keys())
    if not seeds:
        raise SpecError("no training seed in common", value=(sorted(a_by_seed), sorted(b_by_seed)))
    yields = paired_differences(*({seed: corpus_yield(by_seed[seed]) for seed in seeds} for by_seed in (a_by_seed, b_by_seed)))
    pairs: dict[int, SeedPair] = {}
    skipped: dict[int, str] = {}
    for seed, own_rng in zip(seeds, rng.spawn(len(seeds)), strict=True):
        a, b = kept_texts(a_by_seed[seed], encode), kept_texts(b_by_seed[seed], encode)
        try:
            pairs[seed] = compare_matched(a, b, rng=own_rng, draws=draws)
        except SpecError as error:
            skipped[seed] = str(error)
    diversity = (
        paired_differences({seed: pair.a for seed, pair in pairs.items()}, {seed: pair.b for seed, pair in pairs.items()}) if pairs else {}
    )
    return CorpusComparison(yields, diversity, pairs, skipped)
