"""Whether new scores are the frozen ones: verdicts in clear cases, and the error rates of the test by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from harness.core.records import SAMPLE_COLUMNS
from harness.verdicts.board_file import Row
from harness.verdicts.recheck import OtherItemsError, agreement

ROW = Row(id="m/t", model="m", tasks=("t",), metric="acc", value=0.5, interval=(0, 1), interval_by="items", n=9, seeds=1, margin=0.05)


def samples(values: np.ndarray, *, prompt: str = "what follows") -> pd.DataFrame:
    """NaN is an item whose scoring failed."""
    rows = [
        ("s", "t", "clean", f"i{item:04}", f"i{item:04}", "acc", *scored, f"{prompt} {item}", "", "", None)
        for item, value in enumerate(values.tolist())
        for scored in [(None, "error") if np.isnan(value) else (value, "scored")]
    ]
    return pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS))


def verdict(frozen: np.ndarray, new: np.ndarray, margin: float = 0.05) -> str:
    row = ROW.model_copy(update={"margin": margin})
    return agreement(row, [(samples(frozen), samples(new))], {"t": "acc"}, same_weights=True).verdict


def test_equal_scores_are_reproduced_however_few() -> None:
    frozen = np.array([0.0, 1.0, 1.0])
    found = agreement(ROW, [(samples(frozen), samples(frozen))], {"t": "acc"}, same_weights=True)
    assert (found.verdict, found.difference, found.same, found.paired) == ("reproduced", 0.0, 3, 3)
    assert found.agreement == pytest.approx((0.438, 1.0), abs=1e-3)  # Wilson, 3 of 3


def test_one_flip_in_sixty_is_reproduced_and_many_are_not() -> None:
    frozen = np.tile([0.0, 1.0], 30)
    one, many = frozen.copy(), frozen.copy()
    one[0], many[:40] = 1.0, 1.0
    assert verdict(frozen, one) == "reproduced"
    assert verdict(frozen, many) == "differs"
    assert verdict(frozen[:12], one[:12]) == "undecided"


def test_the_difference_is_that_of_the_paired_means() -> None:
    rng = np.random.default_rng(0)
    frozen, new = rng.random(50).round(2), rng.random(50).round(2)
    found = agreement(ROW, [(samples(frozen), samples(new))], {"t": "acc"}, same_weights=True)
    difference = new - frozen
    half = 1.6765509 * difference.std(ddof=1) / np.sqrt(50)  # t(49) at 95 %
    assert found.difference == pytest.approx(difference.mean())
    assert found.interval == pytest.approx((difference.mean() - half, difference.mean() + half), rel=1e-6)


def test_other_prompts_or_items_are_told() -> None:
    values = np.array([0.0, 1.0, 1.0])
    with pytest.raises(OtherItemsError, match="3 of 3 prompts"):
        agreement(ROW, [(samples(values), samples(values, prompt="which"))], {"t": "acc"}, same_weights=True)
    with pytest.raises(OtherItemsError, match="3 items frozen, 2 scored now"):
        agreement(ROW, [(samples(values), samples(values[:2]))], {"t": "acc"}, same_weights=True)


def lost(values: np.ndarray, n: int) -> np.ndarray:
    return np.where(np.arange(len(values)) < n, np.nan, values)


def test_a_lost_score_counts_at_its_worst() -> None:
    frozen = np.tile([0.0, 1.0], 30)
    found = agreement(ROW, [(samples(frozen), samples(lost(frozen, 30)))], {"t": "acc"}, same_weights=True)
    assert (found.verdict, found.same, found.paired, found.lost) == ("undecided", 30, 30, 30)
    assert found.difference == 0
    # Worst: the 15 lost ones that were right are wrong now (mean -15/60), best: the 15 that were wrong are right. t(59) at 95 % is 1.671.
    half = 1.6710930 * np.sqrt(0.25 * 0.75 * 60 / 59 / 60)
    assert found.interval == pytest.approx((-0.25 - half, 0.25 + half), rel=1e-6)
    assert verdict(frozen, lost(frozen, 1)) == "reproduced", "one of sixty, at its worst, is inside the margin"
    assert verdict(lost(frozen, 30), frozen) == "undecided", "a score where the frozen run had none is as much a change"
    assert verdict(lost(frozen, 30), lost(frozen, 30)) == "reproduced", "the same items failed again"
    assert verdict(np.ones(60), lost(np.zeros(60), 2)) == "differs", "whatever the two were"
    with pytest.raises(OtherItemsError, match="fewer than 2 items"):
        agreement(ROW, [(samples(frozen), samples(lost(frozen, 59)))], {"t": "acc"}, same_weights=True)


def test_a_lost_score_of_one_student_of_two_is_not_forgotten() -> None:
    frozen = np.tile([0.0, 1.0], 30)
    pairs = [(samples(frozen), samples(lost(frozen, 40))), (samples(frozen), samples(frozen))]
    for same_weights in (True, False):
        found = agreement(ROW, pairs, {"t": "acc"}, same_weights=same_weights)
        assert (found.verdict, found.lost, found.paired) == ("undecided", 40, 80)


def test_many_unequal_scores_of_the_same_weights_in_the_same_setting_differ() -> None:
    """Half of 48 scores are others and the means are equal: no test of means would see it."""
    frozen = np.tile([0.0, 1.0], 24)
    other = np.concatenate([1 - frozen[:24], frozen[24:]])
    one = frozen.copy()
    one[0] = 1.0

    def found(new: np.ndarray, same_weights: bool, same_setting: bool) -> str:
        pair = [(samples(frozen), samples(new))]
        return agreement(ROW, pair, {"t": "acc"}, same_weights=same_weights, same_setting=same_setting).verdict

    assert found(other, True, True) == "differs"
    assert found(other, True, False) == found(other, False, True) == "undecided"
    assert found(one, True, True) != "differs", "rounding may flip a few"


def flipped(frozen: np.ndarray, up: float, down: float, rng: np.random.Generator) -> np.ndarray:
    return np.where(frozen == 1, rng.random(len(frozen)) >= down, rng.random(len(frozen)) < up).astype(float)


def test_error_rates() -> None:
    """A model that is worse by the margin passes in at most 5 % of the cases; one that is equal up to rounding nearly always passes."""
    rng = np.random.default_rng(1)
    n, draws, margin = 400, 120, 0.05
    passed_at_margin = passed_equal = called_different = 0
    for _ in range(draws):
        frozen = (rng.random(n) < 0.5).astype(float)
        passed_at_margin += verdict(frozen, flipped(frozen, 0.02, 0.12, rng), margin) == "reproduced"  # 5 points down
        rounding = verdict(frozen, flipped(frozen, 0.02, 0.02, rng), margin)
        passed_equal += rounding == "reproduced"
        called_different += rounding == "differs"
    assert passed_at_margin / draws <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / draws)
    assert passed_equal / draws >= 0.95
    assert called_different == 0
