"""What was missed in a published run is found in records and pages; what items say is left to them."""

from __future__ import annotations

import getpass
import json
import platform
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.core.traces import Traces, names_in, search, traces
from harness.errors import StoreError

NOTHING = Traces((), (), ())
ITEM = "List the files of /home/bob/music on the node pool of alice."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A published run, in outline."""
    stage = tmp_path / "stages" / "0"
    stage.mkdir(parents=True)
    write(tmp_path / "study.json", {"name": "toy", "note": "see https://example.org/home/bob"})
    write(stage / "meta.json", {"kind": "train", "files": {"alice.json": "0"}})
    pd.DataFrame({"curve": ["loss"], "value": [1.0]}).to_parquet(stage / "curves.parquet")
    pd.DataFrame({"output": [ITEM]}).to_parquet(stage / "samples.parquet")
    pd.DataFrame({"prompt": [ITEM]}).to_parquet(tmp_path / "texts.parquet")
    (stage / "corpus.jsonl").write_text(json.dumps({"text": ITEM}))
    (tmp_path / "report.html").write_text(f"<p>{ITEM}</p><a href='http://x.org/users/ann'>x</a>")
    return tmp_path


def write(path: Path, record: Any) -> None:
    path.write_text(json.dumps(record))


def test_items_may_speak_of_homes_and_names(folder: Path) -> None:
    search(folder, Traces(("/home/carol/",), ("5bce98f73f3e",), ("alice", "node", "pool")))


@pytest.mark.parametrize("place", ["/home/carol/x", "/nfs/users/carol", "-I/Users/carol/x", "C:\\Users\\carol\\x", "../home/carol/x"])
def test_anybodys_home_in_a_record_or_a_page_is_found(folder: Path, place: str) -> None:
    meta = folder / "stages" / "0" / "meta.json"
    kept = meta.read_text()
    write(meta, {"note": place})
    with pytest.raises(StoreError, match=r"meta\.json holds"):
        search(folder, NOTHING)
    meta.write_text(kept)
    pd.DataFrame({"curve": [place]}).to_parquet(folder / "stages" / "0" / "curves.parquet")
    with pytest.raises(StoreError, match=r"curves\.parquet holds"):
        search(folder, NOTHING)
    pd.DataFrame({"curve": ["loss"]}).to_parquet(folder / "stages" / "0" / "curves.parquet")
    (folder / "report.html").write_text(f"<p>{place}</p>")
    with pytest.raises(StoreError, match=r"report\.html holds"):
        search(folder, NOTHING)


def test_names_are_found_as_whole_words_of_records(folder: Path) -> None:
    left = Traces((), (), ("alice",))
    write(folder / "study.json", {"note": "malice of alice_2"})
    search(folder, left)
    write(folder / "study.json", {"note": "by alice@login1"})
    with pytest.raises(StoreError, match=r"study\.json holds 'alice'"):
        search(folder, left)


def test_folders_and_hashed_hosts_are_found_in_texts_too(folder: Path) -> None:
    (folder / "stages" / "0" / "corpus.jsonl").write_text("/srv/carol/run/x 5bce98f73f3e")
    for left in (Traces(("/srv/carol/run/",), (), ()), Traces((), ("5bce98f73f3e",), ())):
        with pytest.raises(StoreError, match=r"corpus\.jsonl holds"):
            search(folder, left)


def test_names_come_from_the_homes_in_records_and_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "login7.cluster.example")
    monkeypatch.setattr(getpass, "getuser", lambda: "carol")
    monkeypatch.setattr(Path, "home", lambda: Path("/u/carol77"))
    study = {
        "name": "toy",
        "student": {"model": "file:/home/alice/tiny"},
        "provenance": {"command": "selfteach run '/Users/bob smith/x.yaml'"},
    }
    metas = [{"notes": ["no file /nfs/users/dora/x; https://example.org/home/erin"]}]
    assert set(names_in(study, metas)) == {"login7.cluster.example", "login7", "carol", "carol77", "alice", "bob smith", "dora"}


def test_what_the_study_names_so_and_anybodys_account_are_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "pool")
    monkeypatch.setattr(getpass, "getuser", lambda: "sft")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ubuntu"))
    study = {"title": "The mark of Zorro", "pool": {"name": "mixed"}, "methods": [{"name": "sft", "config": {"owner": "ann", "base": 1}}]}
    metas = [{"kind": "train", "note": "/home/train/x /home/mark/x /home/base/x /home/ann/x"}]
    assert names_in(study, metas) == ("ann",)
    assert not [each for each in traces([], [], []).folders if "ubuntu" in each]
