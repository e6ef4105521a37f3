import dataclasses

import numpy as np
import pytest
from stand_ins import HashingEncoder
from test_corpus import REJECTED, entry

from harness.errors import SpecError
from harness.seeds import generator
from selfteach.corpus import Entry
from selfteach.diversity import compare_corpora


def corpus(n: int, variety: int, *, operations: int = 1, rejected: int = 0, seed: int = 0) -> list[Entry]:
    """`n` kept entries on `variety` different subjects, then rejected ones."""
    kept = [
        entry(id=f"{index}", instruction=f"Say w{(seed + index) % variety} of o{index % variety} now.", operation=f"op{index % operations}")
        for index in range(n)
    ]
    return kept + [
        entry(id=f"r{index}", instruction=f"rejected {index}", **REJECTED, reject_reason="duplicate") for index in range(rejected)
    ]


def test_the_more_diverse_policy_is_found_by_every_measure() -> None:
    varied = {seed: corpus(30, 25 + seed, operations=6, rejected=10, seed=seed) for seed in range(4)}
    dull = {seed: corpus(20, 4, rejected=20, seed=seed) for seed in range(4)}
    found = compare_corpora(varied, dull, encoder=HashingEncoder(), rng=generator("diversity"), draws=10)
    assert {seed: (pair.n, pair.n_a, pair.n_b) for seed, pair in found.pairs.items()} == dict.fromkeys(range(4), (20, 30, 20))
    for metric in ("vendi", "distinct_1", "distinct_2"):
        low, _ = found.diversity[metric].interval or (0, 0)
        assert low > 0, metric
    for metric in ("self_bleu", "compression_ratio"):
        _, high = found.diversity[metric].interval or (0, 0)
        assert high < 0, metric
    assert 1 < found.diversity["vendi"].b < 4, "four subjects, the rest of the words shared"
    assert found.yields["kept_share"].difference == pytest.approx(30 / 40 - 20 / 40)
    assert found.yields["operation_entropy"].b == pytest.approx(np.log(2), abs=1e-9), "op0 and, of the rejected, deepen: half each"
    assert found.yields["verified_share"].difference == 0, "every answered entry is verified in both"


def test_only_kept_texts_are_measured_and_embedded_only_on_request() -> None:
    a, b = {0: corpus(10, 10)}, {0: corpus(10, 10, rejected=30)}
    encoder = HashingEncoder()
    found = compare_corpora(a, b, encoder=encoder, rng=generator("kept"), draws=2)
    assert found.diversity["distinct_1"].difference == 0
    assert found.diversity["distinct_1"].interval is None, "one training seed says nothing of others"
    assert not any("rejected" in text for text in encoder.texts)
    assert "vendi" not in compare_corpora(a, b, encoder=None, rng=generator("kept"), draws=2).diversity


def test_same_rng_same_answer_and_one_seed_does_not_move_another() -> None:
    a = {seed: corpus(30, 20, seed=seed) for seed in (0, 1)}
    b = {seed: corpus(12, 9, seed=seed) for seed in (0, 1)}
    first, again = (compare_corpora(a, b, encoder=None, rng=generator("x"), draws=3) for _ in range(2))
    assert first == again
    changed = compare_corpora(a | {1: corpus(40, 40)}, b, encoder=None, rng=generator("x"), draws=3)
    assert changed.pairs[0] == first.pairs[0]
    assert changed.pairs[1] != first.pairs[1]


def test_seeds_without_counterpart_are_skipped_or_refused() -> None:
    long = [dataclasses.replace(one, instruction=one.instruction * 9) for one in corpus(10, 10)]
    found = compare_corpora({0: corpus(10, 10), 1: corpus(10, 10)}, {0: corpus(10, 10), 1: long}, encoder=None, rng=generator("y"), draws=2)
    assert found.pairs.keys() == {0}
    assert "only 0 texts have a counterpart" in found.skipped[1]
    assert found.yields["kept"].n_seeds == 2
    nothing = compare_corpora({0: []}, {0: corpus(10, 10)}, encoder=None, rng=generator("y"), draws=2)
    assert (nothing.diversity, nothing.yields["kept"].difference) == ({}, -10)
    with pytest.raises(SpecError, match="no training seed in common"):
        compare_corpora({0: []}, {1: []}, encoder=None, rng=generator("y"))
