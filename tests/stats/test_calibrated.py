"""Calibration error against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import SpecError
from harness.stats.calibrated import calibration, expected_error


def test_error_is_the_weighted_gap_of_the_bins() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([1.0, 1, 0, 0, 1, 0])
    assert expected_error(confidence, correct) == pytest.approx(4 / 6 * 0.45 + 2 / 6 * 0.05)
    assert expected_error(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0


def test_gaps_of_both_signs_in_one_bin_cancel_and_in_two_do_not() -> None:
    assert expected_error(np.array([0.51, 0.59]), np.array([1.0, 0.0])) == pytest.approx(0.05)
    assert expected_error(np.array([0.2, 0.8]), np.array([1.0, 0.0])) == pytest.approx(0.8)


def test_a_calibrated_model_shows_the_floor_and_an_overconfident_one_more() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 300)
    honest = calibration(confidence, (rng.random(300) < confidence).astype(float), rng=rng)
    assert honest.ece == pytest.approx(honest.ece_floor, abs=0.04)
    assert abs(honest.overconfidence) < 0.07
    boastful = calibration(confidence, (rng.random(300) < confidence - 0.25).astype(float), rng=rng)
    assert boastful.ece_interval[0] > honest.ece_floor
    assert boastful.overconfidence == pytest.approx(0.25, abs=0.07)


def test_equal_items_of_a_cluster_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    confidence, correct = np.full(20, 0.7), (rng.random(20) < 0.5).astype(float)
    alone = calibration(confidence, correct, rng=np.random.default_rng(0)).ece_interval
    copied = calibration(
        np.repeat(confidence, 9), np.repeat(correct, 9), clusters_N=np.repeat(np.arange(20), 9), rng=np.random.default_rng(0)
    ).ece_interval
    assert copied[1] - copied[0] == pytest.approx(alone[1] - alone[0], rel=0.05)


@pytest.mark.parametrize(("confidence", "correct"), [([], []), ([0.5], [1, 0]), ([1.5], [1])])
def test_wrong_input_is_refused(confidence: list[float], correct: list[float]) -> None:
    with pytest.raises(SpecError):
        calibration(confidence, correct, rng=np.random.default_rng(0))
