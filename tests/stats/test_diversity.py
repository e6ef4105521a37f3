import math
import zlib

import numpy as np
import pytest
from sacrebleu import sentence_bleu

from harness.errors import SpecError
from harness.seeds import generator
from harness.stats.diversity import (
    HIGHER_IS_MORE_DIVERSE,
    TextSet,
    compression_ratio,
    distinct_n,
    entropy,
    self_bleu,
    vendi,
)


def sentences(n: int, *, vocabulary: int = 30, rng: np.random.Generator, longest: int = 12) -> list[str]:
    return [" ".join(f"w{word}" for word in rng.integers(0, vocabulary, rng.integers(1, longest + 1))) for _ in range(n)]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_vendi_counts_different_items() -> None:
    assert vendi(np.eye(7)) == pytest.approx(7)
    assert vendi(np.ones((7, 4)) / 2) == pytest.approx(1)
    assert vendi(np.repeat(np.eye(3), 5, axis=0)) == pytest.approx(3), "more rows than dimensions, equal shares"
    cosine = 0.6
    two = np.array([[1, 0], [cosine, math.sqrt(1 - cosine**2)]])
    shares = np.array([(1 + cosine) / 2, (1 - cosine) / 2])
    assert vendi(two) == pytest.approx(math.exp(-(shares * np.log(shares)).sum())), "closed form of two items"


def test_vendi_is_the_same_through_either_matrix() -> None:
    rows = unit(generator("vendi").normal(size=(9, 9)))
    padded = np.hstack([rows, np.zeros((9, 20))])
    tall = np.vstack([padded, padded])
    assert vendi(padded) == pytest.approx(vendi(rows))
    assert vendi(np.vstack([tall, tall])) == pytest.approx(vendi(padded)), "36 rows in 29 dimensions: the other matrix, same shares"
    assert vendi(np.vstack([tall, tall, tall])[:, ::-1].astype(np.float32)) == pytest.approx(vendi(padded), rel=1e-4)


def test_vendi_refuses_what_is_no_cosine() -> None:
    with pytest.raises(SpecError, match="norm 1"):
        vendi(2 * np.eye(3))
    with pytest.raises(SpecError, match="array of 2 rows"):
        TextSet.of(["a", "b"], np.eye(3))


def test_distinct_n_by_hand() -> None:
    assert distinct_n(["The cat, the CAT!"], 1) == 0.5
    assert distinct_n(["the cat the cat"], 2) == pytest.approx(2 / 3)
    assert distinct_n(["a b", "b c"], 2) == 1.0, "n-grams do not cross texts"
    with pytest.raises(SpecError, match="not defined for these 1 texts"):
        distinct_n(["one two"], 3)
    with pytest.raises(SpecError, match="expected one of"):
        distinct_n(["one two"], 0)


def test_compression_is_zlibs() -> None:
    texts = ["abc abc", "abc déf"]
    raw = "\n".join(texts).encode()
    assert compression_ratio(texts) == len(raw) / len(zlib.compress(raw, 9))
    assert compression_ratio(["same words here"] * 40) > 5 * compression_ratio(sentences(40, rng=generator("z"), vocabulary=10**6))


def test_self_bleu_is_sacrebleus_against_all_others() -> None:
    rng = generator("self-bleu")
    for vocabulary in (3, 12, 200):
        texts = sentences(14, vocabulary=vocabulary, rng=rng)
        texts += [texts[0], "w1 w1 w1 w1 w1"]
        expected = [
            sentence_bleu(text, texts[:index] + texts[index + 1 :], tokenize="none", use_effective_order=True).score / 100
            for index, text in enumerate(texts)
        ]
        assert self_bleu(texts) == pytest.approx(np.mean(expected), abs=1e-12)


def test_self_bleu_at_its_ends() -> None:
    assert self_bleu(["a b c d e"] * 3) == pytest.approx(1)
    assert self_bleu(["a b c d e", "f g h i j"]) == 0
    with pytest.raises(SpecError, match="not defined"):
        self_bleu(["alone"])


def test_entropy() -> None:
    assert entropy(["a", "b", "c", "d"]) == pytest.approx(math.log(4))
    assert entropy(["a", "a"]) == 0
    assert entropy([]) == 0


def test_any_subset_measures_as_if_it_were_alone() -> None:
    rng = generator("subset")
    texts = sentences(30, rng=rng)
    embeddings = unit(rng.normal(size=(30, 8)))
    chosen = rng.choice(30, 11, replace=False)
    whole = TextSet.of(texts, embeddings)
    alone = TextSet.of([texts[index] for index in chosen], embeddings[chosen])
    assert whole.measure(chosen) == pytest.approx(alone.measure())
    assert whole.measure().keys() == HIGHER_IS_MORE_DIVERSE.keys()


def test_more_copies_look_less_diverse_by_every_metric() -> None:
    rng = generator("copies")
    texts, embeddings = sentences(20, rng=rng, vocabulary=500), unit(rng.normal(size=(20, 64)))
    varied = TextSet.of(texts, embeddings).measure()
    copied = TextSet.of([texts[index % 4] for index in range(20)], embeddings[np.arange(20) % 4]).measure()
    for metric, higher in HIGHER_IS_MORE_DIVERSE.items():
        assert (varied[metric] > copied[metric]) == higher, metric


def test_hostile_texts_are_measured() -> None:
    found = TextSet.of(["", "\ud800 \x00", "", "?!"]).measure()
    assert found.keys() == {"self_bleu", "compression_ratio"}, "without words there is nothing distinct"
    assert found["self_bleu"] == 0
    assert TextSet.of([]).measure() == {}
