"""A published run says what the run said, without weights and without saying where it was made."""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from harness.core.publish import publish_run
from harness.core.published import TEXTS, left_out, original_files, weights_sha256
from harness.core.results import load_run
from harness.core.store import RunStore, file_sha256, sealed, write_json
from harness.errors import SpecError, StoreError
from tests.study.conftest import Workplace

FRAMES = ("samples", "ledger", "curves", "trials", "checkpoints", "checkpoint_samples")
FOUND = ("claim_id", "reading", "verdict", "effect", "interval", "p_value", "n_items")


def trained_stage(run_dir: Path) -> str:
    trials = load_run(run_dir).trials.set_index("trial_id")
    return str(trials.loc["toy_sft-1", "train_stage"])


def test_every_frame_is_what_it_was(published: Path, reference: Path) -> None:
    before, after = load_run(reference), load_run(published)
    for name in FRAMES:
        pd.testing.assert_frame_equal(getattr(after, name), getattr(before, name))
    assert after.corpora == before.corpora
    assert after.leaderboard == before.leaderboard
    assert [[verdict.get(key) for key in FOUND] for verdict in after.verdicts] == [
        [verdict.get(key) for key in FOUND] for verdict in before.verdicts
    ]


def test_weights_are_left_out_and_their_checksums_kept(published: Path, reference: Path) -> None:
    assert not [path for path in published.rglob("*") if path.suffix in (".safetensors", ".bin")]
    stage = trained_stage(reference)
    adapter = RunStore(reference).folder(stage) / "model" / "adapter_model.safetensors"
    meta = RunStore(published).meta(stage)
    assert weights_sha256(meta) == file_sha256(adapter) == weights_sha256(RunStore(reference).meta(stage))
    assert "model/adapter_model.safetensors" in left_out(meta)
    assert original_files(meta) == RunStore(reference).meta(stage)["files"]
    assert meta["published"]["checksum"] == RunStore(reference).meta(stage)["checksum"]
    assert left_out(RunStore(reference).meta(stage)) == {}


def test_a_run_brought_without_its_weights_publishes_the_same(published: Path, reference: Path, workplace: Workplace) -> None:
    shutil.copytree(reference, workplace.run_dir)
    model = RunStore(workplace.run_dir).folder(trained_stage(reference)) / "model"
    adapter = (model / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(model)
    out = workplace.root / "out"
    publish_run(workplace.run_dir, out, partial=False, conclude=lambda folder: None)
    for stage in RunStore(published).all_finished():
        assert RunStore(out).meta(stage) == RunStore(published).meta(stage)
    # Weights that are there must be those, and a record that was changed is told before it is read.
    model.mkdir()
    (model / "adapter_model.safetensors").write_bytes(adapter[:-1])
    with pytest.raises(StoreError, match=r"adapter_model\.safetensors does not match its checksum"):
        publish_run(workplace.run_dir, workplace.root / "other", partial=False, conclude=lambda folder: None)
    shutil.rmtree(model)
    record = model.parent / "meta.json"
    record.write_text(json.dumps({key: value for key, value in json.loads(record.read_text()).items() if key != "files"}))
    with pytest.raises(StoreError):
        publish_run(workplace.run_dir, workplace.root / "other", partial=False, conclude=lambda folder: None)


def test_each_text_is_kept_once(published: Path) -> None:
    texts = pd.read_parquet(published / TEXTS)
    assert not texts.duplicated().any()
    assert len(texts) == load_run(published).samples[["prompt", "target"]].drop_duplicates().shape[0]


def test_nothing_says_where_it_was_made(published: Path, reference: Path, tiny_model: Path) -> None:
    hosts = {RunStore(reference).meta(trained_stage(reference))["host"], platform.node()}
    for path in (path for path in published.rglob("*") if path.is_file()):
        text = path.read_bytes() if path.suffix != ".parquet" else pd.read_parquet(path).to_csv().encode()
        for trace in (*hosts, str(tiny_model), str(reference), str(published.parent), f"/home/{getpass.getuser()}"):
            if len(trace) < 4:  # a host called "vm"
                continue
            assert trace.encode() not in text, (path, trace)
    assert json.loads((published / "study.json").read_text())["student"]["model"] == f"file:{tiny_model.name}"


def test_the_seal_holds_and_every_change_breaks_it(published: Path) -> None:
    store, stage = RunStore(published), trained_stage(published)
    scored = str(load_run(published).trials.set_index("trial_id").loc["toy_sft-1", "score_stage"])
    for path in (published / "stages").iterdir():
        store.verify(path.name)
    (store.folder(stage) / "model").mkdir()
    (store.folder(stage) / "model" / "adapter_model.safetensors").write_bytes(b"other weights")
    with pytest.raises(StoreError, match="adapter_model"):
        store.verify(stage)
    texts = pd.read_parquet(published / TEXTS)
    texts.assign(target="x").to_parquet(published / TEXTS, index=False)
    with pytest.raises(StoreError, match=TEXTS):
        store.verify(scored)


def test_commands_read_it_as_they_read_a_run(published: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(path.relative_to(published) for path in published.rglob("*"))
    page = (published / "report.html").read_text()
    assert workplace.main("report", published) == 0
    assert (published / "report.html").read_text() == page
    for leftover in ("lock", "progress", "logs", "stages/failed"):
        assert leftover in (published / ".gitignore").read_text()
    kept = sorted(path.relative_to(published) for path in published.rglob("*") if path.name not in ("lock", "progress", "logs", "failed"))
    assert kept == files
    assert workplace.main("compare", published, "--models", "toy_sft,toy_base") == 0
    assert workplace.main("corpus", "show", published, "--trial", "toy_sft-0") == 0
    assert workplace.main("status", published) == 0
    assert "6 of 6 stages finished" in capsys.readouterr().out


def test_the_command_says_what_it_wrote(reference: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert workplace.main("publish", reference, "--out", "results/toy", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    files = [path for path in (workplace.root / "results" / "toy").rglob("*") if path.is_file()]
    assert (told["stages"], told["files"], told["size_bytes"]) == (6, len(files), sum(path.stat().st_size for path in files))
    assert workplace.main("publish", reference, "--out", "results/toy") == SpecError.exit_code


def test_training_into_a_published_run_and_exporting_from_it_are_refused(
    published: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert workplace.main("run", workplace.write(), "--out", published) == StoreError.exit_code
    assert "published without weights" in capsys.readouterr().err
    assert workplace.main("export", published, "toy_sft-1", "--out", "exported") == SpecError.exit_code
    assert "published without weights" in capsys.readouterr().err


def test_a_run_is_published_whole_once_and_undamaged(reference: Path, workplace: Workplace) -> None:
    def never(folder: Path) -> None:
        raise AssertionError("judged")

    shutil.copytree(reference, workplace.run_dir)
    out = workplace.root / "out"
    out.mkdir()
    with pytest.raises(SpecError, match="does not exist yet"):
        publish_run(workplace.run_dir, out, partial=False, conclude=never)
    out.rmdir()
    store = RunStore(workplace.run_dir)
    scored = str(load_run(reference).trials.set_index("trial_id").loc["toy_sft-1", "score_stage"])
    (store.folder(scored) / "ledger.parquet").write_bytes(b"")
    with pytest.raises(StoreError):
        publish_run(workplace.run_dir, out, partial=False, conclude=never)
    store.discard(scored)
    with pytest.raises(SpecError, match="1 of 6 stages are missing"):
        publish_run(workplace.run_dir, out, partial=False, conclude=never)
    assert not out.exists()
    found = publish_run(workplace.run_dir, out, partial=True, conclude=lambda folder: None)
    assert (found.stages, found.missing) == (5, 1)
    assert not json.loads((out / "study.json").read_text())["provenance"]["published"]["finished"]
    with pytest.raises(SpecError, match="published already"):
        publish_run(out, workplace.root / "again", partial=True, conclude=never)
    assert not [path for path in workplace.root.iterdir() if path.name.startswith(".out")]


def test_what_a_killed_process_left_is_removed_and_the_run_is_no_place_for_it(reference: Path, workplace: Workplace) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead, mine = (workplace.root / f".pub-{pid}-abc" for pid in (ended.pid, os.getpid()))
    for folder in (dead, mine):
        folder.mkdir()
    publish_run(reference, workplace.root / "pub", partial=False, conclude=lambda folder: None)
    assert (dead.exists(), mine.exists()) == (False, True)
    with pytest.raises(SpecError, match="--out: expected a folder outside the run"):
        publish_run(reference, reference / "pub", partial=False, conclude=lambda folder: None)
    with pytest.raises(SpecError, match="--out: cannot be a folder: File name too long"):
        publish_run(reference, workplace.root / ("a" * 300), partial=False, conclude=lambda folder: None)


def test_a_trace_that_is_left_stops_publishing(reference: Path, workplace: Workplace) -> None:
    def leaves_a_trace(folder: Path) -> None:
        (folder / "report.html").write_text(f"<p>{workplace.root}/results/here</p>")

    with pytest.raises(StoreError, match=r"report\.html holds"):
        publish_run(reference, workplace.root / "out", partial=False, conclude=leaves_a_trace)
    assert not (workplace.root / "out").exists()


def test_a_run_of_other_machines_and_people_says_nothing_of_them(
    reference: Path, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from Slurm nodes: other users' and disks' paths in records; and a machine here whose short name is in every item."""
    monkeypatch.setattr(platform, "node", lambda: "what")
    shutil.copytree(reference, workplace.run_dir)
    store, stage = RunStore(workplace.run_dir), trained_stage(reference)
    study = store.study()
    study["provenance"]["command"] = "selfteach run '/gscratch/lab/alice kent/x.yaml'"
    study["notes"] = ["by akent from /home/akent and /lustre01/akent/x", r"\\srv\share\akent\y"]
    study["methods"][0]["config"] = {"host": "annotators.example.org", "/storage/akent/z": 1, "owner": "akent"}
    write_json(workplace.run_dir / "study.json", study)
    meta = store.meta(stage)
    kept = {key: value for key, value in meta.items() if key != "checksum"}
    ledger = store.folder(stage) / "ledger.parquet"
    pd.read_parquet(ledger).assign(model="/nfs/home/akent/tiny").to_parquet(ledger, index=False)
    kept["files"][ledger.name] = file_sha256(ledger)
    write_json(store.folder(stage) / "meta.json", sealed(kept | {"notes": ["/nfs/home/akent/models: gone; ask akent"]}))
    out = workplace.root / "out"
    publish_run(workplace.run_dir, out, partial=False, conclude=lambda folder: None)
    published = json.loads((out / "study.json").read_text())
    assert published["provenance"]["command"] == "selfteach run <path>/x.yaml"
    assert "host" not in published["provenance"]["machine"]
    assert published["notes"] == ["by <name> from <path> and <path>/x", "<path>/y"]
    assert published["methods"][0]["config"] == {"host": "annotators.example.org", "<path>/z": 1, "owner": "<name>"}
    assert set(pd.read_parquet(out / "stages" / stage / "ledger.parquet")["model"]) == {"<path>/tiny"}
    about = RunStore(out).meta(stage)
    assert about["notes"] == ["<path>/models: gone; ask <name>"]
    assert "host" not in about
    pd.testing.assert_frame_equal(load_run(out).samples, load_run(reference).samples)


def test_a_home_that_is_left_stops_publishing(reference: Path, workplace: Workplace) -> None:
    def leaves_a_trace(folder: Path) -> None:
        (folder / "report.html").write_text("<p>/nfs/home/somebody/results</p>")

    with pytest.raises(StoreError, match=r"report\.html holds '/home/somebody'"):
        publish_run(reference, workplace.root / "out", partial=False, conclude=leaves_a_trace)
