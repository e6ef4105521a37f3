"""Reading runs that are unfinished, odd or damaged; whole ones are read in tests/study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.core.records import SAMPLE_COLUMNS
from harness.core.results import find_run, load_run
from harness.core.store import RunStore, write_json
from harness.errors import SpecError, StoreError


def trial(label: str, seed: int, *, seedless: bool = False) -> dict[str, Any]:
    method, _, variant = label.partition(":")
    stages = {"train_stage": f"t-{label}-{seed}", "score_stage": f"s-{label}-{seed}"}
    return {"method": method, "variant": variant or None, "label": label, "seed": seed, "seedless": seedless, **stages}


def train_stage(folder: Path) -> dict[str, Any]:
    row = {"account": "train", "phase": "update", "model": "m", "flops": 90.0, "tokens": 1, "padding": 0, "calls": 1, "wall_s": 0.0}
    pd.DataFrame([row]).to_parquet(folder / "ledger.parquet")
    point = {"curve": "loss", "step": 1, "train_flops": 90.0, "wall_s": 1.0, "value": 2.0}
    pd.DataFrame([point]).to_parquet(folder / "curves.parquet")
    counters = {"demonstrations": 2, "comparisons": 10, "queries": 0, "verifications": 4}
    return {"kind": "train", "wall_s": 3600.0, "device": "cpu", "spent": {"train": 90.0}, "counters": counters}


def score_stage(folder: Path) -> dict[str, Any]:
    rows = [
        {"task": "t", "perturbation": "clean", "sample_id": "1", "metric": "acc", "generated_tokens": 10},
        {"task": "t", "perturbation": "clean", "sample_id": "1", "metric": "f1", "generated_tokens": 10},
        {"task": "t", "perturbation": "clean", "sample_id": "2", "metric": "acc", "generated_tokens": 40},
        {"task": "t", "perturbation": "typos", "sample_id": "2", "metric": "acc", "generated_tokens": 400},
        {"task": "choice", "perturbation": "clean", "sample_id": "2", "metric": "acc", "generated_tokens": 0},
    ]
    blank = dict.fromkeys(SAMPLE_COLUMNS, "")
    pd.DataFrame([{**blank, "value": 1.0, **row} for row in rows])[list(SAMPLE_COLUMNS)].to_parquet(folder / "samples.parquet")
    pd.DataFrame(columns=["account", "phase", "model", "flops", "tokens", "padding", "calls", "wall_s"]).to_parquet(
        folder / "ledger.parquet"
    )
    return {"kind": "score", "wall_s": 5.0}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """base finished; sft:slow trained for seed 0 and failed for seed 1."""
    store = RunStore(tmp_path / "results" / "runs" / "quick")
    trials = [trial("base", 0, seedless=True), trial("sft:slow", 0), trial("sft:slow", 1)]
    with store.locked():
        write_json(
            store.root / "study.json",
            {"seeds": [0, 1], "budget": {"train_flops": 100.0}, "prices": {"device_hour_usd": 2.0}, "plan": {"trials": trials}},
        )
        store.write_stage("t-base-0", train_stage)
        store.write_stage("s-base-0", score_stage)
        store.write_stage("t-sft:slow-0", train_stage)
        store.journal.append("stage_failed", stage="t-sft:slow-1")
    return store


def test_a_seedless_trial_stands_for_every_seed_and_states_are_told(store: RunStore) -> None:
    trials = load_run(store.root).trials
    assert list(zip(trials["trial_id"], trials["status"], strict=True)) == [
        ("base-0", "finished"), ("base-1", "finished"), ("sft:slow-0", "pending"), ("sft:slow-1", "failed"),
    ]  # fmt: skip
    assert list(trials["variant"].dropna()) == ["slow", "slow"]


def test_costs_are_those_of_training_under_the_studys_prices(store: RunStore) -> None:
    row = load_run(store.root).trials.set_index("trial_id").loc["sft:slow-0"]
    # 1 device hour at 2 $, 2 demonstrations at 1.50 $, 10 comparisons at 0.30 $
    assert row["cost_usd"] == pytest.approx(2.0 + 3.0 + 3.0)
    assert row["human_s"] == pytest.approx(2 * 184 + 10 * 36.8)
    assert row["train_flops"] == 90.0


def test_answer_length_counts_each_clean_generated_answer_once(store: RunStore) -> None:
    assert load_run(store.root).trials.set_index("trial_id").loc["base-0", "generated_tokens_per_answer"] == 25.0


def test_samples_and_curves_carry_trial_and_seed(store: RunStore) -> None:
    results = load_run(store.root)
    assert results.samples.groupby(["method", "seed"]).size().to_dict() == {("base", 0): 5, ("base", 1): 5}
    assert set(results.curves["trial_id"]) == {"base-0", "base-1", "sft:slow-0"}
    assert results.ledger.groupby("trial_id")["flops"].sum().to_dict() == {"base-0": 90.0, "base-1": 90.0, "sft:slow-0": 90.0}


def test_a_damaged_file_is_told_with_what_to_do(store: RunStore) -> None:
    (store.folder("s-base-0") / "samples.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(StoreError, match=r"samples\.parquet does not match its checksum \(.*\); run the study again"):
        load_run(store.root)
    (store.root / "verdicts.json").write_text("[{")
    (store.folder("s-base-0") / "samples.parquet").unlink()
    with pytest.raises(StoreError):
        load_run(store.root)


def test_a_damaged_stage_can_be_left_out(store: RunStore) -> None:
    whole = load_run(store.root, without_damaged=True)
    assert whole.damaged == {}
    (store.folder("t-base-0") / "curves.parquet").unlink()
    left = load_run(store.root, without_damaged=True)
    assert list(left.damaged) == ["t-base-0"]
    assert "curves.parquet is missing" in left.damaged["t-base-0"]
    assert list(left.trials["status"]) == ["damaged", "damaged", "pending", "failed"]
    assert left.samples.empty
    pd.testing.assert_frame_equal(left.curves, whole.curves[whole.curves["method"] == "sft:slow"].reset_index(drop=True))
    (store.folder("t-base-0") / "meta.json").write_text("{}")
    assert "meta.json was changed" in load_run(store.root, without_damaged=True).damaged["t-base-0"]


def test_runs_are_found_by_folder_or_name(store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_run(store.root) == store.root
    assert find_run("quick") == Path("results/runs/quick")
    with pytest.raises(SpecError, match="Did you mean 'quick'"):
        find_run("quikc")
    with pytest.raises(SpecError, match="not the folder of a run"):
        load_run(tmp_path)


def test_json_of_the_study_is_kept_whole(store: RunStore) -> None:
    assert load_run(store.root).study == json.loads((store.root / "study.json").read_text())


def test_runs_from_before_energy_was_counted_have_none_of_it(store: RunStore) -> None:
    results = load_run(store.root)
    assert results.ledger["energy_j"].isna().all()
    assert results.trials["energy_j"].isna().all()


def reseal(store: RunStore, stage: str) -> None:
    """Seals a stage's files as they are now."""
    meta, files = store.meta(stage), {path.name: path.read_bytes() for path in store.folder(stage).iterdir() if path.name != "meta.json"}

    def fill(folder: Path) -> dict[str, Any]:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return {key: value for key, value in meta.items() if key not in ("files", "checksum")}

    store.discard(stage)
    store.write_stage(stage, fill)


def test_a_stage_that_failed_and_is_tried_again_counts_as_not_done_yet(store: RunStore) -> None:
    assert "failed" in set(load_run(store.root).trials["status"])
    store.journal.append("stage_started", stage="t-sft:slow-1")
    assert "failed" not in set(load_run(store.root).trials["status"])


def test_energy_of_training_is_summed_where_it_was_counted(store: RunStore) -> None:
    path = store.folder("t-sft:slow-0") / "ledger.parquet"
    rows = pd.concat([pd.read_parquet(path).assign(energy_j=joules) for joules in (None, 3.0, 4.5)])
    rows.to_parquet(path)
    with pytest.raises(StoreError, match=r"ledger\.parquet does not match its checksum"):
        load_run(store.root)
    reseal(store, "t-sft:slow-0")
    trials = load_run(store.root).trials.set_index("trial_id")
    assert trials.loc["sft:slow-0", "energy_j"] == 7.5
