import base64
import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from report_helpers import Page, hostile_everywhere, unpacked
from synthetic_run import METHODS, synthetic_run

from harness.core.records import SAMPLE_COLUMNS
from harness.core.results import CURVE_COLUMNS, LEDGER_COLUMNS, TRIAL_COLUMNS, load_run
from harness.core.store import RunStore, write_json
from harness.errors import SpecError
from harness.report.page import SECTIONS, page, render


@pytest.fixture(scope="module")
def run():
    return synthetic_run(seeds=2, items=6)


@pytest.fixture(scope="module")
def html(run):
    return page(run)


def write_run(run, folder):
    """Files of `run` as a study writes them, with one stage for training and one for scoring of each trial."""
    store = RunStore(folder)
    plan = []
    with store.locked():
        for trial in run.trials.to_dict("records"):
            frames = {"samples": run.samples, "ledger": run.ledger, "curves": run.curves}
            own = {name: rows[(rows["method"] == trial["method"]) & (rows["seed"] == trial["seed"])] for name, rows in frames.items()}
            counters = {name: trial[name] for name in ("demonstrations", "comparisons", "queries", "verifications")}
            meta = {"device": "cpu", "wall_s": trial["wall_s"], "spent": {"train": trial["train_flops"]}, "counters": counters}

            def train(stage, own=own, trial=trial, meta=meta):
                own["ledger"][list(LEDGER_COLUMNS[3:])].to_parquet(stage / "ledger.parquet")
                own["curves"][list(CURVE_COLUMNS[3:])].to_parquet(stage / "curves.parquet")
                if trial["trial_id"] in run.corpora:
                    (stage / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in run.corpora[trial["trial_id"]]))
                return meta

            def score(stage, own=own, meta=meta):
                own["samples"][list(SAMPLE_COLUMNS)].to_parquet(stage / "samples.parquet")
                own["ledger"].iloc[:0][list(LEDGER_COLUMNS[3:])].to_parquet(stage / "ledger.parquet")
                return meta

            stages = {"train_stage": f"train-{trial['trial_id']}", "score_stage": f"score-{trial['trial_id']}"}
            store.write_stage(stages["train_stage"], train)
            store.write_stage(stages["score_stage"], score)
            plan.append({"label": trial["method"], "variant": None, "seed": trial["seed"], "seedless": False, **stages})
        store.journal.append("run_finished")
    write_json(folder / "study.json", {**run.study, "prices": {}, "plan": {**run.study["plan"], "trials": plan}})
    write_json(folder / "verdicts.json", run.verdicts)
    write_json(folder / "leaderboard.json", run.leaderboard)


def test_a_run_folder_becomes_one_file(run, tmp_path):
    write_run(run, tmp_path)
    path = render(tmp_path)
    assert path == tmp_path / "report.html"
    text = Page(path.read_text(encoding="utf-8")).text()
    assert "last run" in text
    assert run.study["title"] in text
    assert sorted(found.name for found in tmp_path.iterdir() if found.name.startswith(".")) == [], "no temporary file stays"
    elsewhere = tmp_path / "elsewhere.html"
    assert render(tmp_path, elsewhere) == elsewhere
    assert elsewhere.read_bytes() == path.read_bytes(), "the same files give the same report"
    assert len(load_run(tmp_path).samples) == len(run.samples)


def test_corpus_rows_need_no_more_than_the_required_keys(run, tmp_path):
    """docs/corpus.md: a method of one's own must write four keys."""
    rows = [
        {"id": "1", "instruction": "Name a river.", "operation": "own", "kept": True, "mine": [1]},
        {"id": "2", "instruction": "Name it.", "operation": "own", "kept": False},
    ]
    bare = dataclasses.replace(run, corpora=dict.fromkeys(run.corpora, rows))
    write_run(bare, tmp_path)
    text = Page(render(tmp_path).read_text(encoding="utf-8")).text()
    assert "Name a river." in text
    assert "no reason recorded" in text
    assert "reward validity" not in text


def test_the_audit_names_every_budget_of_a_sweep(run):
    text = Page(page(run)).text()
    assert "Budget 240\u202fTFLOP per trial" in text
    trials = run.trials.assign(budget_flops=run.trials["budget_flops"].where(run.trials["method"] != "rlhf", 4.8e14))
    assert "Budget 240\u202fTFLOP or 480\u202fTFLOP per trial" in Page(page(dataclasses.replace(run, trials=trials))).text()


def test_a_failed_write_leaves_the_old_report(run, tmp_path, monkeypatch):
    write_run(run, tmp_path)
    path = render(tmp_path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        render(tmp_path)
    assert path.read_bytes() == before


def test_not_a_run(tmp_path):
    with pytest.raises(SpecError, match="not the folder of a run"):
        render(tmp_path)


def test_sections_are_there_in_order(html):
    parsed = Page(html)
    named = [value for tag, name, value in parsed.attributes if tag == "section" and name == "id"]
    assert named == [anchor for anchor, _ in SECTIONS]
    assert {f"#{anchor}" for anchor in named} <= set(parsed.values("href"))


def test_page_is_self_contained_and_its_script_is_the_allowed_one(html):
    parsed = Page(html)
    links = parsed.values("href") + parsed.values("src")
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"@import|url\((?!#)", html)
    (script,) = re.findall("<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [value for value in parsed.values("content") if "default-src" in value]
    assert f"script-src 'sha256-{digest}'" in policy
    assert "innerHTML" not in html
    assert "insertAdjacentHTML" not in html


def test_ids_are_unique_and_references_resolve(html):
    parsed = Page(html)
    twice = [name for name, times in Counter(parsed.values("id")).items() if times > 1]
    assert twice == []
    labels = set(parsed.values("aria-labelledby")) | {link[1:] for link in parsed.values("href") if link.startswith("#")}
    assert labels <= set(parsed.values("id"))


def test_tables_and_charts_are_described(html):
    parsed = Page(html)
    counts = Counter(parsed.tags)
    assert counts["table"] == counts["caption"] > 5
    assert counts["figure"] == counts["figcaption"] == counts["svg"] > 4
    assert parsed.values("role").count("img") == counts["svg"]
    assert all(name for tag, key, name in parsed.attributes if tag == "svg" and key == "aria-label")


def test_hostile_text_stays_text(run, html):
    hostile = page(hostile_everywhere(run))
    parsed, peaceful = Page(hostile), Page(html)
    for tag in ("script", "style", "svg", "meta", "link", "form", "input", "select", "section", "table"):
        assert parsed.tags.count(tag) == peaceful.tags.count(tag), tag
    assert set(parsed.tags) <= set(peaceful.tags), "no element that a peaceful run does not have, img above all"
    assert {name for _, name, _ in parsed.attributes} <= {name for _, name, _ in peaceful.attributes}, "no new attribute such as onerror"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]", hostile)
    assert "<script>alert(1)</script></script><img src=x onerror=alert(2)>⟨U+2028⟩⟨U+001B⟩[31mred⟨U+0000⟩ {{ 7*7 }}" in parsed.text()


def test_ranks_only_where_compute_was_matched(run, html):
    assert "Rank" in Page(html).text()
    unmatched = dataclasses.replace(run, leaderboard={**run.leaderboard, "matched": False, "match_spread": 0.31})
    text = Page(page(unmatched)).text()
    assert "Compute was not matched" in text
    assert "31.0" in text
    assert not re.search(r"\bRank\b|tied with best|cannot be told apart", text)


def test_unfinished_trials_are_named():
    run = synthetic_run(seeds=2, items=6, failed="rlhf-1")
    text = Page(page(run)).text()
    assert "1 of 10 trials did not finish" in text
    assert "rlhf-1 (failed)" in text


def test_one_seed_is_warned_about_and_nothing_is_called_sure(html):
    text, of_two = Page(page(synthetic_run(seeds=1, items=6))).text(), Page(html).text()
    assert "Only 1 training seed:" in text
    assert "seeds and items both random" in of_two
    assert "Surely on the front: " in of_two
    assert "items random only" not in of_two
    assert text.count("items random only: what the luck of one training seed did cannot be told") == 2, "above the chart and the table"
    assert "On the front in 95.0\u202f% of draws of items: " in text
    assert "both random" not in text
    assert "surely on" not in text.lower()


@pytest.mark.parametrize("missing", [("verdicts", "corpora", "curves"), ("leaderboard",), ("samples", "ledger")])
def test_any_part_may_be_missing(run, html, missing):
    values = {name: getattr(run, name) for name in missing}
    empty = {name: value.iloc[:0] if hasattr(value, "iloc") else type(value)() for name, value in values.items()}
    parsed = Page(page(dataclasses.replace(run, **empty)))
    assert [value for tag, name, value in parsed.attributes if tag == "section" and name == "id"] == [anchor for anchor, _ in SECTIONS]
    assert parsed.values("class").count("empty") > Page(html).values("class").count("empty"), "what is missing is said"


def test_a_run_that_has_only_begun(run):
    trials = run.trials[["trial_id", "method", "variant", "seed", "train_stage", "score_stage", "budget_flops"]].assign(status="pending")
    empty = {name: getattr(run, name).iloc[:0] for name in ("samples", "ledger", "curves")}
    begun = dataclasses.replace(run, trials=trials.reindex(columns=list(TRIAL_COLUMNS)), corpora={}, verdicts=[], leaderboard={}, **empty)
    assert "10 of 10 trials did not finish" in Page(page(begun)).text()


def test_report_needs_no_torch():
    code = "import sys, harness.report.page, harness.report.tables; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_browser_payload_in_the_page_reads_back(run, html):
    (packed,) = re.findall(r'<script type="application/json" id="sample-data">(.*?)</script>', html, re.DOTALL)
    payload = unpacked(json.loads(packed))
    assert payload["methods"] == list(METHODS)
    assert len(payload["items"]) == run.samples[["suite", "task", "sample_id"]].drop_duplicates().shape[0]


def test_whole_report_of_a_study_stays_under_5_mb():
    run = synthetic_run(seeds=3, items=44, text_length=900)
    checkpoint = run.samples.query("method == 'sft' and seed == 0")
    assert len(checkpoint) > 700
    assert len(page(run).encode()) < 5_000_000


def test_assets_are_packaged():
    import harness.report

    folder = Path(harness.report.__file__).parent
    assert {path.suffix for path in folder.iterdir() if path.is_file()} == {".py", ".j2", ".css", ".js"}
