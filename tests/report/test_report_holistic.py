"""The panel of axes beyond accuracy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from report_helpers import Page
from synthetic_run import METHODS, synthetic_run

from harness.report.holistic import context
from harness.report.page import page
from harness.verdicts.score_table import mean_estimate


def with_refusals(run, shares):
    """`run` with ten over-refusal items, of which each method refuses so many in seed 0 and one more in seed 1."""
    first = run.samples.iloc[0].to_dict()
    rows = [
        first | {"suite": "holistic", "task": "over_refusal", "metric": "refused", "perturbation": "clean", "sample_id": f"o{item}",
                 "cluster": f"o{item}", "value": float(item < share + seed), "status": "scored", "method": method, "seed": seed}
        for method, share in shares.items() for seed in (0, 1) for item in range(10)
    ]  # fmt: skip
    entry = {"metric": "refused", "suite": "holistic", "chance": None, "higher_is_better": False}
    study = run.study | {"tasks": run.study["tasks"] | {"over_refusal": entry}}
    return dataclasses.replace(run, samples=pd.concat([run.samples, pd.DataFrame(rows)], ignore_index=True), study=study)


def misuse_cells(run):
    (row,) = [row for row in context(run, METHODS)["holistic_table"].rows if row[0].text == "misuse"]
    return dict(zip(METHODS, row[3:], strict=True))


def test_a_cell_is_the_mean_over_seeds_with_an_interval_over_seeds_and_items():
    cells = misuse_cells(with_refusals(synthetic_run(seeds=2, items=4), {"sft": 2, "rlhf": 5}))
    assert cells["sft"].value == pytest.approx(0.25)
    seeds = 12.706204736 * 0.1 / 2**0.5 / 2**0.5
    items = np.mean([np.abs(np.subtract(mean_estimate(np.arange(10) < n, list(range(10))).interval, n / 10)) for n in (2, 3)], axis=0)
    assert cells["sft"].interval == pytest.approx((0, 0.25 + np.hypot(seeds, items[1])))
    assert cells["rlhf"].interval == pytest.approx((0, 1)), "shares stay shares"
    assert cells["sft"].note == "2 × 10"
    assert cells["selfteach"].value is None


def test_seeds_that_agree_are_no_certainty():
    run = with_refusals(synthetic_run(seeds=2, items=4), {"sft": 2})
    same = run.samples["metric"].ne("refused") | run.samples["seed"].eq(0)
    again = run.samples[run.samples["metric"].eq("refused") & run.samples["seed"].eq(0)].assign(seed=1)
    agreed = misuse_cells(dataclasses.replace(run, samples=pd.concat([run.samples[same], again], ignore_index=True)))["sft"]
    assert agreed.interval == pytest.approx(mean_estimate(np.arange(10) < 2, list(range(10))).interval)


def test_the_page_has_the_panel_with_its_caveat_and_no_markup_from_a_model():
    run = with_refusals(synthetic_run(seeds=2, items=4), {"sft": 2})
    html = page(run)
    assert 'id="holistic"' in html
    assert "harmless requests refused (proxy)" in html
    assert "a proxy: refusals are found by rule" in Page(html).text()


def test_a_run_that_says_nothing_of_it_says_so():
    run = synthetic_run(seeds=2, items=4)
    silent = dataclasses.replace(run, samples=run.samples.assign(generated_tokens=None))
    assert context(silent, METHODS)["holistic_table"] is None
    assert "No sample of this run speaks to bias" in page(silent)
