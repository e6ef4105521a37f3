"""Published rows scored here: items without a score are counted, never dropped."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from harness.core.records import SAMPLE_COLUMNS
from harness.scoring.suites import select
from harness.study.cited import _tested, _wanted
from harness.verdicts.board_file import PublishedRow, Rescoring

RESCORING = Rescoring(source="hub:o/m", suite="s", task="t", metric="acc", margin=0.05)
ROW = PublishedRow(id="m/t", model="m", task="t", metric="acc", value=0.5, source="card", rescoring=RESCORING)


def samples(values: np.ndarray) -> pd.DataFrame:
    rows = [
        ("s", "t", "clean", str(item), str(item), "acc", *scored, "p", "", "", None)
        for item, value in enumerate(values.tolist())
        for scored in [(None, "error") if np.isnan(value) else (value, "scored")]
    ]
    return pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS))


def test_items_without_a_score_widen_the_interval() -> None:
    whole = np.tile([0.0, 1.0], 1000)
    verdict, told, _, numbers = _tested(ROW, RESCORING, samples(whole))
    assert (verdict, numbers and numbers.lost) == ("reproduced", 0)
    assert "2000 of 2000 items have a score" in told
    half = np.where(np.arange(2000) < 1000, np.nan, whole)
    verdict, told, _, numbers = _tested(ROW, RESCORING, samples(half))
    assert numbers is not None
    assert (verdict, numbers.lost, numbers.difference) == ("undecided", 1000, 0.0)
    assert "1000 of 2000 items have a score" in told
    assert "the 1000 without a score" in told
    # All lost ones wrong: 500 of 2000 are right; all right: 1500 are. t(1999) at 95 % is 1.6456.
    reach = 1.6456 * np.sqrt(0.25 * 0.75 / 1999)
    assert numbers.interval == pytest.approx((-0.25 - reach, 0.25 + reach), abs=1e-5)


def test_without_two_scores_nothing_is_tested() -> None:
    verdict, told, _, _ = _tested(ROW, RESCORING, samples(np.array([np.nan, np.nan, 1.0])))
    assert verdict == "cannot run here"
    assert "fewer than 2 of 3 items" in told


@pytest.mark.parametrize("task", ["piqa", "openbookqa"])
def test_without_a_limit_every_item_is_scored_not_as_many_as_a_study_takes_by_default(task: str) -> None:
    asked = RESCORING.model_copy(update={"suite": "complex_understanding", "task": task})
    (whole,) = select(_wanted(asked).suites)
    assert whole.task.limit is not None and whole.task.items is not None and whole.limit is not None  # noqa: PT018
    assert whole.task.limit < whole.task.items <= whole.limit
    (some,) = select(_wanted(asked.model_copy(update={"limit": 40})).suites)
    assert some.limit == 40
