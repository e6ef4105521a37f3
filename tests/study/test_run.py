"""Studies from file to report on a tiny model: repeated, interrupted, damaged, failing."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest

from harness.core.results import RunResults, load_run
from harness.core.store import RunStore
from harness.errors import StageFailed, StoreError
from harness.study.run import RunSummary
from tests.study.conftest import Workplace, alive, wait_until

COMPARED = ["method", "seed", "task", "perturbation", "sample_id", "metric", "value", "output"]


def scores(results: RunResults) -> pd.DataFrame:
    return results.samples[COMPARED].sort_values(COMPARED[:6]).reset_index(drop=True)


def events(run_dir: Path, kind: str) -> list[dict[str, object]]:
    return [event for event in RunStore(run_dir).journal.events() if event["event"] == kind]


def assert_same_results(run_dir: Path, reference: Path) -> None:
    mine, theirs = load_run(run_dir), load_run(reference)
    pd.testing.assert_frame_equal(scores(mine), scores(theirs))
    for column in ("train_flops", "demonstrations", "status"):
        assert list(mine.trials[column]) == list(theirs.trials[column])
    losses = [frame.curves[["method", "seed", "step", "value"]].reset_index(drop=True) for frame in (mine, theirs)]
    pd.testing.assert_frame_equal(losses[0], losses[1])


def copy_run(reference: Path, workplace: Workplace) -> None:
    shutil.copytree(reference, workplace.run_dir)


def test_a_finished_run_reads_as_tidy_frames(reference: Path) -> None:
    results = load_run(reference)
    trials = results.trials.set_index(["method", "seed"])
    assert sorted(trials.index) == [("toy_base", 0), ("toy_base", 1), ("toy_sft", 0), ("toy_sft", 1)]
    assert set(trials["status"]) == {"finished"}
    assert trials.loc[("toy_base", 0), "train_stage"] == trials.loc[("toy_base", 1), "train_stage"], "base is computed once"
    assert (trials.loc["toy_base", "train_flops"] == 0).all()
    assert (trials.loc["toy_sft", "train_flops"] / 3e8).between(0.98, 1.0).all()
    assert list(trials.loc["toy_sft", "demonstrations"]) == [64, 64]
    assert (trials.loc["toy_sft", "cost_usd"] >= 64 * 1.5).all()
    # 24 items, clean and with typos, for each of two methods and two seeds; each item has its metric, its confidence and its Brier score
    items = results.samples.groupby("metric").apply(lambda rows: len(rows), include_groups=False)
    assert set(items) == {24 * 2 * 4}
    assert {"confidence", "brier"} < set(items.index)
    assert not results.samples.duplicated(["method", "seed", "perturbation", "sample_id", "metric"]).any()
    assert set(results.samples["perturbation"]) == {"clean", "typos"}
    by_trial = results.ledger[results.ledger["account"] == "train"].groupby(["method", "seed"])["flops"].sum()
    for key, flops in by_trial.items():
        assert flops == trials.loc[key, "train_flops"]
    assert results.corpora["toy_sft-0"][0]["instruction"] == "a line\u2028inside"
    assert results.study["tasks"]["toy_letters"]["chance"] == 0.5
    assert results.leaderboard["rows"]
    assert "<html" in (reference / "report.html").read_text()


def test_seeds_pair_methods_and_differ_from_each_other(reference: Path) -> None:
    results = load_run(reference)
    losses = results.curves[results.curves["curve"] == "loss"].groupby("seed")["value"].apply(list)
    assert losses[0] != losses[1]
    outputs = scores(results).set_index(["method", "seed"])
    base = [outputs.loc[("toy_base", seed), "value"].tolist() for seed in (0, 1)]
    assert base[0] == base[1]


def test_a_second_run_computes_nothing_and_says_the_same(workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_run(reference, workplace)
    before = (workplace.run_dir / "leaderboard.json").read_text()
    assert workplace.main("run", workplace.write()) == 0
    assert "all 6 stages are finished" in capsys.readouterr().out
    assert len(events(workplace.run_dir, "stage_started")) == 6
    assert (workplace.run_dir / "leaderboard.json").read_text() == before
    assert workplace.main("run", workplace.write(), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["computed"], printed["reused"]) == (0, 6)
    assert printed["results"]["leaderboard"] == json.loads(before)


@pytest.mark.parametrize("kind", ["TRAIN", "SCORE"])
def test_a_killed_run_takes_its_workers_along_and_continues_to_the_same_scores(workplace: Workplace, reference: Path, kind: str) -> None:
    study, gate = workplace.write(), workplace.root / "gate"
    gate.touch()
    driver = workplace.start("run", study, **{f"TOY_{kind}_WAIT": str(gate)})
    wait_until(Path(f"{gate}.there").exists)
    running = [json.loads(path.read_text()) for path in (workplace.run_dir / "progress").glob("*.json")]
    assert kind.lower() in {row["kind"] for row in running}
    code, output = workplace.selfteach("run", study)
    assert code == 4
    assert f"in use by another run (pid {driver.pid})" in output
    code, output = workplace.selfteach("status", "toy", "--json")
    state = json.loads(output)
    assert code == 0
    assert state["running_pid"] == driver.pid
    assert state["running"]

    driver.send_signal(signal.SIGKILL)
    driver.communicate(timeout=60)
    wait_until(lambda: not any(alive(row["pid"]) for row in running), seconds=5)
    assert list(RunStore(workplace.run_dir).stages.glob(".tmp-*")), "killed in the middle of a stage"
    gate.unlink()
    finished = {event["stage"] for event in events(workplace.run_dir, "stage_finished")}
    assert workplace.main("run", study) == 0
    again = [event["stage"] for event in events(workplace.run_dir, "stage_finished")]
    assert all(again.count(stage) == 1 for stage in finished), "what was finished is not done again"
    assert not list(RunStore(workplace.run_dir).stages.glob(".tmp-*"))
    assert_same_results(workplace.run_dir, reference)


def test_ctrl_c_stops_everything_with_one_message(workplace: Workplace) -> None:
    study, gate = workplace.write(), workplace.root / "gate"
    gate.touch()
    driver = workplace.start("run", study, TOY_TRAIN_WAIT=str(gate))
    wait_until(Path(f"{gate}.there").exists)
    pids = [json.loads(path.read_text())["pid"] for path in (workplace.run_dir / "progress").glob("*.json")]
    os.killpg(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "continue with the same command" in output
    assert "Traceback" not in output
    wait_until(lambda: not any(map(alive, pids)), seconds=5)
    assert not list(RunStore(workplace.run_dir).stages.glob(".tmp-*"))


def test_failures_stay_with_their_stage(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    once, ever = workplace.root / "once", workplace.root / "ever"
    once.write_text("1")
    ever.write_text("9")
    methods = [
        {"name": "toy_base"},
        {"name": "toy_sft", "variant": "raises", "config": {"fail": "[bold]no\x1b[2J such luck"}},
        {"name": "toy_sft", "variant": "idle", "config": {"idle": True}},
        {"name": "toy_sft", "variant": "killed-once", "config": {"kill_file": str(once)}},
        {"name": "toy_sft", "variant": "killed-always", "config": {"kill_file": str(ever)}},
    ]
    assert workplace.main("run", workplace.write(seeds=[0], methods=methods)) == 5
    printed = capsys.readouterr()
    assert "3 stage(s) failed" in printed.err
    assert "budget.train_flops: too small: toy_sft:idle could not afford a single step" in printed.err, (
        "it would pass for a trained student"
    )
    assert "RuntimeError: [bold]no" in printed.err, "messages are not markup"
    assert "\x1b" not in printed.err
    assert "killed by SIGKILL" in printed.err
    assert ever.read_text() == "7", "tried twice"
    trials = load_run(workplace.run_dir).trials.set_index("method")["status"].to_dict()
    assert trials == {
        "toy_base": "finished",
        "toy_sft:raises": "failed",
        "toy_sft:idle": "failed",
        "toy_sft:killed-once": "finished",
        "toy_sft:killed-always": "failed",
    }
    logs = [path.read_text() for path in (workplace.run_dir / "stages" / "failed").glob("*.log")]
    assert any("Traceback" in log and "such luck" in log for log in logs)
    assert (workplace.run_dir / "report.html").exists(), "the finished trials are reported"
    code, output = workplace.selfteach("status", "toy")
    assert code == 0
    assert "failed: train toy_sft:raises seed 0" in output


def test_a_damaged_stage_is_computed_again_with_a_notice(workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_run(reference, workplace)
    stage = load_run(reference).trials.set_index(["method", "seed"]).loc[("toy_sft", 1), "train_stage"]
    path = workplace.run_dir / "stages" / str(stage) / "model" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert workplace.main("run", workplace.write()) == 0
    printed = capsys.readouterr().out
    assert "train toy_sft seed 1 is computed again" in printed
    assert "does not match its checksum" in printed
    assert [event["stage"] for event in events(workplace.run_dir, "stage_finished")].count(stage) == 2
    assert len(events(workplace.run_dir, "stage_started")) == 7
    assert_same_results(workplace.run_dir, reference)


def test_damaged_conclusions_are_written_anew(workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_run(reference, workplace)
    (workplace.run_dir / "verdicts.json").write_text("[{")
    (workplace.run_dir / "leaderboard.json").write_text("")
    with pytest.raises(StoreError, match=r"verdicts.json is damaged"):
        load_run(workplace.run_dir)
    assert workplace.main("status", "toy") == 0, "how far a run is does not rest on what was concluded"
    assert workplace.main("report", "toy") == 0
    assert load_run(workplace.run_dir).leaderboard == load_run(reference).leaderboard


@pytest.mark.parametrize("text", ["[]", "{}", "{", '"x"'])
def test_damaged_records_are_one_message(workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    copy_run(reference, workplace)
    stage = str(load_run(reference).trials["train_stage"][0])
    (workplace.run_dir / "stages" / stage / "meta.json").write_text(text)
    assert workplace.main("report", "toy") == 4
    (workplace.run_dir / "study.json").write_text(text)
    assert workplace.main("report", "toy") == 4
    messages = capsys.readouterr().err.splitlines()
    assert len(messages) == 2
    assert "meta.json" in messages[0]
    assert "study.json is damaged" in messages[1]
    assert all("run the study again" in message for message in messages)


def test_what_a_killed_run_was_doing_is_not_running(workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_run(reference, workplace)
    row = {"stage": "x", "label": "toy_sft seed 0", "kind": "train", "unit": "FLOPs", "done": 1, "total": 2, "phase": "update", "pid": 1}
    (workplace.run_dir / "progress" / "x.json").write_text(json.dumps({**row, "started": 0, "t": 0}))
    assert workplace.main("status", "toy") == 0
    assert "running: " not in capsys.readouterr().out


def test_another_runs_damaged_journal_does_not_stop_this_one(workplace: Workplace, reference: Path) -> None:
    copy_run(reference, workplace)
    other = workplace.run_dir.parent / "other"
    other.mkdir()
    (other / "journal.jsonl").write_text('garbage\n{"event": "x"}\n')
    study = workplace.write()
    assert workplace.main("run", study, "--executor", "local") == 0
    record = json.loads((workplace.run_dir / "study.json").read_text())
    assert record["provenance"]["command"] == f"selfteach run {study} --executor local"


def test_stages_that_fail_in_the_same_words_are_told_together() -> None:
    summary = RunSummary(Path("r"), None, 0, 0, failed={"train a": "no network", "train b": "no network", "train c": "other"})
    with pytest.raises(StageFailed) as caught:
        summary.check()
    assert str(caught.value).count("no network") == 1
    assert "train a, train b: no network" in str(caught.value)


def test_a_student_that_is_no_model_is_told_with_its_key(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (workplace.root / "file", workplace.root / "folder"):
        place.mkdir() if place.name == "folder" else place.touch()
        assert workplace.main("run", workplace.write(student={"model": f"file:{place}"})) == 3
        message = capsys.readouterr().err
        assert message.startswith("selfteach: student.model: ")
        assert message.count("\n") == 1


def test_a_full_disk_stops_the_run_and_keeps_what_is_finished(
    workplace: Workplace, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_run(reference, workplace)
    methods = [{"name": "toy_base"}, {"name": "toy_sft", "config": {"disk_full": True}}]
    assert workplace.main("run", workplace.write(methods=methods)) == 4
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "is full; finished stages are untouched" in message
    store = RunStore(workplace.run_dir)
    for event in events(reference, "stage_finished"):
        store.verify(str(event["stage"]))
    assert not list(store.stages.glob(".tmp-*"))
