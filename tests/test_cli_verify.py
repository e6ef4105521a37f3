"""`selfteach verify` on small run folders with known scores."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.cli import main
from harness.core.records import SAMPLE_COLUMNS
from harness.core.store import RunStore, write_json

SEEDS = (0, 1, 2, 3)
LEDGER = ["account", "phase", "model", "flops", "tokens", "padding", "calls", "wall_s"]
CLAIMS = """
claims:
  - id: better
    sentence: "Self-teaching [b]beats[/b] it by 20 points."
    source: here
    treatment: selfteach
    rationale: because
    readings:
      - {name: absolute, primary: true, measure: absolute, threshold: 0.2, comparators: [sft], estimand: {kind: score}, note: "a note"}
      - {name: curve, measure: absolute, threshold: 0, comparators: [sft], estimand: {kind: curve, curve: reward}}
    undefined_in_source: ["which tasks"]
  - id: same
    sentence: "Nothing but the name differs."
    source: here
    treatment: twin
    readings:
      - {name: absolute, primary: true, measure: absolute, direction: equal, margin: 0.1, comparators: [sft], estimand: {kind: score}}
"""


def train(folder: Path, seed: int, reward: float) -> dict[str, Any]:
    row = {"account": "train", "phase": "update", "model": "m", "flops": 100.0, "tokens": 1, "padding": 0, "calls": 1, "wall_s": 0.0}
    pd.DataFrame([row]).to_parquet(folder / "ledger.parquet")
    points = [
        {"curve": "reward", "step": step, "train_flops": 1.0 * step, "wall_s": 1.0, "value": reward * (1 + (seed - 1.5) / 50)}
        for step in range(4)
    ]
    pd.DataFrame(points).to_parquet(folder / "curves.parquet")
    counters = dict.fromkeys(("demonstrations", "comparisons", "queries", "verifications"), 0)
    return {"kind": "train", "wall_s": 1.0, "device": "cpu", "spent": {"train": 100.0}, "counters": counters}


def score(folder: Path, share: float, seed: int) -> dict[str, Any]:
    values = np.random.default_rng(seed).random(120) < share
    blank = dict.fromkeys(SAMPLE_COLUMNS, "")
    rows = [
        {**blank, "suite": "s", "task": "t", "perturbation": "clean", "sample_id": str(item), "cluster": str(item), "metric": "acc",
         "value": float(value), "status": "scored", "generated_tokens": 0}
        for item, value in enumerate(values)
    ]  # fmt: skip
    pd.DataFrame(rows)[list(SAMPLE_COLUMNS)].to_parquet(folder / "samples.parquet")
    pd.DataFrame(columns=LEDGER).to_parquet(folder / "ledger.parquet")
    return {"kind": "score", "wall_s": 5.0}


@pytest.fixture(scope="module", name="template")
def template_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sft right on .4 of the items, twin on exactly the same ones, selfteach on .8."""
    store = RunStore(tmp_path_factory.mktemp("runs") / "small")
    methods = {"sft": 0.4, "twin": 0.4, "selfteach": 0.8}
    trials = [
        {"method": label, "variant": None, "label": label, "seed": seed, "seedless": False, "train_stage": f"t-{label}-{seed}",
         "score_stage": f"s-{label}-{seed}"}
        for label in methods for seed in SEEDS
    ]  # fmt: skip
    tasks = {"t": {"metric": "acc", "chance": 0.25, "suite": "s", "higher_is_better": True}}
    with store.locked():
        study = {"name": "small", "seeds": list(SEEDS), "budget": {"train_flops": 100.0}, "prices": {}, "plan": {"trials": trials}}
        write_json(store.root / "study.json", study | {"tasks": tasks})
        for label, share in methods.items():
            for seed in SEEDS:
                store.write_stage(f"t-{label}-{seed}", lambda folder, seed=seed, share=share: train(folder, seed, share))
                store.write_stage(f"s-{label}-{seed}", lambda folder, seed=seed, share=share: score(folder, share, seed))
    (store.root / "claims").mkdir()
    (store.root / "claims" / "own.yaml").write_text(CLAIMS)
    return store.root


@pytest.fixture(name="run_dir")
def run_dir_fixture(template: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-r", str(template), str(tmp_path / "small")], check=True)
    return tmp_path / "small"


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


def test_it_explains_itself_with_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "verify", "--help")
    assert code == 0
    assert "selfteach verify quickstart --claims teams_rl_2024" in out
    assert "Exit code 0" in out


def test_a_card_holds_what_a_reader_needs(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    before = sorted(path for path in run_dir.rglob("*"))
    code, out, err = call(capsys, "verify", run_dir)
    assert (code, err) == (0, "")
    for text in ("better: MET", "Self-teaching [b]beats[/b] it by 20 points.", "same: MET", "≥ +20.0", "within ±10.0", "because", "a note",
                 "The source leaves undefined", "which tasks", "with power 80%", "4 seeds x 120 items", "+0.400 reward"):  # fmt: skip
        assert text in out.replace("\u202f", " "), text
    digest = json.loads((run_dir / "stages" / "s-sft-0" / "meta.json").read_text())["checksum"]
    assert f"stage s-sft-0  sha256 {digest}" in out
    assert sorted(path for path in run_dir.rglob("*")) == before, "nothing is written"


def test_json_holds_every_reading_with_its_evidence(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    code, out, err = call(capsys, "verify", run_dir, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["verdicts_of_primary_readings"] == {"met": 2}
    assert found["claims"][0]["sha256"] == hashlib.sha256(CLAIMS.encode()).hexdigest()
    assert [row["reading"] for row in found["verdicts"]] == ["absolute, vs sft", "curve, vs sft", "absolute, vs sft"]
    for row in found["verdicts"]:
        assert list(row["evidence_sha256"]) == row["evidence"]
        assert len(row["evidence"]) == 8
    curve = found["verdicts"][1]
    assert curve["effect"] == pytest.approx(0.4)
    assert curve["evidence"][0] == "t-selfteach-0"
    assert found["stages_checked"] == 20


def test_other_claims_can_be_judged_and_one_of_them_shown(capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CLAIMS.replace("id: better", "id: stricter").replace("0.2,", "0.9,"))
    code, out, _ = call(capsys, "verify", run_dir, "--claims", tmp_path / "mine.yaml", "--claim", "stricter")
    assert code == 0
    assert "stricter: POSITIVE BUT SHORT" in out
    assert "same:" not in out


def test_showing_one_claim_does_not_change_its_adjustment(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    whole = json.loads(call(capsys, "verify", run_dir, "--json")[1])["verdicts"]
    part = json.loads(call(capsys, "verify", run_dir, "--claim", "same", "--json")[1])["verdicts"]
    assert part == whole[2:]


def test_a_changed_or_missing_file_of_the_evidence_is_named(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    samples = run_dir / "stages" / "s-twin-1" / "samples.parquet"
    sealed = hashlib.sha256(samples.read_bytes()).hexdigest()
    pd.read_parquet(samples).assign(value=1.0).to_parquet(samples)
    code, out, err = call(capsys, "verify", run_dir)
    assert code == 4
    assert "better: MET" in out
    assert "same: EVIDENCE CHANGED" in out
    for text in (out, err):
        assert f"s-twin-1: {samples} does not match its checksum" in text
        assert f"sealed was {sealed[:12]}" in text
    assert err.count("\n") == 1
    assert call(capsys, "verify", run_dir, "--claim", "same")[0] == 4
    code, out, err = call(capsys, "verify", run_dir, "--claim", "better")
    assert code == 0, "no evidence of that claim"
    assert "s-twin-1" in out
    assert "s-twin-1" in err, "but it is told"
    samples.unlink()
    assert "samples.parquet is missing" in call(capsys, "verify", run_dir)[2]


@pytest.mark.parametrize("stage", ["t-twin-1", "s-twin-1"])
@pytest.mark.parametrize("name", ["ledger.parquet", "meta.json"])
def test_only_claims_on_a_changed_stage_are_lost(capsys: pytest.CaptureFixture[str], run_dir: Path, stage: str, name: str) -> None:
    whole = json.loads(call(capsys, "verify", run_dir, "--json")[1])
    path = run_dir / "stages" / stage / name
    path.write_bytes(path.read_bytes()[:-3])
    code, out, err = call(capsys, "verify", run_dir, "--json")
    found = json.loads(out)
    assert code == 4
    assert list(found["changed"]) == [stage]
    assert str(path) in found["changed"][stage]
    assert str(path) in err
    assert found["verdicts_of_primary_readings"] == {"met": 1, "evidence changed": 1}
    lost = found["verdicts"][2]
    assert (lost["effect"], lost["evidence"], lost["why"]) == (None, [], found["changed"][stage])
    for after, before in zip(found["verdicts"][:2], whole["verdicts"][:2], strict=True):
        assert {key: value for key, value in after.items() if "holm" not in key} == {key: before[key] for key in after if "holm" not in key}
    assert found["verdicts"][0]["p_threshold_holm"] >= whole["verdicts"][0]["p_threshold_holm"]


def test_a_changed_file_that_judging_does_not_read_is_found_in_the_evidence(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    store = RunStore(run_dir)
    store.discard("t-selfteach-2")

    def with_weights(folder: Path) -> dict[str, Any]:
        (folder / "weights").write_bytes(b"as trained")
        return train(folder, 2, 0.8)

    store.write_stage("t-selfteach-2", with_weights)
    assert call(capsys, "verify", run_dir)[0] == 0
    (run_dir / "stages" / "t-selfteach-2" / "weights").write_bytes(b"other ones")
    code, out, err = call(capsys, "verify", run_dir, "--json")
    assert (code, json.loads(out)["verdicts_of_primary_readings"]) == (4, {"evidence changed": 1, "met": 1})
    assert "weights does not match its checksum" in err


def test_of_a_run_with_all_samples_changed_nothing_is_judged(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    for path in run_dir.glob("stages/s-*/samples.parquet"):
        path.write_bytes(b"")
    code, out, err = call(capsys, "verify", run_dir, "--json")
    assert code == 4
    assert json.loads(out)["verdicts_of_primary_readings"] == {"evidence changed": 2}
    assert "11 more of its stages" in err


def test_a_users_mistake_is_one_message(capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(CLAIMS.replace("sentence", "sentense", 1))
    for arguments, told in (
        (["no-such-run"], "no such run"),
        ([run_dir, "--claims", "teams_rl_2042"], "Did you mean 'teams_rl_2024'"),
        ([run_dir, "--claims", bad], "bad.yaml:4: claims[0].sentense: unknown key"),
        ([run_dir, "--claim", "bettr"], "Did you mean 'better'"),
        ([run_dir, "--claims", run_dir / "claims" / "own.yaml", "--claims", bad.parent / "small" / "claims" / ".." / "claims" / "own.yaml"],
         "has a claim of this id as well"),
    ):  # fmt: skip
        code, out, err = call(capsys, "verify", *arguments)
        assert (code, out) == (2, ""), arguments
        assert told in err
        assert err.count("\n") == 1


def test_a_run_without_claims_or_scores_says_so(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    (run_dir / "claims" / "own.yaml").unlink()
    assert "name a claim file" in call(capsys, "verify", run_dir)[2]
    for stage in (run_dir / "stages").glob("s-*"):
        (stage / "meta.json").unlink()
    assert "nothing is scored" in call(capsys, "verify", run_dir, "--claims", "review_2024")[2]


def test_no_torch_is_imported() -> None:
    modules = "harness.cli.verify, harness.verdicts.evidence, harness.verdicts.judge, harness.study.run"
    code = f"import sys, {modules}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
