import pandas as pd
import pytest
from report_helpers import unpacked
from synthetic_run import HOSTILE, METHODS, synthetic_run

from harness.report.samples import browser


def rows_of(payload):
    """Every (method, seed, task, perturbation, sample_id, output, value) that the packed payload holds."""
    texts = payload["texts"]
    return {
        (payload["methods"][method], payload["seeds"][seed], payload["tasks"][task], payload["perturbations"][int(perturbation)], name,
         texts[output], value)
        for task, name, versions in payload["items"]
        for perturbation, (_, _, answers) in versions.items()
        for method, seed, output, _, metrics in answers
        for _, value in metrics
    }  # fmt: skip


def test_every_answer_is_in_the_payload():
    run = synthetic_run(seeds=2, items=5)
    found = browser(run.samples, list(METHODS))
    assert found["shown"] == found["total"] == 30
    expected = {
        (row.method, row.seed, row.task, row.perturbation, row.sample_id, row.output, None if pd.isna(row.value) else row.value)
        for row in run.samples.itertuples()
    }
    assert rows_of(unpacked(found["packed"])) == expected


def test_the_primary_metric_says_whether_an_answer_is_right():
    run = synthetic_run(seeds=1, items=2)
    both = pd.concat([run.samples, run.samples.assign(metric="other", value=1.0)])
    payload = unpacked(browser(both, list(METHODS), metrics={"logiqa": "other"})["packed"])
    first = {
        payload["tasks"][task]: payload["metrics"][metrics[0][0]]
        for task, _, versions in payload["items"]
        for _, _, answers in versions.values()
        for *_, metrics in answers
    }
    assert first.pop("logiqa") == "other"
    assert set(first.values()) == {"exact_match"}


def test_prompts_and_targets_are_stored_once():
    found = unpacked(browser(synthetic_run(seeds=2, items=5).samples, list(METHODS))["packed"])
    assert len(found["texts"]) == len(set(found["texts"]))


@pytest.mark.parametrize("limit", [60_000, 15_000])
def test_size_limit_is_kept_by_leaving_out_whole_items(limit):
    run = synthetic_run(seeds=1, items=40, text_length=400)
    found = browser(run.samples, list(METHODS), size_limit_bytes=limit)
    assert len(found["packed"]["data"]) <= limit
    assert 0 < found["shown"] < found["total"]
    answers = rows_of(unpacked(found["packed"]))
    per_method = {method: {row[4] for row in answers if row[0] == method} for method in METHODS}
    assert all(items == per_method["base"] for items in per_method.values())


def test_several_metrics_of_an_item_stay_together():
    samples = synthetic_run(seeds=1, items=4).samples
    both = pd.concat([samples, samples.assign(metric="f1", value=0.5)])
    payload = unpacked(browser(both, list(METHODS))["packed"])
    answer = payload["items"][0][2]["0"][2][0]
    assert [payload["metrics"][metric] for metric, _ in answer[4]] == ["exact_match", "f1"]


def test_hostile_text_is_made_visible():
    payload = unpacked(browser(synthetic_run(seeds=1, items=4, hostile=HOSTILE).samples, list(METHODS))["packed"])
    assert any("⟨U+001B⟩" in text and "<script>" in text for text in payload["texts"])
    assert not any(character in text for text in payload["texts"] for character in "\x00\x1b\u2028\u202e")


def test_no_samples():
    empty = synthetic_run(seeds=1, items=4).samples.iloc[:0]
    assert browser(empty, [])["total"] == 0
