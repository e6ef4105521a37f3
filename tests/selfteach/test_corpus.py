import dataclasses
import json
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset

from harness.core.corpus import COLUMNS
from harness.core.corpus_export import corpus_features
from harness.core.records import Constraint
from harness.errors import StoreError
from selfteach.corpus import Entry, LineageStep, Reward, as_dataset, manifest, read_corpus, write_corpus, write_manifest

HOSTILE = "<script>alert(1)</script>\u2028 line \x1b[31m \x00 😀 end\n"


def entry(**changes: object) -> Entry:
    kept = Entry(
        id="evolved-000001",
        seed_id="seed-1",
        parent_id="seed-1",
        lineage=(LineageStep("seed", "Write."), LineageStep("deepen", "Write more.")),
        operation="deepen",
        family="letters",
        instruction="Write more.",
        constraints=(Constraint("max_words", {"n": 5}),),
        response="More.",
        verified=True,
        verified_by="rule",
        kept=True,
        reject_reason=None,
        reward=Reward(1.0, 0.5, 0.75),
        samples=4,
        pass_rate=0.25,
        step=1,
        rejected_samples={"cut off": 2, "not verified": 1},
    )
    return dataclasses.replace(kept, **changes)


REJECTED = {"kept": False, "response": None, "verified": None, "samples": 0, "pass_rate": None, "reward": Reward(), "rejected_samples": {}}


def test_round_trip_survives_hostile_text(tmp_path: Path) -> None:
    entries = [entry(), entry(id="2", instruction=HOSTILE, response=HOSTILE), entry(id="3", **REJECTED, reject_reason="duplicate")]
    write_corpus(entries, tmp_path / "corpus.jsonl")
    assert read_corpus(tmp_path / "corpus.jsonl") == entries
    assert len((tmp_path / "corpus.jsonl").read_text().splitlines()) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


def test_rows_are_as_documented(tmp_path: Path) -> None:
    row = json.loads(json.dumps(entry().row()))
    assert row.keys() == set(COLUMNS)
    assert row["reward"] == {"validity": 1.0, "novelty": 0.5, "learnability": 0.75, "total": 0.375}
    assert row["lineage"][1] == {"operation": "deepen", "text": "Write more."}
    assert row["constraints"] == [{"kind": "max_words", "params": {"n": 5}}]


def test_rows_of_before_responses_were_counted_still_load(tmp_path: Path) -> None:
    row = entry().row()
    del row["rejected_samples"]
    (tmp_path / "corpus.jsonl").write_text(json.dumps(row))
    assert read_corpus(tmp_path / "corpus.jsonl") == [entry(rejected_samples={})]
    (tmp_path / "corpus.jsonl").write_text(json.dumps(row | {"rejected_samples": {"cut off": "many"}}))
    with pytest.raises(StoreError, match="rejected_samples"):
        read_corpus(tmp_path / "corpus.jsonl")


def test_a_lone_surrogate_from_an_endpoint_does_not_spoil_the_file(tmp_path: Path) -> None:
    lone = entry(instruction="a \ud800 b 😀", constraints=(Constraint("keyword", {"\udfff": ["\udc00"]}),))
    write_corpus([lone], tmp_path / "corpus.jsonl")
    (back,) = read_corpus(tmp_path / "corpus.jsonl")
    assert back.instruction == "a \ufffd b 😀"
    assert back.constraints == (Constraint("keyword", {"\ufffd": ["\ufffd"]}),)
    assert load(tmp_path / "corpus.jsonl", tmp_path)[0]["instruction"] == back.instruction


def load(path: Path, folder: Path, **options: object) -> Dataset:
    return load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "cache"), **options)


MIXED = [
    entry(**REJECTED, reject_reason="duplicate", verified_by=None, constraints=()),
    entry(id="2", **REJECTED, reject_reason="duplicate", verified_by=None, constraints=(Constraint("no_commas"),)),
    entry(
        id="3", constraints=(Constraint("a", {"n": 3}), Constraint("b", {"n": "three"}), Constraint("c", {"n": ["x"], "deep": {"y": 1}}))
    ),
]


def test_loads_with_datasets_whatever_the_parameters(tmp_path: Path) -> None:
    write_corpus(MIXED, tmp_path / "corpus.jsonl")
    loaded = load(tmp_path / "corpus.jsonl", tmp_path)
    assert loaded["kept"] == [False, False, True]
    assert loaded[2]["reward"]["total"] == 0.375
    assert loaded[2]["constraints"] == [{"kind": one.kind, "params": one.params} for one in MIXED[2].constraints]
    assert loaded[1]["constraints"] == [{"kind": "no_commas", "params": {}}]


def test_column_types_do_not_depend_on_the_rows(tmp_path: Path) -> None:
    for name, entries in (("nulls", MIXED[:1]), ("mixed", MIXED), ("none", [])):
        path = tmp_path / f"{name}.jsonl"
        write_corpus(entries, path)
        data = as_dataset(path)
        assert data.features == corpus_features()
        assert tuple(data.column_names) == COLUMNS
        assert data.to_list() == [json.loads(json.dumps(item.row())) for item in entries]
    assert load(tmp_path / "nulls.jsonl", tmp_path, features=corpus_features()).features == corpus_features()


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    write_corpus([entry()], path)
    for damage in ("{", '{"id": "x"}', "[]"):
        path.write_text(path.read_text().splitlines()[0] + "\n" + damage + "\n")
        with pytest.raises(StoreError, match=r"corpus\.jsonl:2: not a corpus row"):
            read_corpus(path)


def test_an_empty_corpus_is_one(tmp_path: Path) -> None:
    write_corpus([], tmp_path / "corpus.jsonl")
    assert read_corpus(tmp_path / "corpus.jsonl") == []
    assert manifest([])["mean_reward"] is None


def test_manifest_counts(tmp_path: Path) -> None:
    entries = [
        entry(),
        entry(id="2", **REJECTED, reject_reason="near duplicate: cosine 0.99"),
        entry(id="3", **REJECTED, reject_reason="near duplicate: ROUGE-L 0.80", operation="breadth"),
        entry(id="4", kept=False, response=None, verified=False, pass_rate=0.0, reject_reason="no verified response: 0 of 4"),
    ]
    counts = manifest(entries)
    assert (counts["entries"], counts["kept"], counts["answered"], counts["response_samples"]) == (4, 1, 2, 8)
    assert counts["rejected"] == {"near duplicate": 2, "no verified response": 1}
    assert counts["operations"] == {"breadth": 1, "deepen": 3}
    assert counts["rejected_by_operation"] == {"breadth": {"near duplicate": 1}, "deepen": {"near duplicate": 1, "no verified response": 1}}
    assert counts["verified_by"] == {"rule": 1}
    assert counts["mean_pass_rate"] == 0.125
    write_manifest(counts, tmp_path / "manifest.json")
    assert json.loads((tmp_path / "manifest.json").read_text()) == counts
