import numpy as np
import pytest

from harness.stats.crossed import TaskScores, paired_difference
from harness.stats.interaction import loss_difference


def made(seed=0, shape=(4, 60)):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, (*shape, 4)).astype(float)


def test_it_is_the_paired_difference_of_the_losses():
    scores = made()
    found = loss_difference([TaskScores(scores)])
    reference = paired_difference(scores[..., 0] - scores[..., 1], scores[..., 2] - scores[..., 3])
    assert found.estimate == pytest.approx(reference.estimate, abs=1e-12)
    assert found.interval == pytest.approx(reference.interval, abs=1e-12)
    assert found.p_value == pytest.approx(reference.p_value, abs=1e-12)


def test_swapping_the_methods_changes_the_sign_only():
    scores = made(1)
    here, there = loss_difference([TaskScores(scores)]), loss_difference([TaskScores(scores[..., [2, 3, 0, 1]])])
    assert there.estimate == pytest.approx(-here.estimate)
    assert there.interval == pytest.approx((-here.interval[1], -here.interval[0]))


def test_a_higher_clean_score_is_no_robustness():
    scores = made(2)
    better = scores + np.array([0.3, 0.3, 0.0, 0.0])
    assert loss_difference([TaskScores(better)]).estimate == pytest.approx(loss_difference([TaskScores(scores)]).estimate)
