"""How diverse a set of texts is: distinct n-grams, self-BLEU, compression, and the Vendi score of their embeddings.

None of these compares sets of different size or length: longer texts repeat words and compress better, more texts overlap more. Compare
through harness.stats.matched. Words are lower-case runs of letters and digits.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]

BLEU_ORDERS = 4
DISTINCT_ORDERS = (1, 2, 3)
HIGHER_IS_MORE_DIVERSE = {"vendi": True, **{f"distinct_{n}": True for n in DISTINCT_ORDERS}, "self_bleu": False, "compression_ratio": False}
"""Every metric of `measure`, and whether more of it means more diverse."""


@dataclass(frozen=True)
class Grams:
    """How often each n-gram (by number) stands in each text: three parallel arrays, a row per pair that occurs."""

    texts_G: Integers
    grams_G: Integers
    counts_G: Integers

    def subset(self, chosen_N: npt.NDArray[np.bool_]) -> Grams:
        """The rows of the chosen texts."""
        rows = chosen_N[self.texts_G]
        return Grams(self.texts_G[rows], self.grams_G[rows], self.counts_G[rows])


@dataclass(frozen=True)
class TextSet:
    """Texts prepared so that any subset is measured quickly. `words_N` are lengths in words; `embeddings_N_D` have norm 1."""

    raw: tuple[bytes, ...]
    words_N: Integers
    grams: tuple[Grams, ...]
    embeddings_N_D: Floats | None = None

    def __len__(self) -> int:
        return len(self.raw)

    @classmethod
    def of(cls, texts: Sequence[str], embeddings_N_D: Floats | None = None) -> TextSet:
        """Prepares texts.

        Raises:
            SpecError: the embeddings are not one row of norm 1 per text.
        """
        if embeddings_N_D is not None:
            _check_embeddings(embeddings_N_D, len(texts))
        tokens = [re.findall(r"[^\W_]+", text.lower()) for text in texts]
        raw = tuple(text.encode("utf-8", "replace") for text in texts)
        lengths_N = np.array([len(own) for own in tokens], dtype=np.int64)
        return cls(raw, lengths_N, tuple(_count(tokens, n) for n in range(1, BLEU_ORDERS + 1)), embeddings_N_D)

    def measure(self, chosen_I: Integers | None = None) -> dict[str, float]:
        """Every metric of the texts with these indices (all by default); one that is undefined for them is left out.

        The order of the indices matters to the compression ratio alone, and to that only where the texts exceed zlib's window of 32 KiB.
        """
        chosen_I = np.arange(len(self), dtype=np.int64) if chosen_I is None else chosen_I
        chosen_N = np.zeros(len(self), dtype=bool)
        chosen_N[chosen_I] = True
        own = [grams.subset(chosen_N) for grams in self.grams]
        found = {}
        if self.embeddings_N_D is not None and len(chosen_I):
            found["vendi"] = vendi(self.embeddings_N_D[chosen_I])
        for n in DISTINCT_ORDERS:
            if total := int(own[n - 1].counts_G.sum()):
                found[f"distinct_{n}"] = len(np.unique(own[n - 1].grams_G)) / total
        if len(chosen_I) > 1:
            found["self_bleu"] = _self_bleu(own, self.words_N, np.sort(chosen_I))
        if len(chosen_I):
            joined = b"\n".join(self.raw[index] for index in chosen_I)
            found["compression_ratio"] = len(joined) / len(zlib.compress(joined, 9))
        return found


def vendi(embeddings_N_D: Floats) -> float:
    """Vendi score: the effective number of different items, 1 (all equal) to N (all orthogonal).

    exp of the entropy of the eigenvalues of K/N with K the cosine similarities (Friedman & Dieng 2023, eq. 2). The D × D matrix has the
    same non-zero eigenvalues, so the smaller of the two is decomposed.

    Args:
        embeddings_N_D: rows of norm 1.
    """
    _check_embeddings(embeddings_N_D, len(embeddings_N_D))
    rows = np.asarray(embeddings_N_D, dtype=np.float64)
    gram = (rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows) / rows.shape[0]
    eigenvalues = np.linalg.eigvalsh(gram)
    positive = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams as a share of all (Li et al. 2016), 0 to 1.

    Raises:
        SpecError: `n` is not one of DISTINCT_ORDERS, or no text has n words.
    """
    if n not in DISTINCT_ORDERS:
        raise SpecError(f"expected one of {DISTINCT_ORDERS}", key="n", value=n)
    return _only(texts, f"distinct_{n}")


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU-4 of each text against all others (Zhu et al. 2018), 0 to 1; lower is more diverse.

    As sacrebleu's sentence BLEU with effective order and exponential smoothing, in time linear in the number of n-grams.

    Raises:
        SpecError: fewer than two texts.
    """
    return _only(texts, "self_bleu")


def compression_ratio(texts: Sequence[str]) -> float:
    """Bytes of the texts, one a line, per byte that zlib makes of them (Shaib et al. 2024); lower is more diverse.

    Raises:
        SpecError: no text.
    """
    return _only(texts, "compression_ratio")


def entropy(labels: Sequence[str]) -> float:
    """Entropy of the shares of labels in nats: 0 (one label only) to log of their number; 0 without labels."""
    shares = np.array(list(Counter(labels).values()), dtype=float) / max(1, len(labels))
    return max(0.0, float(-(shares * np.log(shares)).sum()))


def _only(texts: Sequence[str], metric: str) -> float:
    found = TextSet.of(texts).measure()
    if metric not in found:
        raise SpecError(f"{metric} is not defined for these {len(texts)} texts", key="texts")
    return found[metric]


def _check_embeddings(embeddings_N_D: Floats, n: int) -> None:
    if embeddings_N_D.ndim != 2 or len(embeddings_N_D) != n:
        raise SpecError(f"expected an array of {n} rows", key="embeddings_N_D", value=embeddings_N_D.shape)
    if not np.allclose(np.linalg.norm(embeddings_N_D, axis=1), 1, atol=1e-3):
        raise SpecError("expected rows of norm 1", key="embeddings_N_D")


def _count(tokens: Sequence[Sequence[str]], n: int) -> Grams:
    numbers: dict[tuple[str, ...], int] = {}
    rows = [
        (text, numbers.setdefault(gram, len(numbers)), count)
        for text, own in enumerate(tokens)
        for gram, count in Counter(zip(*(own[start:] for start in range(n)), strict=False)).items()
    ]
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Grams(table[:, 0], table[:, 1], table[:, 2])


def _self_bleu(grams: Sequence[Grams], words_N: Integers, chosen_I: Integers) -> float:
    lengths_I = words_N[chosen_I]
    matches_O_I = np.stack([_clipped_matches(own, len(words_N))[chosen_I] for own in grams])
    totals_O_I = np.maximum(lengths_I - np.arange(len(grams))[:, None], 0)
    log_sum_I, orders_I, penalty_I = np.zeros(len(chosen_I)), np.zeros(len(chosen_I)), np.ones(len(chosen_I))
    for matches_I, total_I in zip(matches_O_I, totals_O_I, strict=True):
        exists_I = total_I > 0
        penalty_I = np.where(exists_I & (matches_I == 0), 2 * penalty_I, penalty_I)
        precision_I = np.where(matches_I > 0, matches_I, 1 / penalty_I) / np.maximum(total_I, 1)
        log_sum_I += np.where(exists_I, np.log(precision_I), 0)
        orders_I += exists_I
    scores_I = np.exp(log_sum_I / np.maximum(orders_I, 1)) * _brevity(lengths_I)
    return float(np.where(matches_O_I.any(axis=0), scores_I, 0).mean())


def _clipped_matches(grams: Grams, n_texts: int) -> npt.NDArray[np.float64]:
    """Of each text (N,), how many of its n-grams stand in some other text, each counted at most as often as the other text has it."""
    if not len(grams.grams_G):
        return np.zeros(n_texts)
    order = np.lexsort((grams.counts_G, grams.grams_G))
    texts, ids, counts = grams.texts_G[order], grams.grams_G[order], grams.counts_G[order]
    last = np.flatnonzero(np.append(ids[1:] != ids[:-1], True))
    group_G = np.repeat(np.arange(len(last)), np.diff(last, prepend=-1))
    single = np.diff(last, prepend=-1) == 1
    second = np.where(single, 0, counts[np.maximum(last - 1, 0)])
    elsewhere_G = np.where(texts == texts[last][group_G], second[group_G], counts[last][group_G])
    return np.bincount(texts, weights=np.minimum(counts, elsewhere_G), minlength=n_texts).astype(np.float64)


def _brevity(lengths_I: Integers) -> npt.NDArray[np.float64]:
    """BLEU's brevity penalty against the other text of the closest length, the shorter one of two equally close."""
    order = np.argsort(lengths_I, kind="stable")
    ranked = lengths_I[order].astype(float)
    below, above = np.append(-np.inf, ranked[:-1]), np.append(ranked[1:], np.inf)
    closest = np.where(ranked - below <= above - ranked, below, above)
    penalty_I = np.empty(len(ranked))
    penalty_I[order] = np.where(ranked >= closest, 1.0, np.exp(1 - closest / np.maximum(ranked, 1)))
    return penalty_I
