import numpy as np
import pytest

from selfteach.operations import OPERATIONS
from selfteach.stubs import HIGH, LOW, ONE_BEST, PROFILES, StubEncoder, StubExecutor, StubReviewer, stub_seeds


def test_profiles_have_the_stated_rates() -> None:
    for profiles in (PROFILES, ONE_BEST):
        assert profiles["breadth best"]["breadth"] == profiles["breadth worst"][OPERATIONS[-1]] == HIGH
        assert profiles["breadth worst"]["breadth"] == LOW
        assert len(set(profiles["flat"].values())) == 1
        assert all(set(rates) == set(OPERATIONS) for rates in profiles.values())
    assert list(PROFILES["breadth best"].values()) == pytest.approx(np.linspace(0.95, 0.6, 6))


def test_reviewer_accepts_at_the_stated_rates() -> None:
    rng, reviewer = np.random.default_rng(0), StubReviewer(PROFILES["breadth best"])
    parents = [seed.instruction for seed in stub_seeds()] * 300
    for operation in OPERATIONS:
        outcomes = StubExecutor().apply_batch(parents, [operation] * len(parents), rng=rng)
        reviews = reviewer.review([(parent, outcome.instruction) for parent, outcome in zip(parents, outcomes, strict=True)], rng=rng)
        assert np.mean([review.gain for review in reviews]) == pytest.approx(PROFILES["breadth best"][operation], abs=0.03)
        assert all((review.reply == "Not Equal") == review.gain for review in reviews)


def test_encoder_embeds_words() -> None:
    one, same, other = StubEncoder().encode(["one two", "two one", "three"])
    assert np.linalg.norm(one) == pytest.approx(1)
    assert one @ same == pytest.approx(1)
    assert abs(one @ other) < 0.5
